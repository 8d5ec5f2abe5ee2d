"""Fixtures: the server and the databases of the commands."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import LOGIN, open_command_server, variables
from workspace import Workspace

from registration_persistence import Database, DatabaseSettings, schema
from registration_persistence.sandbox import PostgresServer

TEMPLATE = "command_template"


@pytest.fixture(scope="session", name="command_server")
def started_command_server() -> Iterator[PostgresServer]:
    """A server with a login for the command, and with a migrated database to copy."""
    with open_command_server() as server:
        server.create_database(TEMPLATE, owner=LOGIN)
        database = Database(DatabaseSettings.from_env(variables(server.port, TEMPLATE)))
        schema.upgrade(database)
        database.dispose()
        yield server


@pytest.fixture
def empty_database(command_server: PostgresServer) -> Iterator[dict[str, str]]:
    """The variables of an empty database."""
    name = f"command_{secrets.token_hex(8)}"
    command_server.create_database(name, owner=LOGIN)
    yield variables(command_server.port, name)
    command_server.drop_database(name)


@pytest.fixture
def workspace(command_server: PostgresServer, tmp_path: Path) -> Iterator[Workspace]:
    """An empty folder, and a migrated database without registrations."""
    name = f"workspace_{secrets.token_hex(8)}"
    command_server.create_database(name, owner=LOGIN, template=TEMPLATE)
    environ = variables(command_server.port, name)
    database = Database(DatabaseSettings.from_env(environ))
    yield Workspace(tmp_path, environ, database)
    database.dispose()
    command_server.drop_database(name)
