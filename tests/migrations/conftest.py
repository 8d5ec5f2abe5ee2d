"""A migrated database that the tests of the schema share."""

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, Engine

from registration_persistence import Database, DatabaseSettings
from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing.plugin import LOGIN


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresServer, migrated_template: DatabaseSettings) -> Iterator[Engine]:
    """A migrated database for all tests that roll back."""
    name = f"migrations_{secrets.token_hex(8)}"
    postgres_server.create_database(name, owner=LOGIN, template=migrated_template.name)
    database = Database(replace(migrated_template, name=name))
    yield database.engine
    database.dispose()
    postgres_server.drop_database(name)


@pytest.fixture
def connection(migrated: Engine) -> Iterator[Connection]:
    """A connection to a migrated database; its transaction is rolled back."""
    with migrated.connect() as connection:
        yield connection
