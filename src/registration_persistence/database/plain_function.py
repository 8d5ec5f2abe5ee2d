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


def creates_deferred(function: object) -> bool:
    """Return whether a call of *function* only creates a coroutine or a generator, whose body is not executed."""
    while isinstance(function, functools.partial):
        function = function.func
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(kind(called) for kind in kinds for called in (function, type(function).__call__))


def is_deferred(result: object) -> bool:
    """Return whether *result* would have to be awaited or iterated; close it, or Python warns that it was not."""
    if isinstance(result, Generator) or inspect.iscoroutine(result):
        result.close()
    return inspect.isawaitable(result) or isinstance(result, Generator | AsyncGenerator)


def require_plain_function(work: object) -> None:
    """Check *work* before anything is sent.

    Raises:
        TypeError: *work* cannot be called, or a call would only create a coroutine or a generator.
    """
    if not callable(work):
        raise TypeError(f"the unit of work is of type {type(work).__name__}: expected {_FIX}")
    if creates_deferred(work):
        raise TypeError(f"the unit of work is a coroutine or generator function: expected {_FIX}")


def plain_result(result: T) -> T:
    """Return the *result* of a unit of work, unless it is a coroutine or a generator, which is closed then.

    Raises:
        TypeError: *result* would have to be awaited or iterated.
    """
    if is_deferred(result):
        raise TypeError(f"the unit of work returned a {type(result).__name__}: expected {_FIX}")
    return result
