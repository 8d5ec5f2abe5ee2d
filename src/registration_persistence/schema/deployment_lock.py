"""One deployment at a time: the lock that everything holds that changes the schema or its roles."""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql
from sqlalchemy import Connection, text

from registration_persistence.database import Database
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.engine import create_database_engine
from registration_persistence.errors import LockTimeout

# Any number will do, as long as no other program takes the same in this database.
ADVISORY_LOCK = 7_265_676_973_747_261

# Seconds. DDL that waits for a lock makes everybody queue behind it, so it gives up soon and tries again.
LOCK_TIMEOUT = 2.0

# Seconds.
WAIT_FOR_OTHERS = 900.0

_logger = logging.getLogger("registration_persistence.migrations")


class DeploymentInProgress(LockTimeout):
    """Another deployment is changing this database, and did not end within the time that was given."""


@contextmanager
def deployment(database: Database, *, name: str, wait: float = WAIT_FOR_OTHERS) -> Iterator[Connection]:
    """Open a connection on which no other deployment is at work, for as long as the block lasts.

    Args:
        database: Which one; needs the direct endpoint, for a pooler loses the lock.
        name: What `pg_stat_activity` shows after the package's name.
        wait: Seconds to wait for another deployment; 0 refuses at once.

    Raises:
        DeploymentInProgress: Another one is still at work after *wait*, or when the deadline comes.
        RegistrationPersistenceError: As for `Database.session`.
    """
    settings = dataclasses.replace(
        database.settings,
        pool="lambda",
        statement_timeout=0,
        idle_in_transaction_timeout=0,
        lock_timeout=LOCK_TIMEOUT,
        application_name=f"registration_persistence {name}",
    )
    engine = create_database_engine(settings, database.credentials, database.events)
    try:
        with engine.connect() as connection:
            _take_lock(connection, wait)
            yield connection
    finally:
        engine.dispose()  # the advisory lock ends with the connection


def set_role_statement(role: str | None = None) -> str | None:
    """Return what makes *role*, or that of `APP_DATABASE_OWNER_ROLE`, own what is created; `None` where none is named.

    It is for `exec_driver_sql`.
    """
    role = role or os.environ.get("APP_DATABASE_OWNER_ROLE")
    return sql.SQL("SET ROLE {}").format(sql.Identifier(role)).as_string() if role else None


def _take_lock(connection: Connection, wait: float) -> None:
    started = time.monotonic()
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
        connection.rollback()
        waited = time.monotonic() - started
        if waited >= wait or remaining() <= 1:
            raise DeploymentInProgress(
                f"another deployment has been migrating for {waited:.0f} s: see what it does"
                if wait
                else "another deployment is migrating: wait until it is done"
            )
        _logger.info("another deployment is migrating: waiting for it")
        time.sleep(1)
    connection.commit()
