"""The schema is the same on each version of PostgreSQL."""

from pathlib import Path

from schema_dump import schema_dump

from registration_persistence import DatabaseSettings

REFERENCE = Path(__file__).with_name("reference_dump.sql")


def test_the_migrations_create_the_schema_of_the_reference(migrated_template: DatabaseSettings, tmp_path: Path) -> None:
    """The file is the dump on PostgreSQL 15 to 18; a revision changes it."""
    dump = tmp_path / REFERENCE.name
    dump.write_text(schema_dump(migrated_template))

    assert REFERENCE.read_text() == dump.read_text(), f"if the change is intended: cp {dump} {REFERENCE}"
