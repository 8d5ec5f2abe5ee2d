"""Fixtures of the tests of `AsyncDatabase`."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias

import psycopg
import pytest

from registration_persistence import AsyncDatabase, CredentialSource, DatabaseSettings
from registration_persistence.sandbox import PostgresServer

MakeAsyncDatabase: TypeAlias = Callable[..., AsyncDatabase]


@pytest.fixture
def make(database_settings: DatabaseSettings) -> Iterator[MakeAsyncDatabase]:
    """Create an `AsyncDatabase` with changed settings, which is closed at the end of the test."""
    with ExitStack() as databases:

        def made(credentials: CredentialSource | None = None, **changes: Any) -> AsyncDatabase:
            database = AsyncDatabase(dataclasses.replace(database_settings, **changes), credentials)
            databases.callback(database.abort_connections)
            return database

        yield made


@pytest.fixture
def observer(
    postgres_server: PostgresServer, database_settings: DatabaseSettings
) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection of an administrator to the database of the test, in autocommit."""
    with postgres_server.connect(database_settings.name) as connection:
        yield connection
