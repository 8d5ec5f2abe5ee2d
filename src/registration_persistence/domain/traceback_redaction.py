"""Keep the arguments of a call out of the tracebacks of its errors."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Method = Callable[Concatenate[S, P], R]


class MethodDecorator(Protocol):
    """A decorator that keeps the signature of a method."""

    def __call__(self, method: Method[S, P, R], /) -> Method[S, P, R]:
        """Return *method* with the behaviour of the decorator."""


def redact_traceback_of(*kinds: type[Exception]) -> MethodDecorator:
    """Return a decorator of methods that drops the frames below the method from errors of these *kinds*.

    The local variables of those frames hold mailboxes, profiles and tokens, and error trackers send local variables.
    An error of another kind is a bug and keeps its traceback.
    """

    def decorate(method: Method[S, P, R]) -> Method[S, P, R]:
        @wraps(method)
        def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return method(self, *args, **kwargs)
            except kinds as error:
                del args, kwargs
                _drop_frames(error, kinds)
                raise

        return guarded

    return decorate


def _drop_frames(error: BaseException | None, kinds: tuple[type[Exception], ...]) -> None:
    while isinstance(error, kinds):
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
