"""Alembic's environment: runs the revisions under the deployment lock, and retries while a table is locked."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging.config import fileConfig
from typing import Any

import psycopg
from alembic import command, context
from alembic.autogenerate import RevisionContext
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError, SAWarning, SQLAlchemyError

from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.errors import ConfigurationError, RegistrationPersistenceError
from registration_persistence.models.columns import Base
from registration_persistence.schema.alembic_configuration import DIFFERS, SchemaDiffers, is_progress
from registration_persistence.schema.composed_sql import execute_verbatim
from registration_persistence.schema.deployment_lock import (
    LOCK_TIMEOUT_SECONDS,
    MAX_WAIT_SECONDS,
    deployment,
    schema_connection,
    set_role_statement,
)
from registration_persistence.schema.differences import describe_differences
from registration_persistence.schema.grants import VERSION_TABLE, apply_grants
from registration_persistence.schema.lock_timeout_retry import retry_on_lock_timeout
from registration_persistence.schema.version_table import adopt_former_version, reject_newer_version

MAX_ATTEMPTS = 10

config: Config = context.config

COMPARISON: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "include_name": lambda name, kind, _: kind != "table" or name in Base.metadata.tables,
    "compare_server_default": True,
    "transaction_per_migration": True,
    "version_table": VERSION_TABLE,
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
    context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS:g}s'")
    if set_role := set_role_statement(config.attributes.get("owner_role")):
        context.execute(set_role.replace(":", r"\:"))
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run the command on the connection or engine in `config.attributes`, or on a connection of its own."""
    passed = config.attributes.get("connection")
    if passed is None:
        run_on_database()
    elif isinstance(passed, Connection):
        run(passed)
    elif hasattr(passed, "connect") and not hasattr(passed, "sync_engine"):  # an engine that is not asynchronous
        with passed.connect() as connection:
            run(connection)
    else:
        kind = f"{type(passed).__module__}.{type(passed).__qualname__}"
        raise CommandError(f"attributes['connection'] is a {kind}: expected an SQLAlchemy Connection or Engine")


def run_on_database() -> None:
    """Run the command on the database in `config.attributes`, or on the one that the environment names."""
    database = config.attributes.get("database")
    if database is not None:
        run_on_own_connection(database)
        return
    database = Database(DatabaseSettings.from_env())
    try:
        run_on_own_connection(database)
    finally:
        database.dispose()


def run_on_own_connection(database: Database) -> None:
    """Run the command on a new connection, which holds the deployment lock if the command changes the database."""
    if not changes_database():
        with schema_connection(database, name="schema") as connection:
            run(connection)
        return
    wait = config.attributes.get("wait", MAX_WAIT_SECONDS)
    owner_role = config.attributes.get("owner_role") or os.environ.get("APP_DATABASE_OWNER_ROLE", "")
    with deployment(database, name="migrations", wait=wait, create_version_table_as=owner_role) as connection:
        if set_role := set_role_statement(owner_role):
            execute_verbatim(connection, set_role)
        connection.commit()
        retry_on_lock_timeout(lambda: run(connection), MAX_ATTEMPTS, pause=lambda failures: failures)


def changes_database() -> bool:
    """Return whether the command is `upgrade`, `downgrade` or `stamp`: the commands that have a destination."""
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


def run(connection: Connection) -> None:
    """Run the command, each revision in a transaction of its own together with the grants on its tables.

    Leaves a transaction of the caller open, so that the caller decides whether to commit. Ends every other one, so that
    the next command on the connection commits its revisions.
    """
    if connection.dialect.name != "postgresql":
        raise CommandError(f"the connection leads to {connection.dialect.name}: expected PostgreSQL")
    with own_transaction(connection):
        context.configure(
            connection=connection,
            dont_mutate=not changes_database(),
            in_transaction_of_caller=connection.in_transaction(),
            **COMPARISON,
            **HOOKS,
        )
        migrations = context.get_context()
        if changes_database():
            with own_transaction(connection):
                adopt_former_version(migrations, context.script)
        reject_newer_version(migrations, context.script)
        try:
            with context.begin_transaction(), warnings.catch_warnings():
                # SQLAlchemy passes an option of a reflected CHECK that is NOT VALID on under the wrong name.
                warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'", SAWarning)
                context.run_migrations()
        except ProgrammingError as error:
            if not isinstance(error.orig, psycopg.errors.DuplicateTable):
                raise
            state = f"{VERSION_TABLE} records no revision that created it"
            fix = "move it to another schema if it is not a table of this package"
            raise CommandError(f"{error.orig.diag.message_primary}, but {state}: {fix}") from error
    if config.cmd_opts is not None and config.cmd_opts.cmd[0] is command.check:
        reject_differences(migrations.opts["revision_context"])


def reject_differences(found: RevisionContext) -> None:
    """Report the differences that `alembic check` found before Alembic prints them as Python objects."""
    if differences := describe_differences(found):
        raise SchemaDiffers(DIFFERS, differences)


@contextmanager
def own_transaction(connection: Connection) -> Iterator[None]:
    """Commit at the end of the block, and roll back if it raises; do neither in a transaction of the caller."""
    if connection.in_transaction():
        yield
        return
    try:
        yield
        connection.commit()
    finally:
        connection.rollback()


def show_only_progress() -> None:
    """Let the log of a command show only the revisions, and what it waits for."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(is_progress)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the `alembic` command with one line instead of a traceback, unless it is called with `--raiseerr`."""
    try:
        yield
    except (CommandError, RegistrationPersistenceError, SQLAlchemyError) as error:
        if config.cmd_opts is None or config.cmd_opts.raiseerr:
            raise
        sys.stderr.write(f"registration-persistence: {str(getattr(error, 'orig', None) or error).strip()}\n")
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)


if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)
if config.cmd_opts is not None:
    show_only_progress()
with one_line_errors():
    if context.is_offline_mode():
        run_offline()
    else:
        run_online()
