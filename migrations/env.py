"""Runs the revisions: one deployment at a time, and without holding up the service behind a lock that is awaited."""

import dataclasses
import logging
import os
import re
import time
from logging.config import fileConfig
from typing import Any

from alembic import context
from psycopg import sql
from sqlalchemy import Connection, text

from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.database.engine import create_database_engine
from registration_persistence.errors import LockTimeout
from registration_persistence.registrations.base import Base
from registration_persistence.registrations.models import EVENT_PARTITION

# Any number will do, as long as no other program takes the same in this database.
ADVISORY_LOCK = 7_265_676_973_747_261
# Seconds. DDL that waits for a lock makes everybody queue behind it, so it gives up soon and tries again.
LOCK_TIMEOUT = 2.0
ATTEMPTS = 10
WAIT_FOR_OTHER_DEPLOYMENT = 900.0

config = context.config
logger = logging.getLogger("registration_persistence.migrations")

COMPARISON: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "include_name": lambda name, kind, _: kind != "table" or not re.fullmatch(EVENT_PARTITION, name or ""),
    "compare_server_default": True,
    "transaction_per_migration": True,
}


def run_offline() -> None:
    """Print the SQL; needs no database and no environment."""
    context.configure(dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, literal_binds=True, **COMPARISON)
    if set_role := set_role_statement():
        context.execute(set_role.replace(":", r"\:"))
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run the revisions on the connection that was handed over, or on one of our own."""
    connection = config.attributes.get("connection")
    if connection is not None:
        migrate(connection)
        return
    database = config.attributes.get("database") or Database(DatabaseSettings.from_env())
    settings = dataclasses.replace(
        database.settings,
        pool="lambda",
        statement_timeout=0,
        idle_in_transaction_timeout=0,
        lock_timeout=LOCK_TIMEOUT,
        application_name="registration_persistence migrations",
    )
    engine = create_database_engine(settings, database.credentials, database.events)
    try:
        with engine.connect() as connection:
            # Autogenerate compares with it, and the package's dialect takes it for `public`.
            connection.dialect.default_schema_name = connection.scalar(text("SELECT current_schema()"))
            wait_for_other_deployments(connection)
            if set_role := set_role_statement():
                connection.exec_driver_sql(set_role.replace("%", "%%"))
                connection.commit()
            with_patience(connection)
    finally:
        engine.dispose()  # the advisory lock ends with the connection


def wait_for_other_deployments(connection: Connection) -> None:
    """Take the lock that keeps two deployments from migrating at once."""
    deadline = time.monotonic() + WAIT_FOR_OTHER_DEPLOYMENT
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
        connection.rollback()
        if time.monotonic() > deadline:
            raise LockTimeout(
                f"another deployment has been migrating for {WAIT_FOR_OTHER_DEPLOYMENT:g} s: see what it does"
            )
        logger.info("another deployment is migrating: waiting for it")
        time.sleep(1)
    connection.commit()


def with_patience(connection: Connection) -> None:
    """Migrate; where a table stays locked, let go of everything and try again from the last revision that is done."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            migrate(connection)
        except LockTimeout:
            if attempt == ATTEMPTS:
                raise
            connection.rollback()
            logger.info("a table is locked: attempt %d of %d failed, trying again in %d s", attempt, ATTEMPTS, attempt)
            time.sleep(attempt)
        else:
            return


def migrate(connection: Connection) -> None:
    """Run the revisions, each in a transaction of its own."""
    context.configure(connection=connection, **COMPARISON)
    with context.begin_transaction():
        context.run_migrations()


def set_role_statement() -> str | None:
    """Return what makes the owner role the owner of everything that is created, where one is named."""
    role = config.attributes.get("owner_role") or os.environ.get("APP_DATABASE_OWNER_ROLE")
    return sql.SQL("SET ROLE {}").format(sql.Identifier(role)).as_string() if role else None


if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)
if context.is_offline_mode():
    run_offline()
else:
    run_online()
