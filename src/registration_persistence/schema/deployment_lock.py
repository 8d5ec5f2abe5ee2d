"""The lock that lets one deployment at a time change the schema or its roles.

It is a lock on the version table, because every login can take any advisory lock, but only the owner and its members
can lock that table. A second connection holds it in an idle transaction, because it must outlast the transactions of
the revisions. The transaction has neither a snapshot nor a transaction id, so that CREATE INDEX CONCURRENTLY and VACUUM
do not wait for it.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from registration_persistence.clock import monotonic
from registration_persistence.database import Database
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.engine import create_database_engine
from registration_persistence.domain.text import plain_text
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.errors import InvalidInput, LockTimeout
from registration_persistence.schema.composed_sql import execute_verbatim, execute_with_identifiers
from registration_persistence.schema.grants import VERSION_TABLE

LOCK_STATEMENT = f"LOCK TABLE public.{VERSION_TABLE} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT"
"""Takes the lock until the end of the transaction, or fails at once. Conflicts with itself, but not with Alembic."""

MAX_WAIT_SECONDS = 900.0
"""How long a deployment waits for another one by default."""

# DDL that waits for a lock queues every other statement on the table behind it, so it gives up soon and tries again.
LOCK_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 1.0
_REPORT_SECONDS = 30.0

# PostgreSQL shows 63 bytes of "registration_persistence NAME".
_MAX_NAME_CHARACTERS = 38

_MAX_ROLE_BYTES = 63

# As Alembic creates it. Another session that creates it too waits for the end of this transaction.
_CREATE_VERSION_TABLE = f"""
CREATE TABLE public.{VERSION_TABLE} (
  version_num varchar(32) NOT NULL, CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))
"""
_IS_VERSION_TABLE_MISSING = text(f"SELECT to_regclass('public.{VERSION_TABLE}') IS NULL")

_SESSION_SETTINGS = text(
    "SELECT set_config('search_path', 'public', false), set_config('idle_session_timeout', '0', false)"
)

_CREATED_MEANWHILE = (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation)

_logger = logging.getLogger("registration_persistence.migrations")


class DeploymentInProgress(LockTimeout):
    """Another deployment is changing this database, and did not end in time."""


@contextmanager
def deployment(
    database: Database, *, name: str, wait: Duration = MAX_WAIT_SECONDS, create_version_table_as: str | None = None
) -> Iterator[Connection]:
    """Open a connection during which no other deployment runs; a second connection holds the lock until the block ends.

    Args:
        database: The database to change, at its direct endpoint. Its login must own the version table, or be a member
            of its owner or of the role in `APP_DATABASE_OWNER_ROLE`.
        name: The last word of the connection's `application_name` in `pg_stat_activity`, at most 38 characters.
        wait: How long to wait for another deployment, as a `timedelta` or in seconds, 0 to a day; 0 fails at once.
            Defaults to 15 minutes.
        create_version_table_as: The role that creates the version table of this package if it is missing, 1 to 63
            bytes; an empty string is the login. Defaults to `None`: a table that is created for the lock is removed at
            the end.

    Raises:
        InvalidInput: *name* or *create_version_table_as* is not text, or is too long; nothing was sent.
        TypeError, ValueError: *wait* is not a duration in its range; nothing was sent.
        DeploymentInProgress: Another deployment did not end within *wait*, or before the deadline.
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    seconds = bounded_seconds(wait, "wait")
    if plain_text(name, _MAX_NAME_CHARACTERS) is None:
        raise InvalidInput(f"name is not text of at most {_MAX_NAME_CHARACTERS} characters")
    check_role("create_version_table_as", create_version_table_as)
    limits = {"statement_timeout": 0, "idle_in_transaction_timeout": 0, "lock_timeout": LOCK_TIMEOUT_SECONDS}
    with schema_connection(database, name=f"{name} lock", pool="lambda", **limits) as holder:
        _wait_for_lock(holder, seconds, create_version_table_as)
        with schema_connection(database, name=name, pool="lambda", **limits) as connection:
            yield connection
        holder.rollback()


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
            # A service that has a schema of its own may have set another search_path for the database or the login. A
            # revision may compute for longer than the sessions of the login or the cluster may be idle.
            connection.execute(_SESSION_SETTINGS)
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


def take_lock(connection: Connection, role: str | None = None) -> bool:
    """Take the lock until the end of the transaction, as the login, or as *role* if the login may not.

    Creates the version table if it is missing, so that two deployments of an empty database exclude each other.

    Args:
        connection: A connection in a transaction.
        role: The role that may lock the table if the login may not. Defaults to none.

    Returns:
        Whether the version table was created; it is kept only if the caller commits.

    Raises:
        LockTimeout: Another deployment holds the lock.
        sqlalchemy.exc.ProgrammingError: Neither the login nor *role* may lock or create the table.
    """
    try:
        with connection.begin_nested():
            return _lock_or_create(connection)
    except ProgrammingError as error:
        if not role or not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
    execute_with_identifiers(connection, "SET LOCAL ROLE {}", role)
    is_created = _lock_or_create(connection)
    execute_verbatim(connection, "SET LOCAL ROLE NONE")
    return is_created


def _lock_or_create(connection: Connection) -> bool:
    is_missing = bool(connection.scalar(_IS_VERSION_TABLE_MISSING))
    execute_verbatim(connection, _CREATE_VERSION_TABLE if is_missing else LOCK_STATEMENT)
    return is_missing


def _create_version_table(connection: Connection, role: str) -> None:
    if role:
        execute_with_identifiers(connection, "SET LOCAL ROLE {}", role)
    if connection.scalar(_IS_VERSION_TABLE_MISSING):
        execute_verbatim(connection, _CREATE_VERSION_TABLE)
    connection.commit()


def _wait_for_lock(connection: Connection, max_wait_seconds: float, create_version_table_as: str | None) -> None:
    started = monotonic()
    next_report = 0.0
    while not _is_locked(connection, create_version_table_as):
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


def _is_locked(connection: Connection, create_version_table_as: str | None) -> bool:
    """Try to take the lock, and return whether this connection holds it now."""
    try:
        if create_version_table_as is not None:
            _create_version_table(connection, create_version_table_as)
        take_lock(connection, os.environ.get("APP_DATABASE_OWNER_ROLE"))
    except (LockTimeout, ProgrammingError, IntegrityError) as error:
        connection.rollback()
        if isinstance(error, LockTimeout) or isinstance(error.orig, _CREATED_MEANWHILE):
            return False
        raise
    return True
