"""Keep the arguments of a call out of the tracebacks of its errors."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from types import FrameType
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# The generators of these packages are finished if an exception came through them. A generator of the caller may only be
# suspended, if it raised a stored exception, and clearing its frame would close it.
_PACKAGES = {"registration_persistence", "sqlalchemy", "psycopg", "json"}
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Decorator(Protocol):
    """A decorator that keeps the signature of a function or method."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Return *function* with the behaviour of the decorator."""


def redact_traceback_of(*kinds: type[Exception]) -> Decorator:
    """Return a decorator that drops the frames below the function from errors of these *kinds*.

    The local variables of those frames hold mailboxes, profiles and tokens, and error trackers send local variables.
    Every other exception keeps its frames, because it is a bug or a signal, but they lose their local variables. For
    example, an iterable of the caller may raise it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            handled = sys.exception()
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                del args, kwargs
                for link in _chain(error, until=handled):
                    _redact(link, kinds)
                raise

        return guarded

    return decorate


def _redact(error: BaseException, kinds: tuple[type[Exception], ...]) -> None:
    if isinstance(error, kinds):
        error.__traceback__ = None
        return
    traceback = error.__traceback__
    while traceback is not None:
        if not _may_be_suspended(traceback.tb_frame):
            with suppress(RuntimeError):  # the frame is executing: it is the caller's, or that of the decorator
                traceback.tb_frame.clear()
        traceback = traceback.tb_next


def _may_be_suspended(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    return bool(frame.f_code.co_flags & _GENERATOR) and package not in _PACKAGES


def _chain(error: BaseException, *, until: BaseException | None) -> Iterator[BaseException]:
    """Return *error*, its causes and the errors that were being handled, but not *until* and what led to it."""
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException | None] = [None, until]
    while waiting:
        link = waiting.pop()
        if all(link is not known for known in seen) and link is not None:
            seen.append(link)
            yield link
            waiting += [link.__cause__, link.__context__]
