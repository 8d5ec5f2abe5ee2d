"""The network swallows packets, or loses replies: every wait ends, and nobody is told what is not known."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread, Timer

import pytest
from resilience.outcomes import assert_exact, handler, rows_by_key, run_all
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Database, RegistrationRepository, deadline
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost, DatabaseUnavailable
from registration_persistence.testing import Fault, RegistrationEnvironment, StartLambda

# Seconds that a test of this page may take where a wait that has no end would hang it.
BOUND = 15.0


@pytest.fixture
def database(registration_environment: RegistrationEnvironment) -> Iterator[Database]:
    """What a Lambda has, with a short statement timeout, and its connection open."""
    made = Database(
        registration_environment.settings(
            APP_DATABASE_POOL="lambda",
            APP_DATABASE_STATEMENT_TIMEOUT="2",
            # The server holds the locks of a client that vanished for as long.
            APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT="1",
        )
    )
    made.ping()
    yield made
    made.dispose()


@contextmanager
def after(seconds: float, fault: Fault) -> Iterator[None]:
    """Cause *fault* in the middle of what the block does, until it has ended."""
    over = Event()

    def cause() -> None:
        time.sleep(seconds)
        with fault():
            over.wait(60)

    thread = Thread(target=cause)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def measured(longest: float) -> Iterator[None]:
    """Fail where the block takes longer than this many seconds."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < longest


def sign_up(session: Session) -> None:
    """Register Ada, once."""
    RegistrationRepository(session).register("ada@example.com", idempotency_key="ada")


@pytest.mark.parametrize("seconds", [3.0, 29.0])
def test_a_statement_that_had_arrived(database: Database, drop_packets: Fault, seconds: float) -> None:
    """TCP misses nothing then: the deadline ends the wait, or before it the silence beyond the statement timeout."""
    with (
        measured(min(seconds, BOUND)),
        after(0.3, drop_packets),
        pytest.raises(ConnectionLost) as raised,
        deadline(seconds),
        database.session() as session,
    ):
        session.execute(text("SELECT pg_sleep(1)"))

    assert raised.value.retryable
    assert database.ping().writable


@pytest.mark.parametrize("seconds", [3.0, 29.0])
def test_a_statement_that_does_not_arrive(database: Database, drop_packets: Fault, seconds: float) -> None:
    """What was sent stays unacknowledged; the next request, when the network is back, is on another connection."""
    with (
        measured(min(seconds, BOUND)),
        ExitStack() as network,
        pytest.raises(ConnectionLost),
        deadline(seconds),
        database.session() as session,
    ):
        session.execute(text("SELECT 1"))
        network.enter_context(drop_packets())
        session.execute(text("SELECT 2"))

    assert database.ping().writable
    assert database.events.count("connection_opened", "lost") == 1


def test_in_autocommit_the_outcome_is_unknown(
    registration_environment: RegistrationEnvironment, database: Database, drop_packets: Fault
) -> None:
    """The one statement may have been kept; sending it again with its key gives one row."""
    with (
        measured(3),
        ExitStack() as network,
        pytest.raises(CommitOutcomeUnknown),
        deadline(3),
        database.session(autocommit=True) as session,
    ):
        session.execute(text("SELECT 1"))
        network.enter_context(drop_packets())
        sign_up(session)

    database.run(sign_up, idempotent=True)
    assert rows_by_key(registration_environment) == {"ada": 1}


@pytest.mark.parametrize("seconds", [3.0, 29.0])
def test_a_commit_that_does_not_arrive(
    registration_environment: RegistrationEnvironment,
    database: Database,
    drop_packets: Fault,
    seconds: float,
) -> None:
    """Its outcome counts as unknown, is not repeated, and the replay with the key gives one row."""
    with (
        measured(min(seconds, BOUND)),
        ExitStack() as network,
        pytest.raises(CommitOutcomeUnknown) as raised,
        deadline(seconds),
    ):

        def work(session: Session) -> None:
            sign_up(session)
            network.enter_context(drop_packets())

        database.run(work)

    assert not raised.value.retryable
    assert database.events.count("retry") == 0
    database.run(sign_up, idempotent=True)
    assert rows_by_key(registration_environment) == {"ada": 1}


def test_a_commit_whose_answer_is_lost(
    registration_environment: RegistrationEnvironment, database: Database, drop_packets: Fault
) -> None:
    """The server has kept it, the client cannot know, and the replay finds it."""
    with registration_environment.connect() as connection:
        connection.execute(
            "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON registrations"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()"
        )
    with (
        measured(3),
        pytest.raises(CommitOutcomeUnknown),
        deadline(3),
        after(0.5, drop_packets),
        database.session() as session,
    ):
        sign_up(session)

    assert rows_by_key(registration_environment) == {"ada": 1}, "the server did not keep it"
    database.run(sign_up, idempotent=True)
    assert rows_by_key(registration_environment) == {"ada": 1}


def test_connecting(database: Database, drop_packets: Fault) -> None:
    """A host that swallows everything is given up at the deadline, as something to try again."""
    database.dispose()
    with measured(3), drop_packets(), pytest.raises(DatabaseUnavailable) as raised, deadline(3):
        database.ping()

    assert raised.value.retryable
    assert database.ping().writable


def test_a_connection_that_idled_on_a_dead_network(
    database: Database, drop_packets: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question after idling has a second to be answered, then the connection is replaced."""
    monkeypatch.setattr("registration_persistence.database.liveness._MAX_UNPROBED_IDLE_SECONDS", 0.0)
    with after(0.0, drop_packets):
        time.sleep(0.3)
        with measured(4), pytest.raises(DatabaseUnavailable), deadline(4):
            database.ping()

    assert database.ping().writable
    assert database.events.count("connection_opened", "thaw") == 1


def test_the_question_is_not_awaited_for_long(
    database: Database, drop_packets: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is away for two seconds costs the connection, which might have answered then, and no request."""
    monkeypatch.setattr("registration_persistence.database.liveness._MAX_UNPROBED_IDLE_SECONDS", 0.0)
    with ExitStack() as network, deadline(20):
        network.enter_context(drop_packets())
        back = Timer(2.0, network.close)
        back.start()
        assert database.ping().writable
        back.join()

    assert database.events.count("connection_opened", "thaw") == 1


def test_replies_that_are_lost_double_nothing(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """Of all replies 4 % are lost after the request went through: what fails is unknown, and only in COMMIT."""
    processes = [lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60) for _ in range(4)]
    for process in processes:
        process.wait_ready()
    with registration_environment.cluster.endpoint.lose_replies(0.04, seed=4):
        for process in processes:
            process.start({"name": process.name, "seconds": 5, "deadline": 10, "attempts": 10})
        results = run_all(processes)

    assert registration_environment.cluster.endpoint.lost > 20
    assert [] == [failure for result in results for failure in result["failed"]]
    assert any(result["unknown"] for result in results), "no COMMIT was hit"
    assert_exact(registration_environment, results)
    for result in results:
        lambda_process(handler("replay")).invoke({"keys": result["unknown"]})
        result["kept"] += result["unknown"]
    assert_exact(registration_environment, results)
