"""Types, constants and helpers that the tests share."""

import secrets
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from registration_persistence import Consent, Database, DatabaseSettings, Registration
from registration_persistence.outcomes import Registered
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer, TcpProxy, wait_until
from registration_persistence.testing.template import LOGIN

TERMS = Consent("terms", "2026-01")

TABLES = ("registrations", "verification_tokens", "registration_consents", "registration_events", "outbox")

Rows = Callable[[str], list[dict[str, Any]]]

Change = Callable[[str], None]


Person = Callable[[str, str], Registration]
"""A function that registers the mailbox and brings the registration to the status."""

EVENTS = "SELECT * FROM registration_events ORDER BY registration_id, seq"


def untyped(value: object) -> Any:
    """Return *value* without its type, so that a test can pass it as an argument of the wrong type."""
    return value


def all_rows(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables, by table."""
    return {table: rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


def variables_of(settings: DatabaseSettings) -> dict[str, str]:
    """Return the environment variables with which another process connects to the database of *settings*."""
    return {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": settings.host,
        "APP_DATABASE_PORT": str(settings.port),
        "APP_DATABASE_NAME": settings.name,
        "APP_DATABASE_USER": settings.user or "",
        "APP_DATABASE_PASSWORD": settings.password or "",
        "APP_DATABASE_SSLMODE": settings.sslmode,
    }


@contextmanager
def sent_statements(database: Database) -> Iterator[list[str]]:
    """Append each statement that the engine sends in the block to a list."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


class SignUp(Protocol):
    """A function that registers a person in a separate session."""

    def __call__(self, email: str = ..., **arguments: Any) -> Registered:
        """Register *email*."""


@dataclass(frozen=True, slots=True)
class LambdaEnvironment:
    """A database whose login is in Secrets Manager, and the environment of a Lambda that uses it."""

    secrets_manager: LocalSecretsManager
    server: PostgresServer
    arn: str
    username: str

    def store(self, value: dict[str, Any]) -> None:
        """Make *value* the current version of the secret."""
        self.secrets_manager.put(self.arn, value)

    def rotate(self) -> None:
        """Change the password of the login, and store it in the secret."""
        password = secrets.token_urlsafe(16)
        self.server.create_login(self.username, password)
        self.store({"username": self.username, "password": password})


ADD = "INSERT INTO outbox (event_id, registration_id, type) VALUES (gen_random_uuid(), gen_random_uuid(), 'test')"


def added(rows: Rows) -> int:
    """Return the number of rows that `ADD` has inserted."""
    count: int = rows("SELECT count(*) AS n FROM outbox")[0]["n"]
    return count


def terminate_backend(session: Session) -> None:
    """Terminate the backend of *session*, as a crash or an administrator does."""
    driver = session.connection().connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    with psycopg.connect(driver.info.dsn, password=driver.info.password, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [driver.info.backend_pid])
    wait_for_end(driver)


def wait_for_end(connection: psycopg.Connection[Any]) -> None:
    """Wait until the client's socket knows that the session ended; a proxy on the way may forward the end late."""
    poller = select.poll()
    poller.register(connection.fileno(), getattr(select, "POLLRDHUP", select.POLLIN))
    assert poller.poll(10_000), "the end of the session was not forwarded"


class OneLossProxy(TcpProxy):
    """A proxy that loses one reply when it is told to: the server has received and executes the request."""

    _loses_next = False

    def lose_next_reply(self) -> None:
        """Lose the next reply, and close its connection."""
        self._loses_next = True

    def _loses_reply(self, connection: Any) -> bool:
        if not self._loses_next or not connection.has_logged_in:
            return False
        self._loses_next = False
        self.lost_replies += 1
        return True


@contextmanager
def losing_database(settings: DatabaseSettings, **changes: Any) -> Iterator[tuple[Database, OneLossProxy]]:
    """Yield a database behind a proxy that can lose one reply."""
    with OneLossProxy(settings.host, settings.port) as proxy:
        here = replace(settings, host="127.0.0.1", port=proxy.port, sslmode="disable", pool="lambda")
        database = Database(replace(here, **changes))
        yield database, proxy
        database.dispose()


SLOW_COMMIT = """
CREATE TABLE slow (n int);
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON slow
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger();
"""


def create_slow_table(database: Database) -> None:
    """Create a table `slow`; after an INSERT into it, COMMIT takes ten seconds."""
    with database.session() as session:
        session.execute(text(SLOW_COMMIT))


def terminate_backend_in_commit(connection: psycopg.Connection[Any]) -> None:
    """Terminate the backend of *connection* as soon as it executes COMMIT."""
    working = "pid = %s AND state = 'active' AND query = 'COMMIT'"
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {working}"
    info = connection.info
    with psycopg.connect(info.dsn, password=info.password, autocommit=True) as other:
        wait_until(lambda: other.execute(terminate, [info.backend_pid]).fetchall(), "the backend executes COMMIT")


def login_in_secrets_manager(
    server: PostgresServer,
    settings: DatabaseSettings,
    secrets_manager: LocalSecretsManager,
    monkeypatch: pytest.MonkeyPatch,
) -> LambdaEnvironment:
    """Create a login of its own, store it in a secret, and set the variables of a service that uses it."""
    username, password = f"service_{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    server.create_login(username, password)
    with server.connect() as connection:
        connection.execute(f"GRANT {LOGIN} TO {username}")
    arn = secrets_manager.create(f"registration/{username}", {"username": username, "password": password})
    for name, value in {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": settings.host,
        "APP_DATABASE_PORT": str(settings.port),
        "APP_DATABASE_NAME": settings.name,
        "APP_DATABASE_SECRET_ARN": arn,
        "APP_DATABASE_SSLMODE": "prefer",
    }.items():
        monkeypatch.setenv(name, value)
    return LambdaEnvironment(secrets_manager, server, arn, username)
