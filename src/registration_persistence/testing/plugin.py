"""The fixtures, as a pytest plugin: `pytest_plugins = ["registration_persistence.testing.plugin"]`."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer
from registration_persistence.sandbox.isolation import restore_exit_codes
from registration_persistence.testing.async_databases import (
    async_database,
    async_isolated_session,
    async_rolled_back_database,
)
from registration_persistence.testing.faults import (
    cluster,
    drop_packets,
    fail_over,
    fill_slots,
    freeze,
    isolated_network,
    isolated_variables,
    lambda_process,
    pause,
    read_only,
    reader,
    registration_environment,
    restart,
    rotate,
    secrets_manager_down,
    shared_cluster,
)
from registration_persistence.testing.missing import needs_test_extra
from registration_persistence.testing.servers import open_server
from registration_persistence.testing.template import LOGIN, TEMPLATE, MigrateService, copy_template, make_template

__all__ = [
    "LOGIN",
    "async_database",
    "async_isolated_session",
    "async_rolled_back_database",
    "cluster",
    "database",
    "database_settings",
    "drop_packets",
    "fail_over",
    "fill_slots",
    "freeze",
    "isolated_network",
    "isolated_session",
    "isolated_variables",
    "lambda_process",
    "migrate_service",
    "migrated_template",
    "pause",
    "postgres_server",
    "read_only",
    "reader",
    "registration_environment",
    "restart",
    "rolled_back_database",
    "rotate",
    "secrets_manager",
    "secrets_manager_down",
    "secrets_manager_server",
    "shared_cluster",
]


def pytest_configure() -> None:
    """Make the exit codes of servers known, also if the shell has left SIGCHLD ignored."""
    restore_exit_codes()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server: the one that `TEST_POSTGRES_URL` names, a container, the system's, or the embedded one.

    `TEST_POSTGRES_KIND` selects the kind: `named`, `container`, `system` or `embedded`. `TEST_POSTGRES_VERSION`
    selects the major version, such as 16.
    """
    with open_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrate_service() -> MigrateService:
    """Override this fixture to create the tables of your service in every database of the tests.

    Return a function that gets the `DatabaseSettings` of a database with the tables of this package, and that runs your
    migrations. It is called once for each server, and the databases of the tests are copies.
    """
    return lambda _settings: None


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer, migrate_service: MigrateService) -> Iterator[DatabaseSettings]:
    """The settings of a template database that the real migrations made; tests use copies of it."""
    try:
        yield make_template(postgres_server, migrate_service)
    finally:
        postgres_server.drop_database(TEMPLATE)
        with postgres_server.connect() as connection:
            connection.execute(f"DROP ROLE IF EXISTS {LOGIN}")


@pytest.fixture
def database_settings(
    postgres_server: PostgresServer,
    migrated_template: DatabaseSettings,
    isolated_variables: None,  # noqa: ARG001 its effect
) -> Iterator[DatabaseSettings]:
    """The settings of a migrated, empty database, which only this test uses."""
    name = copy_template(postgres_server)
    yield replace(migrated_template, name=name)
    postgres_server.drop_database(name)


@pytest.fixture
def database(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A `Database` on `database_settings`."""
    own_database = Database(database_settings)
    yield own_database
    own_database.dispose()


@pytest.fixture(scope="session")
def rolled_back_database(postgres_server: PostgresServer, migrated_template: DatabaseSettings) -> Iterator[Database]:
    """The database of every `isolated_session`, which stays empty."""
    name = copy_template(postgres_server)
    shared_database = Database(replace(migrated_template, name=name))
    yield shared_database
    shared_database.dispose()
    postgres_server.drop_database(name)


@pytest.fixture
def isolated_session(
    rolled_back_database: Database,
    isolated_variables: None,  # noqa: ARG001 its effect
) -> Iterator[Session]:
    """A session on a migrated, empty database that is rolled back: the fastest way to test a service's code.

    The code may commit and roll back. For the server, the test is one transaction: `now()` does not advance, and other
    connections do not see its changes.
    """
    with rolled_back_database.engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()


@pytest.fixture(scope="session")
def secrets_manager_server() -> Iterator[LocalSecretsManager]:
    """A Secrets Manager for all tests; `secrets_manager` makes the AWS SDK use it."""
    with ExitStack() as stack:
        with needs_test_extra():
            server = stack.enter_context(LocalSecretsManager())
        yield server


@pytest.fixture
def secrets_manager(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    isolated_variables: None,  # noqa: ARG001 its effect
) -> Iterator[LocalSecretsManager]:
    """A Secrets Manager that the AWS SDK uses; its counts of calls are 0 at the beginning of the test.

    A test with `isolated_network` has its own one, because it cannot reach servers outside of the namespace.
    """
    with ExitStack() as stack:
        server: LocalSecretsManager
        if "isolated_network" in request.fixturenames:
            request.getfixturevalue("isolated_network")
            with needs_test_extra():
                server = stack.enter_context(LocalSecretsManager())
        else:
            server = request.getfixturevalue("secrets_manager_server")
            server.forget_calls()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
