"""`ConcurrentDelivery`: calls the service's async function with several messages at a time, in tasks of its own."""

import asyncio
import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy.util.concurrency import await_

from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import checked_number
from registration_persistence.errors import InvalidInput
from registration_persistence.outbox_worker.delivery import (
    Batch,
    Failures,
    checked_failures,
    checked_takes_batch,
    failures_of_all,
)
from registration_persistence.outbox_worker.delivery_window import DeliveryWindow

MAX_CONCURRENCY = 1000
"""The maximum of *concurrency*."""

AsyncDeliver: TypeAlias = Callable[[OutboxMessage], Awaitable[object]]
"""Delivers one message, or raises."""

AsyncDeliverBatch: TypeAlias = Callable[[Sequence[OutboxMessage]], Awaitable[Mapping[UUID, Exception] | None]]
"""Delivers all messages of a batch, and returns the exceptions of those that were not delivered, by event id."""

# A task is one call of the service's function. Its result is `None` if the call did not start in time.
_Tasks: TypeAlias = dict[asyncio.Task[Failures | None], Sequence[OutboxMessage]]


class ConcurrentDelivery:
    """Calls *deliver* with up to *concurrency* groups at a time, inside SQLAlchemy's greenlet.

    Only the calls are tasks of their own. All statements are sent by the task that calls `deliver`, so the number of
    messages that are being delivered, or were delivered and are not deleted yet, never exceeds *concurrency*.

    Raises:
        InvalidInput: *deliver* is not an async function, or another argument is out of its range.
    """

    def __init__(self, deliver: AsyncDeliver | AsyncDeliverBatch, *, takes_batch: bool, concurrency: int) -> None:
        if not _is_async(deliver):
            raise InvalidInput(
                "deliver must be an `async def` function: a plain function needs OutboxWorker, or an async function "
                "that calls it with asyncio.to_thread"
            )
        self._deliver: Callable[[Any], Awaitable[object]] = deliver
        self.takes_batch: bool = checked_takes_batch(takes_batch)
        self.concurrency: int = checked_number("concurrency", concurrency, 1, MAX_CONCURRENCY)
        # The tasks that have ended; `None` only ends the wait for them.
        self._ended: asyncio.Queue[asyncio.Task[Failures | None] | None] = asyncio.Queue()

    def wake_up(self) -> None:
        """End the wait for a task, because the window may be over."""
        self._ended.put_nowait(None)

    def deliver(self, batch: Batch, window: DeliveryWindow) -> None:
        """Deliver the groups; after an error, end the calls that are running, and note what they have delivered.

        If the database fails, the running calls finish, because they have nothing to do with it. If the task is
        cancelled, they are cancelled, too.
        """
        self._ended = asyncio.Queue()  # it may have been used in an event loop that has ended
        running: _Tasks = {}
        try:
            self._deliver_groups(batch, window, running)
        except GeneratorExit:  # the event loop has ended, and so have the calls
            raise
        except BaseException as error:
            try:
                await_(_end(running, cancel=not isinstance(error, Exception)))
            finally:
                _note_delivered(running, batch)
            raise

    def _deliver_groups(self, batch: Batch, window: DeliveryWindow, running: _Tasks) -> None:
        while batch.waiting or running:
            if window.is_over():
                batch.release_waiting()
            while batch.waiting and len(running) < self.concurrency:
                self._start(batch.waiting.popleft(), window, running)
            # The rest is released in time, and a delivered message does not wait for a long call.
            limit = min(window.seconds_to_start if batch.waiting else math.inf, batch.seconds_until_deletion)
            for task in await_(self._next(limit)) if running else ():
                failures = task.result()
                group = running.pop(task)
                if failures is None:
                    batch.waiting.append(group)
                else:
                    batch.settle(group, failures)
            batch.flush()

    def _start(self, group: Sequence[OutboxMessage], window: DeliveryWindow, running: _Tasks) -> None:
        task = asyncio.create_task(self._failures(group, window))
        task.add_done_callback(self._ended.put_nowait)
        running[task] = group

    async def _next(self, seconds: float) -> Iterable[asyncio.Task[Failures | None]]:
        """Wait until a task ends, at most *seconds*, and return those that have ended."""
        ended = []
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                ended.append(await self._ended.get())
        while not self._ended.empty():
            ended.append(self._ended.get_nowait())
        return [task for task in ended if task is not None]

    async def _failures(self, messages: Sequence[OutboxMessage], window: DeliveryWindow) -> Failures | None:
        """Deliver the messages, and return the exceptions of those that were not delivered, by event id.

        The call is cancelled at the end of the lease: another worker may deliver the messages then, and a call that
        never ends would keep its place for good.

        Returns:
            `None` if the window was over before the call, for example because another call has blocked the event loop.

        Raises:
            InvalidInput: The function returned something else than it may return.
        """
        if window.is_over():
            return None
        try:
            async with asyncio.timeout(window.seconds_to_finish):
                result = await self._deliver(tuple(messages) if self.takes_batch else messages[0])
        except Exception as error:  # noqa: BLE001 whatever the service's function raises
            return failures_of_all(messages, error)
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            return failures_of_all(messages, error)  # the function has awaited something that was cancelled
        return checked_failures(result, messages, takes_batch=self.takes_batch)


def _is_async(function: object) -> bool:
    """Return whether a call of *function* creates a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    return any(inspect.iscoroutinefunction(called) for called in (function, type(function).__call__))


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _end(running: _Tasks, *, cancel: bool) -> None:
    """Wait for the end of the tasks.

    Args:
        running: The tasks.
        cancel: Whether they are cancelled; they are also if this wait is cancelled.
    """
    if not running:
        return
    if cancel:
        _cancel(running)
    try:
        await asyncio.wait(running)
    except asyncio.CancelledError:
        _cancel(running)
        await asyncio.wait(running)
        raise


def _cancel(tasks: _Tasks) -> None:
    for task in tasks:
        task.cancel()


def _note_delivered(ended: _Tasks, batch: Batch) -> None:
    """Settle the messages that were delivered, and put back those that were not tried; the others stay leased."""
    for task, group in ended.items():
        if not task.done() or task.cancelled() or task.exception() is not None:
            continue
        failures = task.result()
        if failures is None:
            batch.waiting.append(group)
        else:
            batch.settle([message for message in group if message.event_id not in failures], {})
