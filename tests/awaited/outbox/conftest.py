"""Fixtures of the tests of `AsyncOutboxWorker`."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from outbox_queue import Queue

from registration_persistence import AsyncDatabase, Database, DatabaseSettings


@pytest.fixture
def queue(database: Database) -> Queue:
    """The outbox of the test's own database."""
    return Queue(database)


@pytest.fixture
def one_connection(database_settings: DatabaseSettings) -> Iterator[AsyncDatabase]:
    """A database with one connection, so that a call of `deliver` inside a session of the worker would wait for it."""
    made = AsyncDatabase(replace(database_settings, pool="lambda"))
    yield made
    made.close_idle()
