"""`deadline`: one end for every wait inside a block; `remaining`: the time until it."""

import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import ParamSpec, Protocol, TypeVar, cast, runtime_checkable

from registration_persistence.clock import monotonic
from registration_persistence.durations import Duration, in_seconds
from registration_persistence.plain_function import require_plain_function

P = ParamSpec("P")
T = TypeVar("T")

# Cancelling a statement and reading the server's confirmation takes up to 0.45 s of it.
_DEFAULT_RESERVE_SECONDS = 0.5

_NEVER = math.inf

_logger = logging.getLogger("registration_persistence.database")


class Deadline:
    """The deadline of one `with` block.

    Args:
        seconds_left: Returns the seconds until the deadline.
        outer: The deadline of the enclosing block; `None` if there is none.
        replaces_outer: Whether the outer deadlines do not apply inside the block. Defaults to false.

    Attributes:
        outer: The deadline of the enclosing block.
        is_over: Whether the block has ended, so that the deadline does not apply any more, in any thread or task.
        replaces_outer: Whether the outer deadlines do not apply inside the block.
    """

    __slots__ = ("is_over", "outer", "replaces_outer", "seconds_left")

    def __init__(
        self, seconds_left: Callable[[], float], outer: "Deadline | None", *, replaces_outer: bool = False
    ) -> None:
        self.seconds_left: Callable[[], float] = seconds_left
        self.outer: Deadline | None = outer
        self.replaces_outer: bool = replaces_outer
        self.is_over: bool = False


_innermost: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@runtime_checkable
class LambdaContext(Protocol):
    """The part of AWS Lambda's context object that `deadline` uses."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation."""


class DeadlineBlock(AbstractContextManager[None]):
    """The block of one `deadline`, whose time begins with the block; it also decorates a plain function.

    Args:
        limit: The `limit` of `deadline`.
        reserve: The `reserve` of `deadline`.
    """

    def __init__(self, limit: Duration | LambdaContext, reserve: Duration) -> None:
        self._limit = limit
        self._reserve = reserve
        self._block: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> None:
        self._block = _limited_block(self._limit, self._reserve)
        return self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return *function* with a deadline of its own for each call.

        Raises:
            TypeError: *function* is not a plain function, so the deadline would end before its body is executed.
        """
        require_plain_function(
            function, "the function with the decorator deadline", "; use `with deadline(...)` in its body instead"
        )

        @wraps(function)
        def limited(*arguments: P.args, **named: P.kwargs) -> T:
            with DeadlineBlock(self._limit, self._reserve):
                return function(*arguments, **named)

        return limited


def deadline(limit: Duration | LambdaContext, *, reserve: Duration = _DEFAULT_RESERVE_SECONDS) -> DeadlineBlock:
    """End every wait inside the block in time: for a connection, a free place in the pool, a reply or a secret.

    It is a plain `with` block, also in an `async def` function. A statement that is running when the time is over is
    cancelled, and no further statement is sent. If deadlines are nested, the earliest applies. The deadline applies to
    the current thread or asyncio task, and to the tasks and calls of `asyncio.to_thread` that it starts, until the
    block ends. A session that was opened inside the block refuses to be used where the deadline does not apply, for
    example in the endpoint of a FastAPI dependency that is not `async`.

    Three waits of `get_db()` cannot be shortened: the look-up of the host's name, which the C library does, a response
    of Secrets Manager that arrives byte by byte, and up to 8 s for a metadata service of a container that does not
    respond. `get_async_db()` does all three in threads, and waits for them until the deadline.

    Args:
        limit: The context that Lambda passes to the handler, or the time from now, as a `timedelta` or in seconds, any
            number but NaN; a negative time is over at once, and an infinite one does not limit anything.
        reserve: The part of *limit* that is kept for the handler's response, as a `timedelta` or in seconds, 0 or more.
            Defaults to 0.5 s.

    Raises:
        TypeError: *limit* is neither a duration nor a Lambda context, its `get_remaining_time_in_millis()` does not
            return a number, or *reserve* is not a duration; raised when the block begins.
        ValueError: *limit* or *reserve* is NaN, or *reserve* is negative; raised when the block begins.
    """
    return DeadlineBlock(limit, reserve)


@contextmanager
def _limited_block(limit: Duration | LambdaContext, reserve: Duration) -> Iterator[None]:
    seconds_left, kept = _clock(limit), in_seconds(reserve, name="the reserve")
    if kept < 0:
        raise ValueError(f"the reserve is {kept:g} s: expected 0 s or more")
    with _applying(Deadline(lambda: seconds_left() - kept, current_deadline())):
        yield


@contextmanager
def at_least(seconds: float) -> Iterator[None]:
    """Allow *seconds* for the block, even after the deadline; for commands that end a transaction or a pipeline.

    Args:
        seconds: The minimum of `remaining` when the block begins.
    """
    outer, end = current_deadline(), monotonic() + seconds
    with _applying(Deadline(lambda: max(_remaining_of(outer), end - monotonic()), outer, replaces_outer=True)):
        yield


@contextmanager
def _applying(own: Deadline) -> Iterator[None]:
    """Apply *own* until the end of the block, which may come in another thread or context."""
    _innermost.set(own)
    try:
        yield
    finally:
        own.is_over = True
        if _innermost.get() is own:
            _innermost.set(own.outer)
        elif own not in _deadlines_here():
            _logger.warning(
                "a deadline began and ended in different threads or contexts, so it did not apply in between: "
                "use `with deadline(...)` in the function that uses the database, or in an `async def` dependency"
            )


def remaining() -> float:
    """Return the seconds until the deadline, without its reserve.

    The result is negative if the deadline has passed, and infinite if there is none.
    """
    own = _innermost.get()
    return _NEVER if own is None else _remaining_of(own)


def _remaining_of(own: Deadline | None) -> float:
    left = math.inf
    while own is not None:
        if not own.is_over:
            left = min(left, own.seconds_left())
            if own.replaces_outer:
                break
        own = own.outer
    return left


def current_deadline() -> Deadline | None:
    """Return the innermost deadline whose block has not ended."""
    own = _innermost.get()
    while own is not None and own.is_over:
        own = own.outer
    return own


def applies_here(own: Deadline | None) -> bool:
    """Return whether *own* limits the waits of the current thread or task, or does not have to."""
    return own is None or own.is_over or own in _deadlines_here()


def _deadlines_here() -> Iterator[Deadline]:
    """Return the deadlines of the current context, from the inside to the outside."""
    own = _innermost.get()
    while own is not None:
        yield own
        own = own.outer


def _clock(limit: Duration | LambdaContext) -> Callable[[], float]:
    """Return a function that returns the seconds until *limit*."""
    if hasattr(limit, "get_remaining_time_in_millis"):  # since Python 3.12, isinstance does not recognise a mock
        context = cast(LambdaContext, limit)
        _seconds_left(context)  # an unusable context is reported here, and not in the first wait
        return lambda: _seconds_left(context)
    try:
        end = monotonic() + in_seconds(limit, name="the deadline")
    except TypeError:
        raise TypeError(
            f"the deadline is a {type(limit).__name__}: "
            "expected a timedelta, a number of seconds or the context of a Lambda"
        ) from None
    return lambda: end - monotonic()


def _seconds_left(context: LambdaContext) -> float:
    """Return the remaining time of *context*, which is checked, because tests pass objects of any kind."""
    method, fix = "get_remaining_time_in_millis()", "expected a number; in a test, pass sandbox.FakeLambdaContext()"
    if isinstance(context, type):
        raise TypeError(f"the deadline is the class {context.__name__}: expected the context of a Lambda, an instance")
    milliseconds: object = context.get_remaining_time_in_millis()
    if inspect.iscoroutine(milliseconds):
        milliseconds.close()
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        raise TypeError(f"{method} of the Lambda context returned a {type(milliseconds).__name__}: {fix}")
    if isinstance(milliseconds, float) and math.isnan(milliseconds):
        raise ValueError(f"{method} of the Lambda context returned NaN: {fix}")
    return in_seconds(milliseconds) / 1000  # also of a number beyond the largest float
