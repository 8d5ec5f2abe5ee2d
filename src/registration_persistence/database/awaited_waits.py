"""`AWAITED`: the waits of `AsyncDatabase`, each of which lets the other tasks of the event loop run."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import Any, ParamSpec, TypeVar
from weakref import ref

from sqlalchemy.util.concurrency import await_

from registration_persistence.database.awaited_connection import (
    AwaitedConnection,
    AwaitedTracedConnection,
    require_await,
)
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.waits import CallUnfinished, Turn, Waits

P = ParamSpec("P")
T = TypeVar("T")

AWAITED_DRIVER_NAME = "postgresql+psycopg_aurora_awaited"
"""The name of `AwaitedAuroraDialect` in a URL."""


class _WaitingTask:
    """A turn of a task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._has_come = self._loop.create_future()

    def wait(self, seconds: float) -> None:
        await_(self._wait(seconds))

    async def _wait(self, seconds: float) -> None:
        timer = self._loop.call_later(seconds, _end, self._has_come)
        try:
            await self._has_come
        finally:
            timer.cancel()

    def come(self) -> None:
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 the public function raises if there is none
            _end(self._has_come)
            return
        # If the loop was closed, its task does not wait any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_end, self._has_come)


class AwaitedWaits:
    """Waits inside SQLAlchemy's greenlet, which the task of the greenlet awaits.

    Args:
        enter_loop: Called in the event loop before each checkout of a connection. Defaults to a function without
            effect.
    """

    driver_name: str = AWAITED_DRIVER_NAME
    others_run: bool = True

    def __init__(self, enter_loop: Callable[[], None] = lambda: None) -> None:
        self._enter_loop = enter_loop

    def enter(self) -> None:
        """Let the running event loop use the connections, also through the engine of `AsyncDatabase`."""
        require_await()
        self._enter_loop()

    def sleep(self, seconds: float) -> None:
        """Wait for *seconds*."""
        require_await()
        await_(asyncio.sleep(seconds))

    def call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Return the result of *function*, which is called in a thread of its own, until the deadline."""
        require_await()
        return await_(_call_in_thread(lambda: function(*arguments, **named), remaining()))

    def turn(self) -> Turn:
        """Return a new turn of this task."""
        return _WaitingTask()

    def caller(self) -> object:
        """Return a reference to this task."""
        require_await()
        task = asyncio.current_task()
        assert task is not None
        return ref(task)

    def connection_class(self, *, traced: bool) -> type[BoundedConnection[Any]]:
        """Return the class of the connections."""
        return AwaitedTracedConnection if traced else AwaitedConnection


AWAITED: Waits = AwaitedWaits()
"""The waits of `AsyncDatabase`."""


async def _call_in_thread(function: Callable[[], T], seconds: float) -> T:
    """Return the result of *function*; its thread is a daemon, so that the end of the loop does not wait for it.

    The end of a loop waits for the threads of its executor, which `asyncio.to_thread` would use.

    Raises:
        CallUnfinished: It took longer than *seconds*.
        BaseException: The error of *function*.
    """
    loop = asyncio.get_running_loop()
    has_ended: asyncio.Future[None] = loop.create_future()
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 the task raises it
            errors.append(error)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_end, has_ended)

    Thread(target=copy_context().run, args=(call,), daemon=True, name="registration_persistence").start()
    await asyncio.wait([has_ended], timeout=None if seconds == math.inf else max(seconds, 0.0))
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # otherwise the traceback and this frame refer to each other
    if not results:
        raise CallUnfinished
    return results[0]


def _end(wait: "asyncio.Future[None]") -> None:
    if not wait.done():
        wait.set_result(None)
