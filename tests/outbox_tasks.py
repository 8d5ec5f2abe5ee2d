"""Event loops and waits of the tests of `AsyncOutboxWorker`."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from outbox_queue import TIMEOUT_SECONDS

T = TypeVar("T")


def run_in_time(work: Coroutine[Any, Any, T], new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Await *work* in an event loop of its own, and fail if it does not end."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(asyncio.wait_for(work, TIMEOUT_SECONDS))


async def until(condition: Callable[[], object], what: str) -> None:
    """Let the other tasks run until *condition* returns a true value."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        await asyncio.sleep(0.005)
