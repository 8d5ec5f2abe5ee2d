"""The server starts up, is full, has messages in another language, or ends sessions at any moment."""

import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from resilience.outcomes import assert_exact, failures, handler, run_all
from server_versions import system_programs
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError, deadline
from registration_persistence.database.connection_parameters import connection_parameters
from registration_persistence.database.login import Login, LoginFailed
from registration_persistence.errors import (
    ConnectionRejected,
    CredentialsRejected,
    DatabaseUnavailable,
    TooManyConnections,
    TransactionConflict,
)
from registration_persistence.sandbox import InvocationFailed, LocalCluster, LocalPostgres, wait_until
from registration_persistence.testing import FillSlots, RegistrationEnvironment, StartLambda, skip_or_fail


@pytest.mark.parametrize(("count", "slots"), [(8, 3), pytest.param(20, 8, marks=pytest.mark.nightly)])
def test_many_processes_share_few_slots(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, count: int, slots: int
) -> None:
    """A process that finds no slot waits, and gets one before its deadline."""
    env = registration_environment
    with env.connect() as connection:
        connection.execute(f"ALTER DATABASE {env.name} CONNECTION LIMIT {slots}")
        connection.execute(f"ALTER DATABASE {env.name} SET idle_session_timeout = '1s'")
    processes = [lambda_process(handler("sign_up"), timeout=29) for _ in range(count)]
    for process in processes:
        process.wait_ready()
    for number, process in enumerate(processes):
        process.start({"key": f"person-{number}"})
    results = run_all(processes)

    assert sum(result["events"].get("wait: no_slot", 0) for result in results) > 0, "no process had to wait"
    with env.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (count,)


@pytest.mark.parametrize(("fault", "cause", "longest"), [("refused", "not_ready", 0.25), ("full", "no_slot", 0.3)])
def test_the_pauses_are_short_but_not_few(
    registration_environment: RegistrationEnvironment, fault: str, cause: str, longest: float
) -> None:
    """A server that is available again is noticed at once, and there is no storm of attempts meanwhile."""
    env = registration_environment
    database = Database(env.settings())
    waits: list[float] = []
    database.events.subscribe(lambda event: waits.append(event.seconds) if event.cause == cause else None)
    if fault == "refused":
        env.cluster.endpoint.stop_accepting()
    else:
        with env.connect() as connection:
            connection.execute(f"ALTER ROLE {env.username} CONNECTION LIMIT 0")
    try:
        started = time.monotonic()
        with pytest.raises((DatabaseUnavailable, TooManyConnections)), deadline(3, reserve=0):
            database.ping()
        seconds = time.monotonic() - started
    finally:
        env.cluster.endpoint.resume_accepting()
        with env.connect() as connection:
            connection.execute(f"ALTER ROLE {env.username} CONNECTION LIMIT -1")

    assert 1 < len(waits) < 24
    assert all(wait <= longest for wait in waits)
    assert seconds > 2.8, "time for another attempt was given away"
    assert database.ping().writable
    database.dispose()


def test_slots_that_stay_full_are_one_clear_error(lambda_process: StartLambda, fill_slots: FillSlots) -> None:
    """The error is retryable, and is raised before the invocation ends."""
    process = lambda_process(handler("sign_up"), timeout=3)
    process.wait_ready()
    with fill_slots(), pytest.raises(InvocationFailed) as raised:
        process.invoke({"key": "ada"})

    assert (raised.value.error_type, raised.value.retryable) == ("TooManyConnections", True)
    assert "slots are reserved" in raised.value.message
    assert raised.value.seconds < 3
    process.invoke({"key": "ada"})


def test_connecting_waits_for_a_server_that_is_starting_up(registration_environment: RegistrationEnvironment) -> None:
    """The server rejects connections with 57P03 until it is ready; then the connection is opened."""
    env = registration_environment
    database = Database(env.settings())
    database.ping()
    database.dispose()

    def has_waited() -> bool:
        database.dispose()
        assert database.ping().writable
        return database.events.count("wait", "not_ready") > 0

    restart = Thread(target=env.cluster.restart, kwargs={"down_for": 1.0})
    restart.start()
    wait_until(has_waited, "a connection had to wait for the server", timeout=30)
    restart.join()

    assert database.ping().writable
    database.dispose()


def test_work_that_idles_in_its_transaction_is_repeated(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """The server ends the session with 25P03; the work is repeated, and there is one row."""
    environment = {"APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT": "0.3"}
    process = lambda_process(handler("idle_in_a_transaction"), environment=environment)

    assert process.invoke({"key": "ada", "seconds": 0.9}) == {"attempts": 2}
    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (1,)


@pytest.mark.parametrize("idempotent", [True, False])
def test_sessions_may_be_terminated_at_any_moment(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, *, idempotent: bool
) -> None:
    """Work without a COMMIT is repeated, so nothing fails; without `idempotent`, only work in COMMIT is unknown."""
    env = registration_environment
    processes = [lambda_process(handler("load"), environment={"WARM_UP": "1"}, timeout=60) for _ in range(3)]
    for process in processes:
        process.wait_ready()
    for process in processes:
        process.start({"name": process.name, "seconds": 4, "deadline": 10, "idempotent": idempotent})
    end, terminated = time.monotonic() + 4, 0
    while time.monotonic() < end:
        terminated += env.cluster.terminate_sessions(env.username)
        time.sleep(0.03)
    results = run_all(processes)

    assert terminated > 20
    assert [] == [failure for result in results for failure in result["failed"]]
    if idempotent:
        assert [] == failures(results)
    assert_exact(env, results)


GERMAN = {"lc_messages": "de_DE.UTF-8"}


def german_binaries() -> Path:
    """Return the programs of the system's PostgreSQL, which has German messages."""
    binaries = system_programs()
    if binaries is None:
        skip_or_fail("the system has no PostgreSQL server: install the package postgresql")
    if b"de_DE.utf8" not in subprocess.run(["locale", "-a"], capture_output=True, check=True).stdout:
        skip_or_fail(
            "the system has no locale de_DE.UTF-8: install the package locales, then localedef -i de_DE -f UTF-8"
        )
    return binaries


@pytest.fixture(scope="module")
def german_cluster() -> Iterator[LocalCluster]:
    """A cluster with German messages."""
    with LocalCluster(german_binaries(), settings=GERMAN) as cluster:
        cluster.primary.server.create_login("app", "secret")
        yield cluster


def in_german(port: int, **others: str) -> Database:
    """Return a database of a server with German messages, with the login `app`."""
    environment = {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": "127.0.0.1",
        "APP_DATABASE_PORT": str(port),
        "APP_DATABASE_NAME": "postgres",
        "APP_DATABASE_USER": "app",
        "APP_DATABASE_PASSWORD": "secret",
        "APP_DATABASE_SSLMODE": "prefer",
    }
    return Database(DatabaseSettings.from_env({**environment, **others}))


@pytest.mark.parametrize(
    ("others", "error", "message"),
    [
        ({}, CredentialsRejected, "Passwort-Authentifizierung"),
        ({"APP_DATABASE_USER": "nobody"}, CredentialsRejected, "Passwort-Authentifizierung"),
        ({"APP_DATABASE_NAME": "nowhere", "APP_DATABASE_PASSWORD": "secret"}, ConnectionRejected, "existiert nicht"),
    ],
)
def test_errors_in_another_language_are_classified(
    german_cluster: LocalCluster, others: dict[str, str], error: type[RegistrationPersistenceError], message: str
) -> None:
    """The SQLSTATE decides, because it is the same in every language."""
    database = in_german(german_cluster.endpoint.port, **{"APP_DATABASE_PASSWORD": "hunter2", **others})
    with pytest.raises(error, match=message) as raised, deadline(3):
        database.ping()

    assert not raised.value.retryable
    everything = traceback.TracebackException.from_exception(raised.value, capture_locals=True).format()
    assert "hunter2" not in "".join(everything)


def test_connecting_waits_for_a_slot_in_another_language(german_cluster: LocalCluster) -> None:
    """The event of the wait has its cause, and the wait ends when a slot is free."""
    database = in_german(german_cluster.endpoint.port)
    with german_cluster.primary.server.connect() as connection:
        connection.execute("ALTER ROLE app CONNECTION LIMIT 0")
        with pytest.raises(TooManyConnections, match="Verbindung"), deadline(2):
            database.ping()
        assert database.events.count("wait", "no_slot") > 1
        connection.execute("ALTER ROLE app CONNECTION LIMIT 8")

    assert database.ping().writable
    database.dispose()


def test_a_role_without_login_in_another_language_is_a_rejected_login(german_cluster: LocalCluster) -> None:
    """28000 after password authentication is a rejected login; before it, `pg_hba.conf` rejects the connection."""
    with german_cluster.primary.server.connect() as connection:
        connection.execute("CREATE ROLE past NOLOGIN PASSWORD 'secret'")
    with pytest.raises(CredentialsRejected), deadline(2):
        in_german(german_cluster.endpoint.port, APP_DATABASE_USER="past").ping()


def test_an_invalid_parameter_in_another_language_is_not_retried(german_cluster: LocalCluster) -> None:
    """22023 before the session begins is final at once, because the same parameter would be sent again."""
    database = in_german(german_cluster.endpoint.port)
    settings = database.settings
    parameters = connection_parameters(settings) | {
        "host": settings.host,
        "port": settings.port,
        "dbname": settings.name,
        "options": "-c datestyle=falsch",
    }

    with deadline(5):
        outcome = Login("postgres", database.credentials, database.events).attempt(parameters)

    assert isinstance(outcome, LoginFailed)
    assert (ConnectionRejected, False) == (type(outcome.error), outcome.error.retryable)
    assert "für Parameter »DateStyle«" in str(outcome.error)


def test_a_rejection_by_pg_hba_in_another_language_is_not_retried() -> None:
    """Without an entry in `pg_hba.conf`, there are two attempts and no wait: the second one reads the SQLSTATE."""
    hba = "host all postgres 127.0.0.1/32 scram-sha-256\n"
    with LocalPostgres(german_binaries(), settings=GERMAN, hba=hba) as server:
        database = in_german(server.server.port)
        with pytest.raises(ConnectionRejected, match="pg_hba"), deadline(5):
            database.ping()
    assert database.events.count("wait") == 0


def test_work_is_repeated_after_a_shutdown_in_another_language(german_cluster: LocalCluster) -> None:
    """57P01 ends the session with an unknown text; the work is repeated when the server is available again."""
    database = in_german(german_cluster.endpoint.port)
    attempts: list[Session] = []

    def work(session: Session) -> None:
        attempts.append(session)
        session.execute(text("SELECT 1"))
        if len(attempts) == 1:
            german_cluster.restart(down_for=0.2)
        session.execute(text("SELECT 2"))

    database.run(work)

    assert len(attempts) == 2
    assert database.events.count("retry", "connection_lost") == 1
    database.dispose()


def test_an_invalid_prepared_statement_in_another_language_is_sent_again(german_cluster: LocalCluster) -> None:
    """Neither the unknown name of a statement nor the changed type of a result is recognised by an English text."""
    database = in_german(german_cluster.endpoint.port)
    server = german_cluster.primary.server
    with server.connect() as connection:
        connection.execute("CREATE TABLE things (n int); GRANT SELECT ON things TO app")
        with database.session(autocommit=True) as session:
            for change in ("ALTER TABLE things ALTER COLUMN n TYPE bigint", "ALTER TABLE things ADD COLUMN m int"):
                for _ in range(7):
                    session.execute(text("SELECT * FROM things"))
                connection.execute(change.encode())
                session.execute(text("SELECT * FROM things"))
            for _ in range(7):
                session.execute(text("SELECT * FROM things"))
            driver = session.connection().connection.dbapi_connection
            assert isinstance(driver, psycopg.Connection)
            driver.pgconn.exec_(b"DISCARD ALL")
            session.execute(text("SELECT * FROM things"))
        with pytest.raises(TransactionConflict, match="existiert nicht"), database.session() as session:
            for _ in range(7):
                session.execute(text("SELECT * FROM things"))
            driver.pgconn.exec_(b"DEALLOCATE ALL")
            session.execute(text("SELECT * FROM things"))
    database.dispose()
