"""The advisory lock that lets one deployment at a time change the schema or its roles."""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import sql
from sqlalchemy import Connection, text

from registration_persistence.clock import monotonic
from registration_persistence.database import Database
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.engine import create_database_engine
from registration_persistence.domain.text import plain_text
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.errors import InvalidInput, LockTimeout

ADVISORY_LOCK = 7_265_676_973_747_261
"""The key of the lock: an arbitrary number that no other program uses in this database."""

MAX_WAIT_SECONDS = 900.0
"""How long a deployment waits for another one by default."""

# DDL that waits for a lock queues every other statement on the table behind it, so it gives up soon and tries again.
LOCK_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 1.0
_REPORT_SECONDS = 30.0

# PostgreSQL shows 63 bytes of "registration_persistence NAME".
_MAX_NAME_CHARACTERS = 38

_MAX_ROLE_BYTES = 63

_logger = logging.getLogger("registration_persistence.migrations")


class DeploymentInProgress(LockTimeout):
    """Another deployment is changing this database, and did not end in time."""


@contextmanager
def deployment(database: Database, *, name: str, wait: Duration = MAX_WAIT_SECONDS) -> Iterator[Connection]:
    """Open a connection that holds the deployment lock until the block ends.

    Args:
        database: The database to change, at its direct endpoint: a pooler would lose the lock.
        name: The last word of the connection's `application_name` in `pg_stat_activity`, at most 38 characters.
        wait: How long to wait for another deployment, as a `timedelta` or in seconds, 0 to a day; 0 fails at once.
            Defaults to 15 minutes.

    Raises:
        InvalidInput: *name* is not text, or is too long; nothing was sent.
        TypeError, ValueError: *wait* is not a duration in its range; nothing was sent.
        DeploymentInProgress: Another deployment did not end within *wait*, or before the deadline.
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    seconds = bounded_seconds(wait, "wait")
    if plain_text(name, _MAX_NAME_CHARACTERS) is None:
        raise InvalidInput(f"name is not text of at most {_MAX_NAME_CHARACTERS} characters")
    limits = {"statement_timeout": 0, "idle_in_transaction_timeout": 0, "lock_timeout": LOCK_TIMEOUT_SECONDS}
    with schema_connection(database, name=name, pool="lambda", **limits) as connection:
        _take_lock(connection, seconds)  # the server releases it when the connection ends
        yield connection


@contextmanager
def schema_connection(database: Database, *, name: str, **changes: Any) -> Iterator[Connection]:
    """Open a connection that is closed at the end of the block, and finds the tables in the schema `public`.

    Args:
        database: The database.
        name: The last word of the connection's `application_name` in `pg_stat_activity`.
        **changes: Settings that differ from those of the database.

    Raises:
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    application_name = f"registration_persistence {name}"
    settings = dataclasses.replace(database.settings, application_name=application_name, **changes)
    engine = create_database_engine(settings, database.credentials, database.events)
    try:
        with engine.connect() as connection:
            # A service that has a schema of its own may have set another search_path for the database or the login.
            connection.execute(text("SET search_path = public"))
            connection.commit()
            yield connection
    finally:
        engine.dispose()


def set_role_statement(role: str | None = None) -> str | None:
    """Return the statement that makes a role the owner of whatever the session creates.

    Args:
        role: The owner role, 1 to 63 bytes. Defaults to `APP_DATABASE_OWNER_ROLE`.

    Returns:
        The statement for `exec_driver_sql`, or `None` if there is no owner role.

    Raises:
        InvalidInput: *role* is not text, or is too long.
    """
    check_role("role", role)
    role = role or os.environ.get("APP_DATABASE_OWNER_ROLE")
    return sql.SQL("SET ROLE {}").format(sql.Identifier(role)).as_string() if role else None


def check_role(argument: str, role: str | None) -> None:
    """Check the name of a role.

    Raises:
        InvalidInput: *role*, the value of *argument*, is neither text of at most 63 bytes nor `None`.
    """
    name = "" if role is None else plain_text(role, _MAX_ROLE_BYTES)
    if name is None or len(name.encode(errors="replace")) > _MAX_ROLE_BYTES:
        raise InvalidInput(f"{argument} is not text of at most {_MAX_ROLE_BYTES} bytes")


def _take_lock(connection: Connection, max_wait_seconds: float) -> None:
    started = monotonic()
    next_report = 0.0
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
        connection.rollback()
        waited = monotonic() - started
        if waited >= max_wait_seconds or remaining() <= _POLL_SECONDS:
            raise DeploymentInProgress(
                f"another deployment has held the lock for {waited:.0f} s: look for its session in pg_stat_activity"
                if max_wait_seconds
                else "another deployment is migrating: wait until it is done"
            )
        if waited >= next_report:
            _logger.info("another deployment is migrating: waiting for it, for %.0f s so far", waited)
            next_report += _REPORT_SECONDS
        time.sleep(_POLL_SECONDS)
    connection.commit()
