"""Checks that a function of the caller is a plain one: the body of a coroutine or generator would never be executed."""

import functools
import inspect
from collections.abc import AsyncGenerator, Generator
from types import FunctionType
from typing import TypeVar

T = TypeVar("T")

_DEFERRED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

_FIX = "expected a plain function, because the body of a coroutine or of a generator would never be executed"

UNIT_OF_WORK_ADVICE = (
    "; use def instead of async def, and no await: in `await AsyncDatabase.run(work)`, each statement of a plain "
    "function lets the other tasks of the event loop run"
)
"""The advice for an `async def` unit of work, which is right for `Database` and for `AsyncDatabase`."""


def creates_deferred(function: object) -> bool:
    """Return whether a call of *function* only creates a coroutine or a generator."""
    # The checks below take longer, and this is called for each unit of work. An attribute may mark a coroutine.
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & _DEFERRED)
    while isinstance(function, functools.partial):
        function = function.func
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(kind(called) for kind in kinds for called in (function, type(function).__call__))


def is_deferred(result: object) -> bool:
    """Return whether *result* would have to be awaited or iterated, and close it, or Python warns that it was not."""
    if isinstance(result, Generator) or inspect.iscoroutine(result):
        result.close()
    return inspect.isawaitable(result) or isinstance(result, Generator | AsyncGenerator)


def require_plain_function(function: object, name: str, advice: str = "") -> None:
    """Check *function* before it is called.

    Args:
        function: The function of the caller.
        name: Subject of the error message.
        advice: The end of the error message. Defaults to none.

    Raises:
        TypeError: *function* cannot be called, or a call would only create a coroutine or a generator.
    """
    if not callable(function):
        raise TypeError(f"{name} is of type {type(function).__name__}: {_FIX}{advice}")
    if creates_deferred(function):
        raise TypeError(f"{name} is a coroutine function or a generator function: {_FIX}{advice}")


def plain_result(result: T, name: str, advice: str = "") -> T:
    """Return the *result* of a function, unless it is a coroutine or a generator, which is closed then.

    Args:
        result: The result.
        name: The function, as the subject of the error message.
        advice: The end of the error message. Defaults to none.

    Raises:
        TypeError: *result* would have to be awaited or iterated.
    """
    if is_deferred(result):
        raise TypeError(f"{name} returned a {type(result).__name__}: {_FIX}{advice}")
    return result
