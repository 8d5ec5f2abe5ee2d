"""The parameters of the cluster keep personal data out of the log of a real server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from templates import templates_of

from registration_persistence import Database, DatabaseSettings, RegistrationRepository, schema
from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries

MAILBOX = "ada.lovelace@example.com"


def parameters(**others: str) -> dict[str, str]:
    """Return the log parameters of the cluster, with every statement counted as slow, and with changes *others*."""
    group = templates_of("dev", {"aurora": {"slow_query_ms": 0}}).database.one("RDS::DBClusterParameterGroup")
    return {name: value for name, value in group["Parameters"].items() if name.startswith("log_")} | others


@contextmanager
def server(settings: dict[str, str]) -> Iterator[PostgresServer]:
    """Run a server with *settings*; yield its address."""
    with LocalPostgres(embedded_binaries(), settings=settings, in_memory=True) as running:
        yield running.server


def log_after_failures(at: PostgresServer) -> str:
    """Register a mailbox, violate two constraints with it, and return the log of the server."""
    settings = DatabaseSettings(
        environment="test",
        sslmode="disable",
        host=at.host,
        port=at.port,
        name="postgres",
        user=at.user,
        password=at.password,
    )
    database = Database(settings)
    schema.upgrade(database)
    with database.session() as session:
        registrations = RegistrationRepository(session)
        registrations.register(MAILBOX)
        registrations.find_by_email(MAILBOX)
    database.dispose()
    with at.connect() as connection:
        connection.execute("CREATE TABLE verified (email text PRIMARY KEY, CHECK (length(email) < 100))")
        connection.execute("INSERT INTO verified VALUES (%s)", [MAILBOX])
        for email in (MAILBOX, MAILBOX * 10):
            with pytest.raises(psycopg.errors.IntegrityError):
                connection.execute("INSERT INTO verified VALUES (%s)", [email])
        (log,) = connection.execute("SELECT pg_read_file('log')").fetchall()[0]
    assert isinstance(log, str)
    assert log.count("violates") == 2
    assert "INSERT INTO registrations" in log
    return log


def test_log_contains_no_mailbox() -> None:
    """The log contains no mailbox, neither of a slow statement nor of a row that violates a constraint."""
    with server(parameters()) as at:
        log = log_after_failures(at)
        assert MAILBOX not in log
    # Each session of the administrator leaves a trace: its login, its time and its end.
    assert f"connection authorized: user={at.user} database=postgres" in log
    assert "disconnection: session time: 0:00:0" in log


def test_default_verbosity_logs_the_row() -> None:
    """Without `terse`, the log contains the row that violates a constraint, but still no values of slow statements."""
    with server(parameters(log_error_verbosity="default")) as at:
        log = log_after_failures(at)

    assert f"Key (email)=({MAILBOX}) already exists" in log
    assert "$1 = " not in log


def test_default_parameters_log_the_values() -> None:
    """With the defaults of PostgreSQL the log contains the values, so the parameters are what keeps them out."""
    defaults = {"log_error_verbosity": "default", "log_parameter_max_length": "-1"}
    with server(parameters(**defaults)) as at:
        assert f"$1 = '{MAILBOX}'" in log_after_failures(at)


def test_a_deadlock_is_logged_with_the_statement_that_was_aborted() -> None:
    """The runbook on deadlocks looks for both lines; neither the other statement nor a row is in the log."""
    update = "UPDATE verified SET email = email WHERE email = %s"
    with server(parameters()) as at, at.connect() as observer:
        observer.execute("CREATE TABLE verified (email text PRIMARY KEY)")
        observer.execute("INSERT INTO verified VALUES (%s), ('other')", [MAILBOX])
        with at.connect() as one, at.connect() as two, ThreadPoolExecutor() as threads:
            one.autocommit = two.autocommit = False
            one.execute(update, [MAILBOX])
            two.execute(update, ["other"])
            waiting = [threads.submit(one.execute, update, ["other"]), threads.submit(two.execute, update, [MAILBOX])]
            errors = [future.exception() for future in waiting]
        (log,) = observer.execute("SELECT pg_read_file('log')").fetchall()[0]

    (aborted,) = (error for error in errors if error is not None)
    assert isinstance(aborted, psycopg.errors.DeadlockDetected)
    after = str(log).partition("deadlock detected")[2].splitlines()
    assert "STATEMENT:  UPDATE verified" in after[1]
    assert "waits for" not in str(log)
    assert MAILBOX not in str(log)
