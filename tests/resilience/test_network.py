"""The network drops packets or loses replies: every wait ends, and unknown outcomes are reported as unknown."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Timer

import pytest
from resilience.outcomes import assert_exact, failures, handler, rows_by_key, run_all
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Database, RegistrationRepository, deadline
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost, DatabaseUnavailable
from registration_persistence.testing import Fault, RegistrationEnvironment, StartLambda

MAX_TEST_SECONDS = 15.0


@pytest.fixture
def database(registration_environment: RegistrationEnvironment) -> Iterator[Database]:
    """The database of a Lambda, with a short statement timeout and an open connection."""
    database = Database(
        registration_environment.settings(
            APP_DATABASE_POOL="lambda",
            APP_DATABASE_STATEMENT_TIMEOUT="2",
            # The server keeps the locks of a disappeared client for this long.
            APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT="1",
        )
    )
    database.ping()
    yield database
    database.dispose()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer than *seconds*."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def sign_up(session: Session) -> None:
    """Register Ada, once."""
    RegistrationRepository(session).register("ada@example.com", idempotency_key="ada")


def register(key: str, session: Session) -> None:
    """Register a mailbox, once."""
    RegistrationRepository(session).register(f"{key}@example.com", idempotency_key=key)


@pytest.mark.parametrize("seconds", [3.0, 29.0])
def test_a_statement_whose_reply_is_dropped(database: Database, drop_packets: Fault, seconds: float) -> None:
    """TCP does not detect the loss: the wait ends at the deadline, or 2 s after the statement timeout."""
    with (
        ExitStack() as network,
        at_most(min(seconds, MAX_TEST_SECONDS)),
        pytest.raises(ConnectionLost) as raised,
        deadline(seconds),
        database.session() as session,
    ):
        session.execute(text("SELECT 1"))
        Timer(0.3, lambda: network.enter_context(drop_packets())).start()
        session.execute(text("SELECT pg_sleep(1.5)"))

    assert raised.value.retryable
    assert database.ping().writable


@pytest.mark.parametrize("seconds", [3.0, 29.0])
def test_a_statement_that_is_dropped(database: Database, drop_packets: Fault, seconds: float) -> None:
    """The statement stays unacknowledged; when the network works again, the next request uses another connection."""
    with (
        ExitStack() as network,
        at_most(min(seconds, MAX_TEST_SECONDS)),
        pytest.raises(ConnectionLost),
        deadline(seconds),
        database.session() as session,
    ):
        session.execute(text("SELECT 1"))
        network.enter_context(drop_packets())
        session.execute(text("SELECT 2"))

    assert database.ping().writable
    assert database.events.count("connection_opened", "lost") == 1


def test_a_dropped_statement_in_autocommit_has_an_unknown_outcome(
    registration_environment: RegistrationEnvironment, database: Database, drop_packets: Fault
) -> None:
    """The statement may have been kept; a replay with its key leaves one row."""
    with (
        ExitStack() as network,
        at_most(3),
        pytest.raises(CommitOutcomeUnknown),
        deadline(3),
        database.session(autocommit=True) as session,
    ):
        session.execute(text("SELECT 1"))
        network.enter_context(drop_packets())
        sign_up(session)

    database.run(sign_up, idempotent=True)
    assert rows_by_key(registration_environment) == {"ada": 1}


@pytest.mark.parametrize("seconds", [3.0, 9.0])
def test_a_commit_that_is_dropped(
    registration_environment: RegistrationEnvironment,
    database: Database,
    drop_packets: Fault,
    seconds: float,
) -> None:
    """The server cannot be asked until the deadline, so its outcome is unknown, and a replay leaves one row."""
    with (
        ExitStack() as network,
        at_most(seconds),
        pytest.raises(CommitOutcomeUnknown) as raised,
        deadline(seconds),
    ):

        def work(session: Session) -> None:
            sign_up(session)
            network.enter_context(drop_packets())

        database.run(work)

    assert not raised.value.retryable
    assert database.events.count("retry") == 0
    assert raised.value.resolve() is False
    database.run(sign_up, idempotent=True)
    assert rows_by_key(registration_environment) == {"ada": 1}


def test_a_commit_whose_reply_is_dropped(
    registration_environment: RegistrationEnvironment, database: Database, drop_packets: Fault
) -> None:
    """The server has kept the row; nobody can ask it before the deadline, and its evidence is found later."""
    with registration_environment.connect() as connection:
        connection.execute(
            "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON registrations"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()"
        )
    with (
        ExitStack() as network,
        at_most(4),
        pytest.raises(CommitOutcomeUnknown) as raised,
        deadline(4),
        database.session() as session,
    ):
        sign_up(session)
        Timer(0.5, lambda: network.enter_context(drop_packets())).start()

    assert raised.value.resolve() is True
    assert rows_by_key(registration_environment) == {"ada": 1}, "the server did not keep it"
    database.run(sign_up, idempotent=True)
    assert rows_by_key(registration_environment) == {"ada": 1}


def test_connecting_while_packets_are_dropped(database: Database, drop_packets: Fault) -> None:
    """The attempt ends at the deadline with a retryable error."""
    database.dispose()
    unreachable = "timeout expired before the server accepted the connection"
    with drop_packets(), at_most(3), pytest.raises(DatabaseUnavailable, match=unreachable) as raised, deadline(3):
        database.ping()

    assert raised.value.retryable
    assert database.ping().writable


def test_an_idle_connection_while_packets_are_dropped(
    database: Database, drop_packets: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe of an idle connection ends after a second, and the connection is replaced."""
    monkeypatch.setattr("registration_persistence.database.liveness._MAX_UNPROBED_IDLE_SECONDS", 0.0)
    with drop_packets(), at_most(4), pytest.raises(DatabaseUnavailable), deadline(4):
        database.ping()

    assert database.ping().writable
    assert database.events.count("connection_opened", "failover") == 1


def test_the_probe_of_an_idle_connection_is_short(
    database: Database, drop_packets: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption of two seconds costs the connection, which could have recovered, but no request."""
    monkeypatch.setattr("registration_persistence.database.liveness._MAX_UNPROBED_IDLE_SECONDS", 0.0)
    with ExitStack() as network, deadline(20):
        network.enter_context(drop_packets())
        recovery = Timer(2.0, network.close)
        recovery.start()
        assert database.ping().writable
        recovery.join()

    assert database.events.count("connection_opened", "thaw") == 1


def test_work_is_repeated_as_long_as_there_is_time(registration_environment: RegistrationEnvironment) -> None:
    """A third of the replies is lost; after a lost COMMIT, evidence is looked for, and all other work is repeated."""
    env = registration_environment
    database = Database(env.settings(APP_DATABASE_POOL="lambda"))
    database.ping()
    with env.cluster.endpoint.lose_replies(0.33, seed=33):
        for number in range(24):
            with deadline(30):
                database.run(partial(register, f"person-{number}"), idempotent=True)

    assert database.events.count("retry") + database.events.count("commit_resolved") > 8
    assert rows_by_key(env) == {f"person-{number}": 1 for number in range(24)}
    database.dispose()


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("units", [400, pytest.param(5000, marks=pytest.mark.nightly)])
def test_lost_replies_fail_and_duplicate_nothing(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, units: int, *, autocommit: bool
) -> None:
    """4 % of the replies are lost after the request was executed, and no unit fails, although none is idempotent."""
    endpoint = registration_environment.cluster.endpoint
    lost_before = endpoint.lost_replies
    processes = [lambda_process(handler("sign_ups"), environment={"WARM_UP": "1"}, timeout=300) for _ in range(4)]
    for process in processes:
        process.wait_ready()
    with endpoint.lose_replies(0.04, seed=4):
        for process in processes:
            process.start({"name": process.name, "units": units // 4, "autocommit": autocommit})
        results = run_all(processes)

    assert endpoint.lost_replies - lost_before > units * 0.03
    assert [] == failures(results)
    assert_exact(registration_environment, results)
    assert sum(len(result["kept"]) for result in results) == units == rows_by_key(registration_environment).total()
    kept = sum(result["events"].get("commit_resolved: kept", 0) for result in results)
    assert kept > 0, "no reply to a commit was lost"
