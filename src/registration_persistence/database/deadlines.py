"""How much time is left: one deadline for every wait inside a block; and how long to wait before the next attempt."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

# Seconds. Cancelling a statement and hearing of it takes up to 0.45 s of them.
_RESERVE = 0.5

_left: ContextVar[Callable[[], float]] = ContextVar("left", default=lambda: math.inf)


@runtime_checkable
class LambdaContext(Protocol):
    """What is needed of the context that AWS Lambda hands to a handler."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation."""


@contextmanager
def deadline(limit: float | LambdaContext, *, reserve: float = _RESERVE) -> Iterator[None]:
    """Let no wait inside the block, for a connection, a slot, an answer or a secret, outlast the invocation.

    A statement that is under way when the time is over is cancelled, and nothing further is sent. It holds for this
    thread or task alone. A deadline inside another can only be earlier. What it cannot shorten is a look-up of the
    host's name, which the C library does, and an answer of Secrets Manager that comes in drips.

    Args:
        limit: The context of a Lambda's handler, or seconds from now.
        reserve: Seconds of it that are kept back, for the handler to answer in.

    Raises:
        TypeError: *limit* is neither.
        ValueError: *limit* is not a number, or *reserve* is negative.
    """
    outer, own = _left.get(), _clock(limit)
    if not reserve >= 0:
        raise ValueError(f"the reserve is {reserve}: expected seconds, 0 or more")
    token = _left.set(lambda: min(outer(), own() - reserve))
    try:
        yield
    finally:
        _left.reset(token)


def remaining() -> float:
    """Return the seconds until the deadline, less the reserve; infinite without one, negative where it has passed."""
    return _left.get()()


def _clock(limit: float | LambdaContext) -> Callable[[], float]:
    if isinstance(limit, LambdaContext):
        return lambda: limit.get_remaining_time_in_millis() / 1000
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise TypeError(f"a deadline is seconds or the context of a Lambda, not {type(limit).__name__}")
    if math.isnan(limit):
        raise ValueError("the deadline is not a number: expected seconds")
    end = time.monotonic() + limit
    return lambda: end - time.monotonic()
