"""Slow callbacks of the event loop, if the package makes them slow.

A test runs in the loop and blocks it: it starts servers and reads from their pipes. asyncio's debug mode would report
the test, so its reports are silenced, and `SlowCallbacks` looks at the same callbacks with the same limit: a thread
looks at the stack of the loop every few milliseconds, and adds the time to the code whose frame is the innermost one of
the package or of the tests. `socket.recv` in `Login` counts as the package; `time.sleep` in a unit of work that a test
passes to `Database.run` counts as the test. If the package had more than the limit in one callback, it is reported with
the stack.

These do not count: an import of the package by a service or a test, and what the body of its module does, because that
happens when it starts; migrations, the sandbox and other parts that do not run in a service, with everything that they
call; a source of credentials or a driver's connection that a test uses by itself; the stacks that the debug mode
records; garbage collections, which take longer the more objects the tests have; and time in which the loop waited for a
processor.
"""

import asyncio
import gc
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from awaited.tasks import CREDENTIALS, TESTS, is_service_code

SLOW_SECONDS = 0.05

_SAMPLE_SECONDS = 0.004

_MAX_FRAMES = 12

# The body of a module, and the import of a public name at its first use.
_IMPORTS = frozenset({"<module>", "__getattr__"})

# psycopg's blocking waits, and the modules of the connection that call them.
_BLOCKING_WAITS = frozenset({("psycopg.waiting", "wait_conn"), ("psycopg.connection", "wait")})
_DRIVER = tuple(
    f"registration_persistence.database.{name}"
    for name in ("bounded_pipeline", "connection", "evident_connection", "lazy_begin", "limited_", "recoverable_")
)

Stack: TypeAlias = tuple[tuple[str, int, str], ...]
"""File, line and function of each frame, the innermost first."""


@dataclass
class _Callback:
    """A callback, and the package's time in it, in total and by stack."""

    handle: object
    seconds: float = 0.0
    stacks: dict[Stack, float] = field(default_factory=dict)


class SlowCallbacks:
    """Watches the running event loop, which is in debug mode, until `stop`.

    Args:
        report: Called with a description of each callback in which the package took more than 0.05 s.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report, self._loop = report, asyncio.get_running_loop()
        self._loop.slow_callback_duration = SLOW_SECONDS
        logging.getLogger("asyncio").addFilter(_is_of_another_kind)
        self._thread_id, self._stopped = threading.get_ident(), threading.Event()
        self._schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        # The time of all garbage collections, and when the one that is running began.
        self._collections_seconds = 0.0
        self._collection_began: float | None = None
        gc.callbacks.append(self._note_collection)
        self._thread = threading.Thread(target=self._watch, name="slow callbacks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()
        gc.callbacks.remove(self._note_collection)
        self._thread.join()

    def _watch(self) -> None:
        callback, before = _Callback(None), self._clocks()
        while not self._stopped.wait(_SAMPLE_SECONDS):
            now = self._clocks()
            passed, cpu, lost = (late - early for late, early in zip(now, before, strict=True))
            # A process that is stopped uses no processor.
            seconds, before = min(passed - lost, _SAMPLE_SECONDS + cpu), now
            handle = getattr(self._loop, "_current_handle", None)  # asyncio sets it in debug mode
            if handle is not callback.handle:
                callback = _Callback(handle)
            frame = sys._current_frames().get(self._thread_id)
            if handle is not None and frame is not None and _is_in_package(frame):
                self._add(callback, seconds, frame)

    def _clocks(self) -> tuple[float, float, float]:
        """Return the time, the processor time of the process, and the time of the loop that does not count."""
        queued = self._schedule.read_text().split()[1] if self._schedule.exists() else 0
        now, began = time.monotonic(), self._collection_began
        collections = self._collections_seconds + (0.0 if began is None else now - began)
        return now, time.process_time(), float(queued) / 1e9 + collections

    def _note_collection(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._collection_began = time.monotonic()
        elif self._collection_began is not None:
            self._collections_seconds += time.monotonic() - self._collection_began
            self._collection_began = None

    def _add(self, callback: _Callback, seconds: float, frame: FrameType) -> None:
        stack = _stack_of(frame)
        was_slow = callback.seconds >= SLOW_SECONDS
        callback.seconds += seconds
        callback.stacks[stack] = callback.stacks.get(stack, 0.0) + seconds
        if callback.seconds >= SLOW_SECONDS and not was_slow:
            longest = max(callback.stacks, key=lambda each: callback.stacks[each])
            lines = "\n".join(f"  {file}:{line} in {function}" for file, line, function in longest)
            self._report(f"the package blocked the event loop for {SLOW_SECONDS} s or more, most of it here:\n{lines}")


def _stack_of(frame: FrameType) -> Stack:
    frames = islice(traceback.walk_stack(frame), _MAX_FRAMES)
    return tuple((each.f_code.co_filename, line, each.f_code.co_name) for each, line in frames)


def _is_in_package(innermost: FrameType) -> bool:
    """Return whether the time counts as the package's."""
    found, neutral = False, tuple[str, ...]([CREDENTIALS])
    for frame, _ in traceback.walk_stack(innermost):
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_name == "extract_stack":
            return False
        if frame.f_code.co_filename.startswith(TESTS):
            return found and frame.f_code.co_name != "<module>"
        if is_service_code(module):
            if frame.f_code.co_name in _IMPORTS:
                found = False
            elif not module.startswith(neutral):
                found = True
        elif module.startswith("registration_persistence."):
            return False
        elif (module, frame.f_code.co_name) in _BLOCKING_WAITS:
            found, neutral = False, (CREDENTIALS, *_DRIVER)  # it counts as the code that uses the connection
    return found


def _is_of_another_kind(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Executing")
