"""Run the migrations, and compare a database with the newest revision and the models."""

from io import StringIO

from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from registration_persistence.database import Database
from registration_persistence.domain.text import plain_text
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.errors import InvalidInput
from registration_persistence.schema.alembic_configuration import (
    DIFFERS,
    MAX_REVISION_CHARACTERS,
    MISSING_PROTECTION,
    UNSUITABLE_SETTINGS,
    MigrationRefused,
    SchemaDiffers,
    alembic_config,
    alembic_run,
    check_revision,
    translated_errors,
)
from registration_persistence.schema.deployment_lock import MAX_WAIT_SECONDS, check_role, schema_connection
from registration_persistence.schema.grants import VERSION_TABLE
from registration_persistence.schema.login_settings import unsuitable_settings
from registration_persistence.schema.protection import missing_protection
from registration_persistence.schema.version_table import knows, newer_version_message


def upgrade(
    database: Database, revision: str = "head", *, owner_role: str | None = None, wait: Duration = MAX_WAIT_SECONDS
) -> str | None:
    """Run the migrations up to a revision.

    Waits for another deployment that is migrating, and tries again while a table is locked.

    Args:
        database: The database to migrate, at its direct endpoint: a pooler may end the idle session that holds the
            lock that keeps two deployments apart.
        revision: A revision id, `head`, or a relative revision such as `+1`, at most 100 characters. Defaults to
            `head`.
        owner_role: The role that owns whatever is created, 1 to 63 bytes. Defaults to
            `APP_DATABASE_OWNER_ROLE`; if that is not set either, the login is the owner.
        wait: How long to wait for another deployment, as a `timedelta` or in seconds, 0 to a day; 0 fails at once.
            Defaults to 15 minutes.

    Returns:
        The revision of the database after the migrations.

    Raises:
        DeploymentInProgress: Another deployment did not end within *wait*.
        LockTimeout: A table stayed locked.
        InvalidInput: There is no such revision, or it is a step back such as `-1`; nothing was sent.
        MigrationRefused: A newer version of the package has migrated the database, or Alembic rejects the request.
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    check_role("owner_role", owner_role)
    bounded_seconds(wait, "wait")
    check_revision(revision)
    if revision.startswith("-"):
        raise InvalidInput(f"the revision {revision!r} is a step back: expected a newer one, or `alembic downgrade`")
    with alembic_run():
        command.upgrade(alembic_config(database, owner_role, wait), revision)
    return current(database)


def upgrade_sql(revision: str = "head") -> str:
    """Return the SQL of the migrations up to a revision. Needs no database.

    Args:
        revision: A revision id or `head`, at most 100 characters. Defaults to `head`.

    Raises:
        InvalidInput: There is no such revision.
    """
    check_revision(revision)
    config = alembic_config()
    config.output_buffer = StringIO()
    with alembic_run():
        command.upgrade(config, revision, sql=True)
    return config.output_buffer.getvalue()


def downgrade(database: Database, revision: str, *, owner_role: str | None = None) -> None:
    """Revert the migrations after a revision.

    Args:
        database: The database to migrate, at its direct endpoint: a pooler may end the idle session that holds the
            lock that keeps two deployments apart.
        revision: A revision id, a relative revision such as `-1`, or `base`, which drops every table with its rows; at
            most 100 characters.
        owner_role: The role that owns whatever is created, 1 to 63 bytes. Defaults to `APP_DATABASE_OWNER_ROLE`.

    Raises:
        DeploymentInProgress: Another deployment did not end within 15 minutes.
        LockTimeout: A table stayed locked.
        InvalidInput: There is no such revision; nothing was sent.
        MigrationRefused: A newer version of the package has migrated the database, or Alembic rejects the request.
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    check_role("owner_role", owner_role)
    check_revision(revision)
    with alembic_run():
        command.downgrade(alembic_config(database, owner_role), revision)


def current(database: Database) -> str | None:
    """Return the revision of the database, or `None` before the first one.

    Args:
        database: The database to read.

    Raises:
        MigrationRefused: The database has more than one revision.
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    with database.engine.connect() as connection:
        return revision_of(connection)


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the database, or `None` before the first one.

    Args:
        connection: A connection to the database.

    Raises:
        MigrationRefused: The database has more than one revision.
    """
    with translated_errors():
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "version_table_schema": "public"}
        )
        return context.get_current_revision()


def newest() -> str | None:
    """Return the newest revision of this version of the package."""
    with alembic_run():
        return ScriptDirectory.from_config(alembic_config()).get_current_head()


def is_known(revision: str) -> bool:
    """Return whether this version of the package has a revision; a newer version may have migrated the database.

    Args:
        revision: The id of the revision; text of more than 100 characters is unknown.
    """
    if plain_text(revision, MAX_REVISION_CHARACTERS) is None:
        return False
    with alembic_run():
        return knows(ScriptDirectory.from_config(alembic_config()), revision)


def check(database: Database) -> None:
    """Compare the database with the newest revision, and with the models as far as Alembic does.

    Alembic compares tables, columns with their type, default and NOT NULL, indexes and their columns, unique
    constraints and foreign keys. It ignores CHECK constraints, partitions, collations, and the predicates of partial
    indexes. It compares only the tables of this package; of those it also reports the columns and indexes that a
    service has added. It also finds settings of the database and its logins with which the service fails, and missing
    or disabled triggers and wrong privileges of PUBLIC and the service's logins. Takes no lock, so it does not wait for
    a deployment.

    Args:
        database: The database to compare.

    Raises:
        MigrationRefused: A newer version of the package has migrated the database.
        SchemaDiffers: The error lists the differences.
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    revision, head = current(database), newest()
    if revision is not None and not is_known(revision):
        raise MigrationRefused(newer_version_message(revision))
    if revision != head:
        state = f"is at revision {revision}" if revision else "has no revision"
        raise SchemaDiffers(f"the database {state}, the newest is {head}: run registration-persistence migrate")
    differences: tuple[str, ...] = ()
    try:
        with alembic_run():
            command.check(alembic_config(database))
    except SchemaDiffers as error:
        differences = error.differences
    with schema_connection(database, name="schema") as connection:
        settings = unsuitable_settings(connection, proxied=database.settings.pool == "proxy")
        protection = missing_protection(connection)
    if differences or settings or protection:
        heading = DIFFERS if differences else UNSUITABLE_SETTINGS if settings else MISSING_PROTECTION
        raise SchemaDiffers(heading, (*differences, *settings, *protection))
