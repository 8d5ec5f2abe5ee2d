"""Slow callbacks of the event loop, if the package makes them slow.

A test runs in the loop and blocks it: it starts servers and reads from their pipes. asyncio's debug mode would report
the test, so its reports are silenced, and `SlowCallbacks` looks at the same callbacks with the same limit: a thread
looks at the stack of the loop every few milliseconds, and adds the time to the code whose frame is the innermost one of
the package or of the tests. `socket.recv` in `Login` counts as the package; `time.sleep` in a unit of work that a test
passes to `Database.run` counts as the test. If the package had more than the limit in one callback, it is reported with
the stack.
"""

import asyncio
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

from awaited.tasks import is_service_code

SLOW_SECONDS = 0.05

_SAMPLE_SECONDS = 0.004

_MAX_FRAMES = 12

_TESTS = str(Path(__file__).parents[1])

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
        self._thread = threading.Thread(target=self._watch, name="slow callbacks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        callback, before, cpu_before = _Callback(None), time.monotonic(), time.process_time()
        while not self._stopped.wait(_SAMPLE_SECONDS):
            now, cpu = time.monotonic(), time.process_time()
            # A process that was stopped, or that got no processor, made no progress in the meantime.
            seconds = min(now - before, _SAMPLE_SECONDS + cpu - cpu_before)
            before, cpu_before = now, cpu
            handle = getattr(self._loop, "_current_handle", None)  # asyncio sets it in debug mode
            if handle is not callback.handle:
                callback = _Callback(handle)
            frame = sys._current_frames().get(self._thread_id)
            if handle is not None and frame is not None and _is_in_package(frame):
                self._add(callback, seconds, frame)

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


def _is_in_package(frame: FrameType) -> bool:
    """Return whether the innermost frame of the package or of the tests is one of the package."""
    innermost: FrameType | None = frame
    while innermost is not None:
        module = innermost.f_globals.get("__name__", "")
        if is_service_code(module):
            return True
        if module.startswith("registration_persistence.") or innermost.f_code.co_filename.startswith(_TESTS):
            return False
        innermost = innermost.f_back
    return False


def _is_of_another_kind(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Executing")
