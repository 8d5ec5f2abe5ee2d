"""The version table: its own name, and databases of the development versions, which used `alembic_version`."""

import pytest
from sqlalchemy import text

from registration_persistence import Database, schema
from registration_persistence.schema import VERSION_TABLE

FORMER_FIRST, FORMER_HEAD = "652c73ea87d7", "b41d5e0c92fa"
INITIAL = "2dcca3bc26eb"


def make_former(database: Database, *revisions: str) -> None:
    """Record *revisions* in `alembic_version` instead of our own table, with the schema of that time."""
    schema.downgrade(database, INITIAL)
    with database.engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
        for revision in revisions:
            connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})


def other_revisions(database: Database) -> list[str] | None:
    """Return the rows of `alembic_version`, or `None` if there is no such table."""
    with database.engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('alembic_version') IS NULL")):
            return None
        return sorted(connection.scalars(text("SELECT version_num FROM alembic_version")))


@pytest.mark.parametrize(
    ("recorded", "left"), [([FORMER_HEAD], None), ([FORMER_HEAD, "0123456789ab"], ["0123456789ab"])]
)
def test_a_former_version_is_moved(database: Database, recorded: list[str], left: list[str] | None) -> None:
    """The newest development revision is the initial revision; the table is dropped if only our row was in it."""
    make_former(database, *recorded)
    assert schema.current(database) is None

    assert schema.newest() == schema.upgrade(database)

    assert other_revisions(database) == left
    schema.check(database)
    assert schema.newest() == schema.upgrade(database)


def test_an_old_development_version_is_rejected(database: Database) -> None:
    """The first development revision is rejected with one error, and nothing is changed."""
    make_former(database, FORMER_FIRST)

    with pytest.raises(schema.MigrationRefused, match=f"is at revision {FORMER_FIRST} of a development version"):
        schema.upgrade(database)

    assert other_revisions(database) == [FORMER_FIRST]
    assert schema.current(database) is None


@pytest.mark.parametrize("columns", ["version_num varchar(32) PRIMARY KEY", "other text"])
def test_the_version_table_of_a_service_is_left_alone(database: Database, columns: str) -> None:
    """Migrations up and down leave `alembic_version` as it is, even if it is empty or has another form."""
    with database.engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE alembic_version ({columns})"))

    schema.downgrade(database, "base")
    schema.upgrade(database)

    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 0
