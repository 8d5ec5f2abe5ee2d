"""The fixtures of tests that await: they are plain fixtures, because connections belong to no event loop.

Thus they need no plugin for asynchronous tests, and work with each one, whatever the scope of its event loops is.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from registration_persistence.database import Database, DatabaseSettings

# A suite of synchronous tests does not need SQLAlchemy's asyncio extension, which needs greenlet.
if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

    from registration_persistence.database.async_database import AsyncDatabase

T = TypeVar("T")


@pytest.fixture
def async_database(database_settings: DatabaseSettings) -> "Iterator[AsyncDatabase]":
    """An `AsyncDatabase` on a migrated, empty database, which only this test uses; it needs the extra `async`."""
    from registration_persistence.database.async_database import AsyncDatabase

    own_database = AsyncDatabase(database_settings)
    yield own_database
    own_database.close_idle()


@pytest.fixture(scope="session")
def async_rolled_back_database(rolled_back_database: Database) -> "Iterator[AsyncDatabase]":
    """The database of every `async_isolated_session`: that of `isolated_session`, which stays empty."""
    from registration_persistence.database.async_database import AsyncDatabase

    shared_database = AsyncDatabase(rolled_back_database.settings)
    yield shared_database
    shared_database.close_idle()


@pytest.fixture
def async_isolated_session(
    async_rolled_back_database: "AsyncDatabase",
    isolated_variables: None,  # noqa: ARG001 its effect
) -> "Iterator[AsyncSession]":
    """An `AsyncSession` on a migrated, empty database that is rolled back; it needs the extra `async`.

    The code may commit and roll back. For the server, the test is one transaction: `now()` does not advance, and other
    connections do not see its changes. A repository is called through `run_sync` of the session.
    """
    from sqlalchemy.ext.asyncio import AsyncSession

    connection = _result_of(_begin(async_rolled_back_database.engine))
    session = AsyncSession(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")
    yield session
    _result_of(_roll_back(session, connection))


async def _begin(engine: "AsyncEngine") -> "AsyncConnection":
    connection = await engine.connect()
    await connection.begin()
    return connection


async def _roll_back(session: "AsyncSession", connection: "AsyncConnection") -> None:
    try:
        await session.close()
        await connection.rollback()
    finally:
        await connection.close()


def _result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of *coroutine*, which runs in a thread, because an event loop may be running in this one."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, coroutine).result()
