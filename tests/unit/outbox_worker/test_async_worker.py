"""`AsyncOutboxWorker`: its arguments, which are checked without a database."""

import asyncio
import functools
import math
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from registration_persistence import AsyncDatabase, AsyncOutboxWorker, Database, DatabaseSettings, OutboxWorker
from registration_persistence.errors import InvalidInput
from registration_persistence.outcomes import OutboxMessage

SETTINGS = DatabaseSettings(environment="test", host="nowhere.invalid", name="x", user="x", password="x")


@pytest.fixture
def database() -> AsyncDatabase:
    """A database that does not exist."""
    return AsyncDatabase(SETTINGS)


class Mailer:
    """A service with an async `deliver` function."""

    async def deliver(self, _message: OutboxMessage) -> None:
        """Deliver nothing."""

    async def __call__(self, _message: OutboxMessage) -> None:
        """Deliver nothing."""


async def coroutine(_message: OutboxMessage) -> None:
    """Deliver nothing."""


def plain(_message: OutboxMessage) -> None:
    """Deliver nothing."""


def generator(_message: OutboxMessage) -> Iterator[None]:
    """Deliver nothing."""
    yield


async def async_generator(_message: OutboxMessage) -> AsyncIterator[None]:
    """Deliver nothing."""
    yield


@pytest.mark.parametrize("deliver", [coroutine, functools.partial(coroutine), Mailer().deliver, Mailer()])
def test_async_functions_are_accepted(database: AsyncDatabase, deliver: Any) -> None:
    """A method, a partial and a callable object are, too; the synchronous worker refuses each, and names this one."""
    assert AsyncOutboxWorker(database, deliver).counts == {}
    with pytest.raises(InvalidInput, match="AsyncOutboxWorker"):
        OutboxWorker(Database(SETTINGS), deliver)


@pytest.mark.parametrize(
    "deliver",
    [plain, functools.wraps(plain)(lambda _message: None), generator, async_generator, Mailer, None, "mail:deliver"],
)
def test_other_functions_are_rejected(database: AsyncDatabase, deliver: Any) -> None:
    """The error says what to use instead."""
    with pytest.raises(InvalidInput, match="deliver must be an `async def` function: a plain function needs Outbox"):
        AsyncOutboxWorker(database, deliver)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1001}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": 2.0}, "concurrency"),
        ({"concurrency": None}, "concurrency"),
        ({"concurrency": 11, "batch": 10}, "expected a batch of at least 11"),
        ({"batch": 9}, "expected a batch of at least 10"),
        ({"batch": 0}, "batch"),
        ({"batch": 1001}, "batch"),
        ({"lease": math.nan}, "lease"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"first_delay": 0}, "first_delay"),
        ({"longest_delay": 1}, "first_delay"),
        ({"pause_after": 0}, "pause_after"),
        ({"longest_pause": 0}, "longest_pause"),
        ({"acknowledge": "never"}, "acknowledge"),
        ({"takes_batch": 1}, "takes_batch"),
    ],
)
def test_invalid_arguments_are_rejected(database: AsyncDatabase, arguments: dict[str, Any], problem: str) -> None:
    """The error names the argument."""
    with pytest.raises(InvalidInput, match=problem):
        AsyncOutboxWorker(database, coroutine, **arguments)


def test_a_batch_that_is_one_call_may_be_small(database: AsyncDatabase) -> None:
    """With `takes_batch`, `concurrency` has no effect."""
    assert AsyncOutboxWorker(database, coroutine, takes_batch=True, batch=1).counts == {}


def test_each_worker_needs_its_own_kind_of_database(database: AsyncDatabase) -> None:
    """The errors name the other kind."""
    synchronous: Any = Database(SETTINGS)
    asynchronous: Any = database
    with pytest.raises(InvalidInput, match="of type Database: expected an AsyncDatabase"):
        AsyncOutboxWorker(synchronous, coroutine)
    with pytest.raises(InvalidInput, match="of type AsyncDatabase: expected a Database; AsyncDatabase needs Async"):
        OutboxWorker(asynchronous, plain)


@pytest.mark.parametrize("stop", [threading.Event(), True])
def test_the_stop_must_be_an_event_of_asyncio(database: AsyncDatabase, stop: Any) -> None:
    """The wait for an event of a thread would block the event loop."""
    worker = AsyncOutboxWorker(database, coroutine)
    for call in (worker.run, worker.run_once):
        with pytest.raises(InvalidInput, match=r"expected an asyncio\.Event"):
            asyncio.run(call(stop))
    with pytest.raises(InvalidInput, match="poll"):
        asyncio.run(worker.run(asyncio.Event(), poll=-1))
