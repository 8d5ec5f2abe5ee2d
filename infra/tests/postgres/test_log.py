"""What the cluster's parameters let the server write into its log, on a real server."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from registration_persistence.local import LocalPostgres, PostgresAddress, embedded_binaries
from templates import templates_of

from registration_persistence import Database, DatabaseSettings, RegistrationRepository, schema

MAILBOX = "ada.lovelace@example.com"


def parameters(**others: str) -> dict[str, str]:
    """Return the parameters about the log where each statement counts as slow, with *others* in place of some."""
    group = templates_of("dev", {"aurora": {"slow_query_ms": 0}}).database.one("RDS::DBClusterParameterGroup")
    return {name: value for name, value in group["Parameters"].items() if name.startswith("log_")} | others


@contextmanager
def server(settings: dict[str, str]) -> Iterator[PostgresAddress]:
    """Return a server with *settings*."""
    with LocalPostgres(embedded_binaries(), settings=settings) as running:
        yield running.address


def log_after_failures(at: PostgresAddress) -> str:
    """Register a mailbox, break two constraints with it, and return what the server wrote about all that."""
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
        connection.execute("CREATE TABLE proven (email text PRIMARY KEY, CHECK (length(email) < 100))")
        connection.execute("INSERT INTO proven VALUES (%s)", [MAILBOX])
        for email in (MAILBOX, MAILBOX * 10):
            with pytest.raises(psycopg.errors.IntegrityError):
                connection.execute("INSERT INTO proven VALUES (%s)", [email])
        (log,) = connection.execute("SELECT pg_read_file('log')").fetchall()[0]
    assert isinstance(log, str)
    assert log.count("violates") == 2
    assert "INSERT INTO registrations" in log
    return log


def test_no_mailbox_is_in_the_log() -> None:
    """Neither from a slow statement nor from a row that breaks a constraint."""
    with server(parameters()) as at:
        assert MAILBOX not in log_after_failures(at)


def test_without_terse_the_row_is_there() -> None:
    """That broke the constraint; the values of slow statements are still left out, for whoever turns it off to look."""
    with server(parameters(log_error_verbosity="default")) as at:
        log = log_after_failures(at)

    assert f"Key (email)=({MAILBOX}) already exists" in log
    assert "$1 = " not in log


def test_with_the_servers_own_values_everything_is_there() -> None:
    """So it is these parameters that keep it out."""
    own = {"log_error_verbosity": "default", "log_parameter_max_length": "-1"}
    with server(parameters(**own)) as at:
        assert f"$1 = '{MAILBOX}'" in log_after_failures(at)
