"""The table that records the revision of the database, beside the `alembic_version` of a service."""

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from registration_persistence.schema.grants import apply_grants

# Development versions recorded their two revisions in Alembic's default table, which a service may use, too.
_FORMER_REVISIONS = ("652c73ea87d7", "b41d5e0c92fa")
_INITIAL_REVISION = "2dcca3bc26eb"

_FORMER_TABLE_IS_READABLE = text("""
SELECT has_table_privilege(attrelid, 'SELECT') FROM pg_attribute
WHERE attrelid = to_regclass('alembic_version') AND attname = 'version_num' AND NOT attisdropped
""")
_FORMER_REVISION = text("SELECT version_num FROM alembic_version WHERE version_num = ANY(:revisions)")
_FORGET_REVISION = text("DELETE FROM alembic_version WHERE version_num = :revision")
_IS_EMPTY = text("SELECT NOT EXISTS (SELECT FROM alembic_version)")
_DROP_FORMER_TABLE = text("DROP TABLE alembic_version")


def adopt_former_version(context: MigrationContext, script: ScriptDirectory) -> None:
    """Move the revision of a development version from `alembic_version` to our own table.

    Removes only our row. Drops the table if nothing else is in it, because a service that is deployed later may not
    have privileges on it; Alembic creates it again.

    Args:
        context: The configured context, with a connection in a transaction.
        script: The folder of the revisions.

    Raises:
        CommandError: The database is at the first revision of the development versions.
    """
    connection = context.connection
    assert connection is not None
    if context.get_current_heads() or not (revision := _former_revision(connection)):
        return
    if revision != _FORMER_REVISIONS[-1]:
        raise CommandError(
            f"the database is at revision {revision} of a development version, which this version cannot upgrade: "
            f"upgrade it to {_FORMER_REVISIONS[-1]} with that version first, or create a new database"
        )
    context.stamp(script, _INITIAL_REVISION)
    connection.execute(_FORGET_REVISION, {"revision": revision})
    if connection.scalar(_IS_EMPTY):
        connection.execute(_DROP_FORMER_TABLE)
    apply_grants(connection)


def reject_newer_version(context: MigrationContext, script: ScriptDirectory) -> None:
    """Reject a database that a newer version of the package has migrated.

    Args:
        context: The configured context.
        script: The folder of the revisions.

    Raises:
        CommandError: The database is at a revision that is not in the folder.
    """
    if context.purge:
        return
    for revision in context.get_current_heads():
        if not knows(script, revision):
            raise CommandError(newer_version_message(revision))


def knows(script: ScriptDirectory, revision: str) -> bool:
    """Return whether a revision is in the folder."""
    return any(revision == known.revision for known in script.walk_revisions())


def newer_version_message(revision: str) -> str:
    """Return the error of a database at an unknown revision."""
    return (
        f"the database is at revision {revision}, which this version does not know: it is newer; install the version "
        "of this package that upgraded it"
    )


def _former_revision(connection: Connection) -> str | None:
    if not connection.scalar(_FORMER_TABLE_IS_READABLE):
        return None
    revision: str | None = connection.scalar(_FORMER_REVISION, {"revisions": list(_FORMER_REVISIONS)})
    return revision
