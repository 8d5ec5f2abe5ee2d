"""`AsyncOutboxWorker`: delivers the messages of the outbox with an async function, several at a time."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.util.concurrency import await_, greenlet_spawn

from registration_persistence.database.async_database import AsyncDatabase, awaited_part
from registration_persistence.domain.validation import checked_duration
from registration_persistence.durations import Duration
from registration_persistence.errors import InvalidInput
from registration_persistence.outbox_worker.concurrent_delivery import (
    AsyncDeliver,
    AsyncDeliverBatch,
    ConcurrentDelivery,
)
from registration_persistence.outbox_worker.delivery_loop import MAX_BATCH_MESSAGES, Acknowledge, DeliveryLoop

T = TypeVar("T")

_DEFAULT_MESSAGES_PER_CALL = 10


class AsyncOutboxWorker:
    """Claims messages, calls an async function with several at a time, and deletes each when its call has returned.

    It is an `OutboxWorker` whose waits let other tasks run: the same claims, retries, dead letters and pauses, and one
    connection of the database. A message stays in the outbox until its call has returned, so none is lost if the worker
    is killed. If a call raises, its message waits with exponential back-off, and after *max_attempts* it becomes a dead
    letter. A crash of the worker uses up an attempt, too. After three unreported attempts a message counts as a poison
    message: each batch delivers at most one, alone and last. A call starts only in the first 90 % of the lease, and the
    messages that have not been tried are released then. A call that is still running when the lease ends is cancelled,
    and counts as failed with a `TimeoutError`: another worker may deliver its message from then on, and a call that
    never ends would keep its place for good. The worker notices the end of a lease even if the event loop or the
    process stood still in between.

    If the task of the worker is cancelled, the running calls are cancelled and awaited, the messages that were
    delivered are deleted and those that were not tried are released, in at most two seconds. The messages of the
    cancelled calls are delivered again after their lease.

    If *pause_after* different messages fail in a row, the deliveries are paused, because the cause is probably not in
    the messages. After the pause a few messages are tried, and a trial that fails uses up no attempt. The state of the
    pause belongs to this object. One task at a time can run it; any number of workers may run at the same time. It
    needs the extra `async`.

    Durations are a `timedelta` or a number of seconds.

    Args:
        database: The database of the outbox.
        deliver: An `async def` function, called with each message in a task of its own, outside of any transaction. The
            outbox and the log get the class of its exception alone, because errors of mail servers quote mailboxes. It
            may raise `Undeliverable` with a reason, to give the message up at once.
        concurrency: The maximum number of calls that run at a time, 1 to 1000, and at most *batch*. Defaults to 10.
        takes_batch: Whether *deliver* is called with a tuple of all messages of a batch, which are then deleted
            together; one such call runs at a time, whatever *concurrency* is. It returns `None`, or a mapping from the
            event ids of the messages that were not delivered to their exceptions. An exception that it raises counts
            for each message of the batch. Defaults to `False`.
        acknowledge: When delivered messages are deleted. `message`, the default, deletes each at once, together with
            others that were delivered during the last deletion; a worker that is killed redelivers at most
            *concurrency* messages. `batch` deletes together what was delivered in 0.1 seconds, and before a poison
            message is tried, and at the end of the batch, which `run` does together with the next claim; a worker that
            is killed redelivers those, and the *concurrency* messages of the running calls, at most *batch*.
        batch: The maximum number of messages to claim at once, *concurrency* to 1000. The next batch is claimed when
            the last call of a batch has returned. Defaults to `None`, which is ten times *concurrency*, at most 1000.
        lease: How long other workers cannot claim the messages of a batch; more than 0, at most ten years. Choose a
            time that is longer than the calls for the whole batch. Defaults to one minute.
        max_attempts: The number of attempts after which a message is given up, 1 to 10,000. Defaults to 10.
        first_delay: How long a message waits after its first failure; more than 0, at most *longest_delay*. It doubles
            with each further failure, and each delay is varied by up to ±50 % at random. Defaults to 5 seconds.
        longest_delay: The maximum of this delay before the variation; *first_delay* to 365 days. Defaults to one hour.
        pause_after: The number of different messages that fail in a row before the deliveries are paused, 1 to 10,000.
            Defaults to 5.
        longest_pause: The maximum of the pauses; more than 0, at most ten years. The first pause is one second or this
            maximum, each further one is twice as long, and each is reduced by up to 50 % at random. Defaults to one
            minute.

    Attributes:
        counts: The number of messages that this worker has `delivered`, `retried`, `buried` and `released`.

    Raises:
        InvalidInput: An argument is out of its range, or *deliver* is not an async function.
    """

    def __init__(
        self,
        database: AsyncDatabase,
        deliver: AsyncDeliver | AsyncDeliverBatch,
        *,
        concurrency: int = 10,
        takes_batch: bool = False,
        acknowledge: Acknowledge = "message",
        batch: int | None = None,
        lease: Duration = timedelta(minutes=1),
        max_attempts: int = 10,
        first_delay: Duration = timedelta(seconds=5),
        longest_delay: Duration = timedelta(hours=1),
        pause_after: int = 5,
        longest_pause: Duration = timedelta(minutes=1),
    ) -> None:
        if not isinstance(database, AsyncDatabase):
            kind = type(database).__name__
            raise InvalidInput(
                f"database is of type {kind[:100]}: expected an AsyncDatabase, for example get_async_db()"
            )
        awaited, self._enter_loop = awaited_part(database)
        self._delivery = ConcurrentDelivery(deliver, takes_batch=takes_batch, concurrency=concurrency)
        self._loop = DeliveryLoop(
            awaited,
            self._delivery,
            acknowledge=acknowledge,
            batch=min(_DEFAULT_MESSAGES_PER_CALL * concurrency, MAX_BATCH_MESSAGES) if batch is None else batch,
            lease=lease,
            max_attempts=max_attempts,
            first_delay=first_delay,
            longest_delay=longest_delay,
            pause_after=pause_after,
            longest_pause=longest_pause,
        )
        if batch is not None and not takes_batch and batch < concurrency:
            raise InvalidInput(
                f"concurrency is {concurrency} and batch is {batch}: expected a batch of at least {concurrency} "
                "messages, because the messages of one batch are delivered at a time"
            )
        self.counts: Counter[str] = self._loop.settlement.counts
        self._loop_in_use: asyncio.AbstractEventLoop | None = None

    async def run_once(self, stop: asyncio.Event | None = None) -> int:
        """Claim one batch and deliver it.

        Args:
            stop: Set this event to start no more calls, and to release the rest of the batch. Defaults to `None`, which
                delivers the whole batch.

        Returns:
            The number of messages that were claimed; 0 means that no message is due, or that the deliveries are paused.

        Raises:
            InvalidInput: *stop* is not an `asyncio.Event`, and nothing was sent; or the function returned a coroutine
                or a generator, or, if it takes batches, neither `None` nor a mapping from event ids of the batch to
                exceptions.
            RegistrationPersistenceError: The database failed; no message is lost.
            RuntimeError: Another task runs this worker, or another event loop uses the database.
        """
        stopping = _AwaitedStop(asyncio.Event() if stop is None else stop)
        return await self._in_greenlet(stopping, lambda: self._loop.run_once(stopping))

    async def run(self, stop: asyncio.Event, *, poll: Duration = 1.0) -> None:
        """Deliver until *stop* is set, and finish the running calls. Waits while the database cannot be reached.

        Args:
            stop: Set this event in a task or with `loop.add_signal_handler(SIGTERM, stop.set)`; another thread uses
                `loop.call_soon_threadsafe(stop.set)`.
            poll: How long to wait if fewer messages than a full batch are due, as a `timedelta` or in seconds; 0 to
                ten years. Defaults to one second.

        Raises:
            InvalidInput: *poll* is out of its range, or *stop* is not an `asyncio.Event`; nothing was sent.
            RegistrationPersistenceError: The database failed, and the error is not one that a retry can resolve.
            RuntimeError: Another task runs this worker, or another event loop uses the database.
        """
        wait, stopping = checked_duration("poll", poll, zero_is_allowed=True), _AwaitedStop(stop)
        await self._in_greenlet(stopping, lambda: self._loop.run(stopping, wait))

    async def _in_greenlet(self, stop: "_AwaitedStop", function: Callable[[], T]) -> T:
        """Call *function* in SQLAlchemy's greenlet, and notice when *stop* is set during a delivery."""
        loop = asyncio.get_running_loop()
        # If a loop was closed without cancelling its tasks, they will never run again.
        if self._loop_in_use is not None and not self._loop_in_use.is_closed():
            raise RuntimeError("another task runs this AsyncOutboxWorker: create a worker for each task")
        self._enter_loop()
        self._loop_in_use = loop
        watcher = asyncio.create_task(stop.event.wait())
        watcher.add_done_callback(lambda _ended: self._delivery.wake_up())
        try:
            result = await greenlet_spawn(function)
        except GeneratorExit:  # the loop was closed
            raise
        except BaseException:
            await self._leave(watcher)
            raise
        await self._leave(watcher)
        if not watcher.cancelled():
            watcher.result()  # raises if the event belongs to another event loop
        return result

    async def _leave(self, watcher: asyncio.Task[object]) -> None:
        self._loop_in_use = None
        watcher.cancel()
        await asyncio.wait([watcher])


class _AwaitedStop:
    """An `asyncio.Event` that ends a delivery loop, whose waits are awaited in SQLAlchemy's greenlet."""

    def __init__(self, event: asyncio.Event) -> None:
        if not isinstance(event, asyncio.Event):
            raise InvalidInput(f"stop is of type {type(event).__name__[:100]}: expected an asyncio.Event")
        self.event = event

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, timeout: float) -> object:
        return await_(self._wait(timeout))

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.event.wait()
