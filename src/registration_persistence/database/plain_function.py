"""Checks that a unit of work is a plain function: the body of a coroutine or generator would never be executed."""

import functools
import inspect
from collections.abc import AsyncGenerator, Generator
from typing import TypeVar

T = TypeVar("T")

_FIX = (
    "a plain function that takes the session and is finished when it returns: the body of a coroutine or of a "
    "generator would not be executed, and an empty transaction would be committed. In async code, call "
    "`await asyncio.to_thread(database.run, work)`"
)


def require_plain_function(work: object) -> None:
    """Check *work* before anything is sent.

    Raises:
        TypeError: *work* cannot be called, or a call would only create a coroutine or a generator.
    """
    function = work
    while isinstance(function, functools.partial):
        function = function.func
    if not callable(function):
        raise TypeError(f"the unit of work is of type {type(work).__name__}: expected {_FIX}")
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(kind(called) for kind in kinds for called in (function, type(function).__call__)):
        raise TypeError(f"the unit of work is a coroutine or generator function: expected {_FIX}")


def plain_result(result: T) -> T:
    """Return the *result* of a unit of work, unless it is a coroutine or a generator, which is closed then.

    Raises:
        TypeError: *result* would have to be awaited or iterated.
    """
    if inspect.isawaitable(result) or isinstance(result, Generator | AsyncGenerator):
        if isinstance(result, Generator) or inspect.iscoroutine(result):
            result.close()  # or Python warns that it was never awaited
        raise TypeError(f"the unit of work returned a {type(result).__name__}: expected {_FIX}")
    return result
