"""Types of fixtures, and actions on sessions and connections, for many tests."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Consent, Database
from registration_persistence.outcomes import Registered
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer, wait_until

TERMS = Consent("terms", "2026-01")

TABLES = ("registrations", "verification_tokens", "registration_consents", "registration_events", "outbox")

Rows = Callable[[str], list[dict[str, Any]]]

Change = Callable[[str], None]


def everything(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """Return every row, by table."""
    return {table: rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


class SignUp(Protocol):
    """Registers a mailbox in its own transaction."""

    def __call__(self, email: str = ..., **arguments: Any) -> Registered:
        """Register *email*."""


@dataclass(frozen=True, slots=True)
class LambdaEnvironment:
    """A database whose login is in Secrets Manager, with the environment of a Lambda function."""

    secrets_manager: LocalSecretsManager
    server: PostgresServer
    arn: str
    username: str

    def store(self, value: dict[str, Any]) -> None:
        """Store *value* as the current version of the secret."""
        self.secrets_manager.put(self.arn, value)

    def rotate(self) -> None:
        """Change the password of the login and in the secret."""
        password = secrets.token_urlsafe(16)
        self.server.create_login(self.username, password)
        self.store({"username": self.username, "password": password})


ADD = "INSERT INTO outbox (event_id, registration_id, type) VALUES (gen_random_uuid(), gen_random_uuid(), 'test')"


def added(rows: Rows) -> int:
    """Return the number of rows that `ADD` has stored."""
    count: int = rows("SELECT count(*) AS n FROM outbox")[0]["n"]
    return count


def kill(session: Session) -> None:
    """End the session on the server, as a crash or an administrator does."""
    connection = session.connection().connection.dbapi_connection
    assert isinstance(connection, psycopg.Connection)
    info = connection.info
    with psycopg.connect(info.dsn, password=info.password, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [info.backend_pid])


SLOW_COMMIT = """
CREATE TABLE slow (n int);
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON slow
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger();
"""


def slow_commits(database: Database) -> None:
    """Create the table `slow`; a transaction that inserts into it takes ten seconds to commit."""
    with database.session() as session:
        session.execute(text(SLOW_COMMIT))


def kill_in_commit(connection: psycopg.Connection[Any]) -> None:
    """Wait until *connection* executes a COMMIT, and end its session on the server."""
    working = "pid = %s AND state = 'active' AND query = 'COMMIT'"
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {working}"
    info = connection.info
    with psycopg.connect(info.dsn, password=info.password, autocommit=True) as other:
        wait_until(lambda: other.execute(kill, [info.backend_pid]).fetchall(), "a COMMIT is executed", timeout=30)
