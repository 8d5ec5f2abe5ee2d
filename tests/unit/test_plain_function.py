"""Functions of the caller must be plain functions."""

import asyncio
import functools
import types
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from unittest.mock import AsyncMock

import pytest

from registration_persistence.plain_function import plain_result, require_plain_function


async def coroutine_function(_session: object) -> None:
    """Never executed."""


def generator_function(_session: object) -> Iterator[int]:
    """Never executed."""
    yield 1


async def async_generator_function(_session: object) -> AsyncIterator[int]:
    """Never executed."""
    yield 1


class AsyncCallable:
    """An object whose call creates a coroutine."""

    async def __call__(self, _session: object) -> None:
        """Never executed."""

    async def method(self, _session: object) -> None:
        """Never executed."""


@types.coroutine
def old_coroutine(_session: object) -> Iterator[int]:
    """Never executed."""
    yield 1


@pytest.mark.parametrize(
    "work",
    [
        coroutine_function,
        generator_function,
        async_generator_function,
        old_coroutine,
        AsyncCallable(),
        AsyncCallable().method,
        AsyncMock(),
        functools.partial(coroutine_function),
        functools.partial(generator_function),
        functools.partial(functools.partial(AsyncCallable())),
        functools.partial(AsyncCallable().method),
        None,
        42,
        "work",
    ],
    ids=repr,
)
def test_other_functions_are_rejected(work: object) -> None:
    """The error says what is expected."""
    with pytest.raises(TypeError, match=r"the work is .*: expected a plain function"):
        require_plain_function(work, "the work")


@pytest.mark.parametrize("work", [lambda _session: 1, functools.partial(print), dict, AsyncCallable], ids=repr)
def test_plain_functions_are_accepted(work: object) -> None:
    """Also classes, whose call creates an object."""
    require_plain_function(work, "the work")


def future() -> object:
    """Return a future of a loop that is not running."""
    loop = asyncio.new_event_loop()
    loop.close()
    return loop.create_future()


@pytest.mark.parametrize(
    "make",
    [
        lambda: coroutine_function(None),
        lambda: generator_function(None),
        lambda: async_generator_function(None),
        lambda: old_coroutine(None),
        lambda: (number for number in (1, 2)),
        future,
    ],
)
def test_results_that_are_not_finished_are_rejected(make: Callable[[], object]) -> None:
    """A coroutine is closed, so that Python does not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="the work returned a"):
            plain_result(make(), "the work")


@pytest.mark.parametrize("result", [None, 1, [1], iter([1]), {}], ids=repr)
def test_other_results_are_returned(result: object) -> None:
    """The result is not copied."""
    assert plain_result(result, "the work") is result
