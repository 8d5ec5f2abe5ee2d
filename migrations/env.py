"""Runs the revisions: one deployment at a time, and without holding up the service behind a lock that is awaited."""

import logging
import re
import time
from logging.config import fileConfig
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.database.deadlines import remaining
from registration_persistence.errors import LockTimeout
from registration_persistence.models.columns import Base
from registration_persistence.models.tables import EVENT_PARTITION
from registration_persistence.schema.deployment_lock import WAIT_FOR_OTHERS, deployment, set_role_statement
from registration_persistence.schema.grants import apply_grants

ATTEMPTS = 10

config = context.config
logger = logging.getLogger("registration_persistence.migrations")

COMPARISON: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "include_name": lambda name, kind, _: kind != "table" or not re.fullmatch(EVENT_PARTITION, name or ""),
    "compare_server_default": True,
    "transaction_per_migration": True,
}


def grant(*, ctx: MigrationContext, **_: Any) -> None:
    """Grant in the revision's own transaction, so that no table is there without its grants."""
    assert ctx.connection is not None
    apply_grants(ctx.connection)


WITH_EACH_REVISION: dict[str, Any] = {"on_version_apply": grant}


def run_offline() -> None:
    """Print the SQL; needs no database and no environment."""
    context.configure(dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, literal_binds=True, **COMPARISON)
    if set_role := set_role_statement(config.attributes.get("owner_role")):
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
    wait = config.attributes.get("wait", WAIT_FOR_OTHERS)
    with deployment(database, name="migrations", wait=wait) as connection:
        # Autogenerate compares with it, and the package's dialect takes it for `public`.
        connection.dialect.default_schema_name = connection.scalar(text("SELECT current_schema()"))
        if set_role := set_role_statement(config.attributes.get("owner_role")):
            connection.exec_driver_sql(set_role.replace("%", "%%"))
        connection.commit()
        with_patience(connection)


def with_patience(connection: Connection) -> None:
    """Migrate; where a table stays locked, let go of everything and try again from the last revision that is done."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            migrate(connection)
        except LockTimeout:
            if attempt == ATTEMPTS or attempt >= remaining():
                raise
            connection.rollback()
            logger.info("a table is locked: attempt %d of %d failed, trying again in %d s", attempt, ATTEMPTS, attempt)
            time.sleep(attempt)
        else:
            return


def migrate(connection: Connection) -> None:
    """Run the revisions, each in a transaction of its own, and with each the grants on what there is then."""
    context.configure(connection=connection, **COMPARISON, **WITH_EACH_REVISION)
    with context.begin_transaction():
        context.run_migrations()


if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)
if context.is_offline_mode():
    run_offline()
else:
    run_online()
