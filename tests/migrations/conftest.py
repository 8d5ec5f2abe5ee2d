"""A migrated database that the tests of the schema share, and empty ones."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from migration_commands import NewDatabase, opened
from psycopg import sql
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


@pytest.fixture
def new_role(postgres_server: PostgresServer) -> Iterator[Callable[[str], str]]:
    """Creates an owner role without login, and makes the login a member of it."""
    roles = []

    def create(name: str) -> str:
        with postgres_server.connect() as connection:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            roles.append(name)
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(name), sql.Identifier(LOGIN)))
        return name

    yield create
    with postgres_server.connect() as connection:
        for role in roles:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def new_database(
    postgres_server: PostgresServer,
    migrated_template: DatabaseSettings,
    new_role: Callable[[str], str],  # noqa: ARG001 databases are dropped before their owner
) -> Iterator[NewDatabase]:
    """Creates an empty database that belongs to the login or to another role."""
    names = []

    def create(owner: str = LOGIN) -> DatabaseSettings:
        names.append(f"migrations_{secrets.token_hex(8)}")
        postgres_server.create_database(names[-1], owner=owner)
        return replace(migrated_template, name=names[-1])

    yield create
    for name in names:
        postgres_server.drop_database(name)


@pytest.fixture
def empty(new_database: NewDatabase) -> Iterator[Database]:
    """An empty database."""
    with opened(new_database()) as database:
        yield database
