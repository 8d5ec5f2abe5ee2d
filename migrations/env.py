"""Alembic's environment: runs the revisions under the deployment lock, and retries while a table is locked."""

import re
from logging.config import fileConfig
from typing import Any

from alembic import context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.errors import LockTimeout
from registration_persistence.models.columns import Base
from registration_persistence.models.tables import EVENT_PARTITION
from registration_persistence.schema.composed_sql import execute_verbatim
from registration_persistence.schema.deployment_lock import MAX_WAIT_SECONDS, deployment, set_role_statement
from registration_persistence.schema.grants import apply_grants
from registration_persistence.schema.lock_timeout_retry import retry_on_lock_timeout

MAX_ATTEMPTS = 10

config: Config = context.config

COMPARISON: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "include_name": lambda name, kind, _: kind != "table" or not re.fullmatch(EVENT_PARTITION, name or ""),
    "compare_server_default": True,
    "transaction_per_migration": True,
}


def grant(*, ctx: MigrationContext, **_: Any) -> None:
    """Grant the privileges in the revision's own transaction, so that no table exists without its grants."""
    assert ctx.connection is not None
    apply_grants(ctx.connection)


# A dict of Any, because Alembic declares the hook's parameters as positional and passes them by keyword.
HOOKS: dict[str, Any] = {"on_version_apply": grant}


def run_offline() -> None:
    """Print the SQL. Needs neither a database nor environment variables."""
    context.configure(dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, literal_binds=True, **COMPARISON)
    if set_role := set_role_statement(config.attributes.get("owner_role")):
        context.execute(set_role.replace(":", r"\:"))
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run the revisions on the connection in `config.attributes`, or on a new one that holds the deployment lock."""
    connection = config.attributes.get("connection")
    if connection is not None:
        migrate(connection)
        return
    database = config.attributes.get("database") or Database(DatabaseSettings.from_env())
    wait = config.attributes.get("wait", MAX_WAIT_SECONDS)
    with deployment(database, name="migrations", wait=wait) as connection:
        # Autogenerate compares with this name, and the package's dialect assumes `public` instead of asking the server.
        connection.dialect.default_schema_name = connection.scalar(text("SELECT current_schema()"))
        if set_role := set_role_statement(config.attributes.get("owner_role")):
            execute_verbatim(connection, set_role)
        connection.commit()
        retry_on_lock_timeout(lambda: migrate_or_release(connection), MAX_ATTEMPTS, pause=lambda failures: failures)


def migrate_or_release(connection: Connection) -> None:
    """Run the revisions; if a table is locked, release every lock. The next call starts at the first revision left."""
    try:
        migrate(connection)
    except LockTimeout:
        connection.rollback()
        raise


def migrate(connection: Connection) -> None:
    """Run the revisions, each in a transaction of its own together with the grants on the tables that exist by then."""
    context.configure(connection=connection, **COMPARISON, **HOOKS)
    with context.begin_transaction():
        context.run_migrations()


if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)
if context.is_offline_mode():
    run_offline()
else:
    run_online()
