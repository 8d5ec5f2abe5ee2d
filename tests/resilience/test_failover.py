"""The writer crashes, restarts or is demoted: work without a COMMIT is repeated, and nothing is lost or duplicated."""

import socket
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from resilience.outcomes import assert_exact, failures, handler, run_all
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from registration_persistence import Database, DatabaseSettings, RegistrationRepository, deadline
from registration_persistence.errors import DatabaseUnavailable, WriterMoved
from registration_persistence.sandbox import (
    LambdaProcess,
    LocalPostgres,
    embedded_binaries,
    system_binaries,
    wait_until,
)
from registration_persistence.testing import FailOver, Fault, RegistrationEnvironment, Restart, StartLambda


def under_load(
    lambda_process: StartLambda, seconds: float, **event: object
) -> tuple[list[LambdaProcess], Callable[[], list[dict[str, Any]]]]:
    """Start four processes that sign up mailboxes; return them, and a function that waits for their results."""
    processes = [lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60) for _ in range(4)]
    for process in processes:
        process.wait_ready()
    for process in processes:
        process.start({"name": process.name, "seconds": seconds, "deadline": 10, **event})
    return processes, lambda: run_all(processes)


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_failover_loses_and_duplicates_nothing(
    registration_environment: RegistrationEnvironment,
    lambda_process: StartLambda,
    fail_over: FailOver,
    *,
    idempotent: bool,
) -> None:
    """The primary crashes, and the endpoint moves after 3 s; only requests in COMMIT may have an unknown outcome."""
    registration_environment.cluster.add_standby()
    processes, results_of = under_load(lambda_process, 6, idempotent=idempotent)
    fail_over(switch_after=3)
    results = results_of()

    assert [] == [failure for result in results for failure in result["failed"]]
    assert_exact(registration_environment, results)
    events = [event for result in results for event in result["events"]]
    assert "connection_opened: failover" in events
    assert "connection_opened: thaw" not in events
    if idempotent:
        assert [] == failures(results)
    else:
        unknown = failures(results)
        assert len(unknown) <= len(processes), "only one request of each process was in COMMIT"
        for process, result in zip(processes, results, strict=True):
            if result["unknown"]:
                lambda_process(handler("replay")).invoke({"keys": result["unknown"]})
                result["kept"] = [*result["kept"], *result["unknown"]]
            assert process.log.count("Traceback") == 0
        assert_exact(registration_environment, results)


def test_a_restart_fails_nothing(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, restart: Restart
) -> None:
    """Requests wait for a server that shuts down, is stopped, and starts up."""
    _, results_of = under_load(lambda_process, 5, idempotent=True)
    restart(down_for=1.0)
    restart(down_for=0.0)
    results = results_of()

    assert [] == failures(results)
    assert_exact(registration_environment, results)


def test_a_connection_to_a_demoted_writer_is_replaced(
    registration_environment: RegistrationEnvironment, read_only: Fault
) -> None:
    """The first write fails; the next unit of work uses a new connection, as soon as the server accepts writes."""
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


def test_a_pool_replaces_every_connection_to_a_demoted_writer(
    registration_environment: RegistrationEnvironment, read_only: Fault
) -> None:
    """After one connection has found a demoted writer, the others are replaced, too."""
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
    """The work is repeated on another connection, as soon as the server accepts writes."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="lambda"))
    database.ping()
    backends = []
    waits: list[float] = []
    database.events.subscribe(lambda event: waits.append(event.seconds) if event.cause == "not_ready" else None)

    def work(session: Session) -> None:
        backends.append(session.scalar(text("SELECT pg_backend_pid()")))
        RegistrationRepository(session).register("ada@example.com")

    with read_only():
        running = Thread(target=database.run, args=(work,))
        running.start()
        wait_until(lambda: database.events.count("wait", "not_ready"), "the database waits for a writer")
        assert running.is_alive()
    running.join()

    assert len(set(backends)) == 2
    assert database.events.count("retry", "writer_moved") == 1
    assert database.events.count("connection_opened", "writer_moved") == 1
    assert all(wait <= 0.06 for wait in waits[:3]), "a server that is read-only was asked too late"
    database.dispose()


def test_a_server_at_another_address_is_a_failover(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process idles during the failover, no attempt to connect fails, but the name has another address then."""
    found: list[str] = []

    def resolve(*_arguments: object, **_options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    settings = {"listen_addresses": "127.0.0.1,127.0.0.2,127.0.0.3"}
    with LocalPostgres(system_binaries() or embedded_binaries(), settings=settings) as server:
        server.server.create_login("app", "secret")
        database = Database(
            DatabaseSettings(
                environment="test",
                host="writer.test",
                port=server.server.port,
                name="postgres",
                user="app",
                password="secret",
                sslmode="prefer",
                pool="lambda",
            )
        )
        causes = []
        database.events.subscribe(lambda event: causes.append(event.cause))
        monkeypatch.setattr("socket.getaddrinfo", resolve)
        with server.server.connect() as connection:
            for addresses in (["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.3"]):
                connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'")
                found[:] = addresses
                assert database.ping().writable
        database.dispose()

    assert causes == ["cold", "thaw", "thaw", "failover"]


def test_a_demoted_writer_is_detected_after_idling(
    registration_environment: RegistrationEnvironment,
    read_only: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The probe of an idle connection checks that the server is alive and still the writer."""
    database = Database(registration_environment.settings(APP_DATABASE_POOL="lambda"))
    database.ping()
    monkeypatch.setattr("registration_persistence.database.liveness._MAX_UNPROBED_IDLE_SECONDS", 0.0)
    with read_only(), pytest.raises(DatabaseUnavailable, match="session is read-only"), deadline(1):
        database.ping()

    assert database.ping().writable
    assert database.events.count("connection_opened", "writer_moved") == 1
    database.dispose()


def test_a_write_in_a_read_only_transaction_is_no_demotion(registration_environment: RegistrationEnvironment) -> None:
    """It is a mistake of the service, and the connection stays open."""
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
