"""The writer crashes, restarts, is demoted: what was not in COMMIT is repeated, nothing is lost and nothing doubled."""

from collections.abc import Callable
from threading import Thread

import pytest
from resilience.outcomes import assert_exact, failures, handler, run_all
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from registration_persistence import Database, RegistrationRepository, deadline
from registration_persistence.errors import DatabaseUnavailable, WriterMoved
from registration_persistence.sandbox import LambdaProcess
from registration_persistence.testing import FailOver, Fault, RegistrationEnvironment, Restart, StartLambda


def under_load(
    lambda_process: StartLambda, seconds: float, **event: object
) -> tuple[list[LambdaProcess], Callable[[], list[dict[str, object]]]]:
    """Start four processes that sign people up, and return them with what waits for their results."""
    processes = [lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60) for _ in range(4)]
    for process in processes:
        process.wait_ready()
    for process in processes:
        process.start({"name": process.name, "seconds": seconds, "deadline": 10, **event})
    return processes, lambda: run_all(processes)


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_failover_loses_and_doubles_nothing(
    registration_environment: RegistrationEnvironment,
    lambda_process: StartLambda,
    fail_over: FailOver,
    *,
    idempotent: bool,
) -> None:
    """The primary is killed, the endpoint points to the standby after 3 s; only what was in COMMIT may be unknown."""
    registration_environment.cluster.add_standby()
    processes, results_of = under_load(lambda_process, 6, idempotent=idempotent)
    fail_over(switch_after=3)
    results = results_of()

    assert [] == [failure for result in results for failure in result["failed"]]  # type: ignore[attr-defined]  # the result was JSON
    assert_exact(registration_environment, results)
    if idempotent:
        assert [] == failures(results)
    else:
        unknown = failures(results)
        assert len(unknown) <= len(processes), "one request of each process can have been in COMMIT"
        for process, result in zip(processes, results, strict=True):
            if result["unknown"]:
                lambda_process(handler("replay")).invoke({"keys": result["unknown"]})
                result["kept"] = [*result["kept"], *result["unknown"]]  # type: ignore[misc]  # the result was JSON
            assert process.log.count("Traceback") == 0
        assert_exact(registration_environment, results)


def test_a_restart_fails_nothing(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, restart: Restart
) -> None:
    """A server that shuts down, is away, and says that it is starting up, is waited for."""
    _, results_of = under_load(lambda_process, 5, idempotent=True)
    restart(down_for=1.0)
    restart(down_for=0.0)
    results = results_of()

    assert [] == failures(results)
    assert_exact(registration_environment, results)


def test_a_demoted_writer_is_left(registration_environment: RegistrationEnvironment, read_only: Fault) -> None:
    """The write that meets it is refused; the next unit of work is on a new connection, once there is a writer."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="lambda"))
    with database.session() as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
    with read_only():
        with pytest.raises(WriterMoved) as raised, database.session() as session:
            assert first == session.scalar(text("SELECT pg_backend_pid()"))
            RegistrationRepository(session).register("ada@example.com")
        with pytest.raises(DatabaseUnavailable, match="session is read-only"), deadline(1):
            database.ping()

    assert raised.value.retryable
    with database.session() as session:
        assert first != session.scalar(text("SELECT pg_backend_pid()"))
        RegistrationRepository(session).register("ada@example.com")
    assert database.events.count("connection_opened", "writer_moved") == 1
    database.dispose()


def test_a_pool_leaves_a_demoted_writer_as_a_whole(
    registration_environment: RegistrationEnvironment, read_only: Fault
) -> None:
    """What one connection has met is true for all of them."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="service", APP_DATABASE_POOL_SIZE="2"))

    def backends() -> set[int]:
        with database.session() as first, database.session() as second:
            return {session.scalar(text("SELECT pg_backend_pid()")) or 0 for session in (first, second)}

    before = backends()
    with read_only(), pytest.raises(WriterMoved), database.session() as session:
        RegistrationRepository(session).register("ada@example.com")

    assert not before & backends()
    database.dispose()


def test_run_waits_for_the_new_writer(registration_environment: RegistrationEnvironment, read_only: Fault) -> None:
    """The work is repeated on another connection, as soon as there is one that writes."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="lambda"))
    database.ping()
    backends = []

    def work(session: Session) -> None:
        backends.append(session.scalar(text("SELECT pg_backend_pid()")))
        RegistrationRepository(session).register("ada@example.com")

    with read_only():
        running = Thread(target=database.run, args=(work,))
        running.start()
        while not database.events.count("wait", "not_ready"):
            assert running.is_alive()
    running.join()

    assert len(set(backends)) == 2
    assert database.events.count("retry", "writer_moved") == 1
    database.dispose()


def test_a_demoted_writer_is_seen_after_idling(
    registration_environment: RegistrationEnvironment,
    read_only: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The question after half a minute is whether the server is alive and still the writer."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="lambda"))
    database.ping()
    monkeypatch.setattr("registration_persistence.database.liveness._MAX_UNPROBED_IDLE_SECONDS", 0.0)
    with read_only(), pytest.raises(DatabaseUnavailable, match="session is read-only"), deadline(1):
        database.ping()

    assert database.ping().writable
    assert database.events.count("connection_opened", "writer_moved") == 1
    database.dispose()


def test_a_read_only_transaction_of_ones_own_is_left_alone(registration_environment: RegistrationEnvironment) -> None:
    """Writing in it is a mistake of the service, and its connection stays."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="lambda"))
    for options, statement in (({"read_only": True}, "SELECT 1"), ({}, "SET TRANSACTION READ ONLY")):
        with (
            pytest.raises(InternalError, match="read-only transaction"),
            database.session(**options) as session,
        ):
            session.execute(text(statement))
            RegistrationRepository(session).register("ada@example.com")
        assert database.ping().writable

    assert database.events.count("connection_opened") == 1
    database.dispose()
