"""The fixtures, as a pytest plugin: `pytest_plugins = ["registration_persistence.testing.plugin"]`."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer
from registration_persistence.testing.faults import (
    cluster,
    drop_packets,
    fail_over,
    fill_slots,
    freeze,
    isolated_network,
    lambda_process,
    read_only,
    registration_environment,
    restart,
    rotate,
    secrets_manager_down,
    shared_cluster,
)
from registration_persistence.testing.servers import open_server
from registration_persistence.testing.template import LOGIN, TEMPLATE, copy_template, make_template

__all__ = [
    "LOGIN",
    "cluster",
    "database",
    "database_settings",
    "drop_packets",
    "fail_over",
    "fill_slots",
    "freeze",
    "isolated_network",
    "isolated_session",
    "lambda_process",
    "migrated_template",
    "postgres_server",
    "read_only",
    "registration_environment",
    "restart",
    "rolled_back_database",
    "rotate",
    "secrets_manager",
    "secrets_manager_down",
    "secrets_manager_server",
    "shared_cluster",
]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server, the first kind of `servers.KINDS` that is there."""
    with open_server() as address:
        yield address


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> Iterator[DatabaseSettings]:
    """A database that the real migrations made, for others to be copied from."""
    yield make_template(postgres_server)
    postgres_server.drop_database(TEMPLATE)
    with postgres_server.connect() as connection:
        connection.execute(f"DROP ROLE {LOGIN}")


@pytest.fixture
def database_settings(
    postgres_server: PostgresServer, migrated_template: DatabaseSettings
) -> Iterator[DatabaseSettings]:
    """The settings of a migrated, empty database of the test's own."""
    name = copy_template(postgres_server)
    yield replace(migrated_template, name=name)
    postgres_server.drop_database(name)


@pytest.fixture
def database(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A `Database` on `database_settings`."""
    made = Database(database_settings)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def rolled_back_database(postgres_server: PostgresServer, migrated_template: DatabaseSettings) -> Iterator[Database]:
    """The database of every `isolated_session`, which stays empty."""
    name = copy_template(postgres_server)
    made = Database(replace(migrated_template, name=name))
    yield made
    made.dispose()
    postgres_server.drop_database(name)


@pytest.fixture
def isolated_session(rolled_back_database: Database) -> Iterator[Session]:
    """A session on a migrated, empty database, of which nothing is kept: the fastest way to test a service's code.

    The code may commit and roll back as it likes, but all is one transaction to the server: `now()` stands still, and
    another connection sees nothing.
    """
    with rolled_back_database.engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()


@pytest.fixture(scope="session")
def secrets_manager_server() -> Iterator[LocalSecretsManager]:
    """A Secrets Manager for the whole run; `secrets_manager` points the AWS SDK at it."""
    with LocalSecretsManager() as server:
        yield server


@pytest.fixture
def secrets_manager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSecretsManager]:
    """A Secrets Manager that the AWS SDK finds in the environment; its calls are counted from nothing.

    In an `isolated_network` it is one of the test's own, since nothing outside is reached from there.
    """
    with ExitStack() as stack:
        server: LocalSecretsManager
        if "isolated_network" in request.fixturenames:
            request.getfixturevalue("isolated_network")
            server = stack.enter_context(LocalSecretsManager())
        else:
            server = request.getfixturevalue("secrets_manager_server")
            server.forget_calls()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
