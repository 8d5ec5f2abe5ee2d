"""The fixtures, as a pytest plugin: `pytest_plugins = ["registration_persistence.testing.plugin"]`."""

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest

from registration_persistence import schema
from registration_persistence.database import Database, DatabaseSettings
from registration_persistence.local import LocalSecretsManager, PostgresAddress
from registration_persistence.testing.servers import open_server

# Of this run alone: the server may be shared, and may have roles that others use.
_RUN = secrets.token_hex(4)
LOGIN = f"registration_app_{_RUN}"
_TEMPLATE = f"registration_template_{_RUN}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresAddress]:
    """A PostgreSQL server, the first kind of `servers.KINDS` that is there."""
    with open_server() as address:
        yield address


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresAddress) -> Iterator[DatabaseSettings]:
    """A database that the real migrations made, for others to be copied from."""
    password = secrets.token_urlsafe(16)
    postgres_server.create_login(LOGIN, password)
    postgres_server.create_database(_TEMPLATE, owner=LOGIN)
    settings = DatabaseSettings(
        environment="test",
        host=postgres_server.host,
        port=postgres_server.port,
        name=_TEMPLATE,
        user=LOGIN,
        password=password,
        sslmode="prefer",
    )
    database = Database(settings)
    schema.upgrade(database)
    database.dispose()
    yield settings
    postgres_server.drop_database(_TEMPLATE)
    with postgres_server.connect() as connection:
        connection.execute(f"DROP ROLE {LOGIN}")


@pytest.fixture
def database_settings(
    postgres_server: PostgresAddress, migrated_template: DatabaseSettings
) -> Iterator[DatabaseSettings]:
    """The settings of a migrated, empty database of the test's own."""
    name = f"registration_{secrets.token_hex(8)}"
    postgres_server.create_database(name, owner=LOGIN, template=_TEMPLATE)
    yield replace(migrated_template, name=name)
    postgres_server.drop_database(name)


@pytest.fixture
def database(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A `Database` on `database_settings`."""
    made = Database(database_settings)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def secrets_manager_server() -> Iterator[LocalSecretsManager]:
    """A Secrets Manager for the whole run; `secrets_manager` points the AWS SDK at it."""
    with LocalSecretsManager() as server:
        yield server


@pytest.fixture
def secrets_manager(
    secrets_manager_server: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> LocalSecretsManager:
    """A Secrets Manager that the AWS SDK finds in the environment; its calls are counted from nothing."""
    for name, value in secrets_manager_server.environment.items():
        monkeypatch.setenv(name, value)
    secrets_manager_server.calls.clear()
    return secrets_manager_server
