"""Stand-ins for threads: each is a task of the event loop.

A test whose threads use a `Database` runs unmodified: its `Thread` is a task, and its waits are awaited.
"""

import asyncio
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import Context
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.util.concurrency import await_, greenlet_spawn, in_greenlet

from registration_persistence.clock import monotonic

P = ParamSpec("P")
T = TypeVar("T")

_POLL_INTERVAL_SECONDS = 0.002

# The parts of the package that block their thread, because they are no part of a service.
_MAY_BLOCK = frozenset({"cli", "sandbox", "schema", "testing"})

# Its sources block, so a service calls them in threads; a test may call one by itself.
CREDENTIALS = "registration_persistence.database.credentials."

TESTS = str(Path(__file__).parents[1])

_greenlet: Any = import_module("greenlet")  # it has no types

_block_thread, _fork = time.sleep, os.fork


def start(function: Callable[[], T]) -> "asyncio.Task[T]":
    """Call *function* in a task; like a thread, it inherits no deadline."""
    return asyncio.get_running_loop().create_task(greenlet_spawn(function), context=Context())


class TaskThread:
    """A `threading.Thread` that is a task."""

    def __init__(
        self,
        target: Callable[..., object],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool = False,
    ) -> None:
        self.daemon: bool = daemon
        self._call: Callable[[], object] = partial(target, *args, **(kwargs or {}))
        self._task: asyncio.Task[object] | None = None

    def start(self) -> None:
        """Start the task."""
        self._task = start(self._call)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the task; an error of it is reported as that of a thread is."""
        assert self._task is not None
        await_(asyncio.wait([self._task], timeout=timeout))
        if self._task.done() and (error := self._task.exception()) is not None:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))

    def is_alive(self) -> bool:
        """Return whether the task is running."""
        return self._task is not None and not self._task.done()


class TaskFuture(Future[T]):
    """The outcome of a call in a task."""

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result."""
        _wait_until(self.done, timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end, and return the error."""
        _wait_until(self.done, timeout)
        return super().exception(0)


class TaskExecutor(Executor):
    """A `ThreadPoolExecutor` whose threads are tasks."""

    def __init__(self, max_workers: int = 16) -> None:
        self._places = asyncio.Semaphore(max_workers)
        self._futures: list[TaskFuture[Any]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> TaskFuture[T]:
        """Call *function* in a task as soon as a place is free."""
        future: TaskFuture[T] = TaskFuture()

        async def call() -> None:
            async with self._places:
                try:
                    future.set_result(await greenlet_spawn(partial(function, *arguments, **named)))
                except BaseException as error:  # noqa: BLE001 `result` raises it
                    future.set_exception(error)

        self._tasks.append(asyncio.get_running_loop().create_task(call(), context=Context()))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 the signature of `Executor`
        """Wait for all calls."""
        assert not cancel_futures
        if wait and self._tasks:
            await_(asyncio.wait(self._tasks))


class TaskEvent(threading.Event):
    """A `threading.Event` that tasks wait for, and that threads may set."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, at most *timeout* seconds."""
        if not in_greenlet():
            return super().wait(timeout)
        _wait_until(self.is_set, timeout)
        return self.is_set()


class TaskBarrier:
    """A `threading.Barrier` for tasks."""

    def __init__(self, parties: int, timeout: float | None = None) -> None:
        self._parties, self._timeout, self._came, self._is_broken = parties, timeout, 0, False

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all have come; return the number of this caller."""
        number, self._came = self._came, self._came + 1
        generation_end = (number // self._parties + 1) * self._parties
        _wait_until(
            lambda: self._is_broken or self._came >= generation_end, timeout if timeout is not None else self._timeout
        )
        if self._came < generation_end:
            self._is_broken = True
            raise threading.BrokenBarrierError
        return number % self._parties

    def abort(self) -> None:
        """End the waits of the others with an error."""
        self._is_broken = True


STAND_INS: Mapping[type[Any], type[Any]] = {
    threading.Thread: TaskThread,
    threading.Event: TaskEvent,
    threading.Barrier: TaskBarrier,
    ThreadPoolExecutor: TaskExecutor,
}


def replace_threads(module: ModuleType, name: str, chosen: Collection[str]) -> None:
    """Give *module* the stand-ins for the classes of threads that it has imported.

    Args:
        module: The module.
        name: Its name in *chosen*.
        chosen: `module` for all classes of a module, or `module.Class` for one of them.
    """
    for attribute, value in list(vars(module).items()):
        if isinstance(value, type) and value in STAND_INS and not {name, f"{name}.{attribute}"}.isdisjoint(chosen):
            setattr(module, attribute, STAND_INS[value])


def sleep(seconds: float, /) -> None:
    """Sleep as `time.sleep` does; in a task, let the others run.

    Raises:
        AssertionError: The package called it in a task, where a service would block its event loop.
    """
    if not in_greenlet():
        _block_thread(seconds)
        return
    frame = sys._getframe(1)
    if _is_in_service(frame):
        caller = frame.f_globals["__name__"]
        raise AssertionError(f"{caller} called time.sleep in a task: it must wait with `Waits.sleep`")
    await_(asyncio.sleep(seconds))


def _is_in_service(innermost: FrameType) -> bool:
    """Return whether a service makes the call of *innermost*, and not a part that may block, or a test by itself."""
    is_found = False
    for frame, _ in traceback.walk_stack(innermost):
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_filename.startswith(TESTS):
            return is_found
        if is_service_code(module):
            is_found = is_found or not module.startswith(CREDENTIALS)
        elif module.startswith("registration_persistence."):
            return False
    return is_found


def _wait_until(is_over: Callable[[], bool], timeout: float | None) -> None:
    """Wait until *is_over* returns true, at most *timeout* seconds; a thread may make it true."""
    end = math.inf if timeout is None else monotonic() + timeout
    while not is_over() and monotonic() < end:
        sleep(_POLL_INTERVAL_SECONDS)


def fork() -> int:
    """Fork as `os.fork` does; the child goes on in an event loop of its own, because it cannot use its parent's."""
    process = _fork()
    if process == 0 and in_greenlet():
        here = _greenlet.getcurrent()
        loop_of_child = _greenlet.greenlet(lambda: asyncio.run(_go_on(here)), here.parent)
        here.parent = loop_of_child
        loop_of_child.switch()
    return process


async def _go_on(here: Any) -> None:
    """Await what the greenlet *here* awaits, until its end; `greenlet_spawn` does the same for a new one."""
    awaited = here.switch()
    while not here.dead:
        try:
            value = await awaited
        except BaseException:  # noqa: BLE001 the greenlet handles it
            awaited = here.throw(*sys.exc_info())
        else:
            awaited = here.switch(value)


def is_service_code(module: str) -> bool:
    """Return whether *module* is a part of the package that runs in a service."""
    package, _, rest = module.partition(".")
    return package == "registration_persistence" and rest.partition(".")[0] not in _MAY_BLOCK
