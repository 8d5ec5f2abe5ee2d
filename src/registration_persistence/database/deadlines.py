"""`deadline`: one end for every wait inside a block; `remaining`: the time until it."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

from registration_persistence.durations import Duration, in_seconds

# Cancelling a statement and reading the server's confirmation takes up to 0.45 s of it.
_DEFAULT_RESERVE_SECONDS = 0.5

_remaining: ContextVar[Callable[[], float]] = ContextVar("remaining", default=lambda: math.inf)


@runtime_checkable
class LambdaContext(Protocol):
    """The part of AWS Lambda's context object that `deadline` uses."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation."""


@contextmanager
def deadline(limit: Duration | LambdaContext, *, reserve: Duration = _DEFAULT_RESERVE_SECONDS) -> Iterator[None]:
    """End every wait inside the block in time: for a connection, a free slot in the pool, a reply or a secret.

    A statement that is running when the time is over is cancelled, and no further statement is sent. The deadline
    applies to the current thread or asyncio task only. If deadlines are nested, the earliest applies.

    Three waits cannot be shortened: the look-up of the host's name, which the C library does, a response of Secrets
    Manager that arrives byte by byte, and outside Lambda the AWS SDK's search for credentials while the metadata
    service is silent, which takes up to 3 s on EC2 and 9 s in ECS.

    Args:
        limit: The context that Lambda passes to the handler, or the time from now, as a `timedelta` or in seconds.
        reserve: The part of *limit* that is kept for the handler's response, as a `timedelta` or in seconds, 0 or more.
            Defaults to 0.5 s.

    Raises:
        TypeError: *limit* is neither a duration nor a Lambda context, or *reserve* is not a duration.
        ValueError: *limit* or *reserve* is NaN, or *reserve* is negative.
    """
    outer, own = _remaining.get(), _clock(limit)
    kept = in_seconds(reserve, name="the reserve")
    if kept < 0:
        raise ValueError(f"the reserve is {kept:g} s: expected 0 s or more")
    token = _remaining.set(lambda: min(outer(), own() - kept))
    try:
        yield
    finally:
        _remaining.reset(token)


def remaining() -> float:
    """Return the seconds until the deadline, without its reserve.

    The result is negative if the deadline has passed, and infinite if there is none.
    """
    return _remaining.get()()


def _clock(limit: Duration | LambdaContext) -> Callable[[], float]:
    """Return a function that returns the seconds until *limit*."""
    if isinstance(limit, LambdaContext):
        return lambda: limit.get_remaining_time_in_millis() / 1000
    try:
        end = time.monotonic() + in_seconds(limit, name="the deadline")
    except TypeError:
        raise TypeError(
            f"the deadline is a {type(limit).__name__}: "
            "expected a timedelta, a number of seconds or the context of a Lambda"
        ) from None
    return lambda: end - time.monotonic()
