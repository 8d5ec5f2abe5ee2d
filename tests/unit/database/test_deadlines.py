"""`deadline`: the time that remains inside a block."""

import asyncio
import math
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from threading import Thread
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from support import untyped

from registration_persistence import deadline
from registration_persistence.database.deadlines import at_least, remaining
from registration_persistence.sandbox import FakeLambdaContext


def test_without_a_deadline_the_time_is_unlimited() -> None:
    """Outside of all blocks `remaining` is infinite."""
    assert remaining() == math.inf


def test_the_remaining_time_decreases_and_excludes_the_reserve() -> None:
    """Half a second is reserved for the response."""
    with deadline(10):
        first = remaining()
        time.sleep(0.02)
        assert 9 < remaining() < first <= 9.5
    assert remaining() == math.inf


def test_a_deadline_and_its_reserve_may_be_timedeltas() -> None:
    """A `timedelta` means the same as its number of seconds."""
    with deadline(timedelta(minutes=1), reserve=timedelta(seconds=20)):
        assert 39 < remaining() <= 40


def test_the_clock_of_a_lambda_context_is_read_each_time() -> None:
    """The clock of Lambda also advances while the process is frozen."""
    now = 0.0
    with deadline(FakeLambdaContext(29, clock=lambda: now), reserve=1):
        assert remaining() == 28
        now = 28.5
        assert remaining() == -0.5


def test_an_inner_deadline_can_only_be_earlier() -> None:
    """A block inside another block cannot extend the time."""
    with deadline(5, reserve=0):
        with deadline(60):
            assert remaining() <= 5
        with deadline(2, reserve=0):
            assert remaining() <= 2
        assert 4 < remaining() <= 5


def test_an_error_ends_the_deadline() -> None:
    """After an error in the block the time is unlimited again."""
    with pytest.raises(ZeroDivisionError), deadline(1):
        _ = 1 / 0
    assert remaining() == math.inf


def test_other_threads_have_no_deadline() -> None:
    """A deadline belongs to the thread that set it."""
    found: list[float] = []
    with deadline(1):
        thread = Thread(target=lambda: found.append(remaining()))
        thread.start()
        thread.join()
    assert found == [math.inf]


@pytest.mark.parametrize(
    ("limit", "reserve", "error", "message"),
    [
        ("3", 0.5, TypeError, "the deadline is a str: expected a timedelta, a number of seconds or the context of a"),
        (None, 0.5, TypeError, "the deadline is a NoneType: expected"),
        (True, 0.5, TypeError, "the deadline is a bool: expected"),
        (math.nan, 0.5, ValueError, "the deadline is NaN: expected"),
        (3, -1, ValueError, "the reserve is -1 s: expected 0 s or more"),
        (3, timedelta(seconds=-1), ValueError, "the reserve is -1 s: expected 0 s or more"),
        (3, math.nan, ValueError, "the reserve is NaN: expected"),
        (3, "1", TypeError, "the reserve is a str: expected a timedelta or a number of seconds"),
    ],
)
def test_an_invalid_deadline_or_reserve_is_rejected(
    limit: float, reserve: float, error: type[Exception], message: str
) -> None:
    """The error has the value or its type, and the expectation."""
    with pytest.raises(error, match=message), deadline(limit, reserve=reserve):
        pass


def returning(milliseconds: object) -> MagicMock:
    """Return a mock of a Lambda context whose remaining time is *milliseconds*."""
    context = MagicMock()
    context.get_remaining_time_in_millis.return_value = milliseconds
    return context


@pytest.mark.parametrize("kind", [MagicMock, Mock, AsyncMock])
def test_a_mock_is_not_a_lambda_context(kind: type[Mock]) -> None:
    """A mock that returns no number is reported at the beginning of the block, with the fix."""
    message = r"context returned a \w+: expected a number; in a test, pass sandbox.Fake"
    with pytest.raises(TypeError, match=message), deadline(kind()):
        pytest.fail("the block was entered")
    with deadline(returning(3000), reserve=0):
        assert remaining() == 3


def test_a_context_may_return_any_number() -> None:
    """A whole number beyond the largest float is no limit."""
    with deadline(returning(10**400), reserve=0):
        assert remaining() == math.inf


@pytest.mark.parametrize("milliseconds", [None, True, "3000", b"3000", [], 3j, math.nan])
def test_a_context_without_a_number_is_rejected(milliseconds: object) -> None:
    """The error names the type, or says that the number is NaN."""
    name = "NaN" if isinstance(milliseconds, float) else f"a {type(milliseconds).__name__}"
    error = ValueError if isinstance(milliseconds, float) else TypeError
    with pytest.raises(error, match=f"returned {name}: expected a number"), deadline(returning(milliseconds)):
        pytest.fail("the block was entered")


def test_a_context_may_have_no_time_left() -> None:
    """A negative or infinite number is a number."""
    with deadline(returning(-1), reserve=0):
        assert remaining() == -0.001
    with deadline(returning(math.inf)):
        assert remaining() == math.inf


def test_other_objects_and_the_class_of_a_context_are_rejected() -> None:
    """The error says what is expected."""
    with pytest.raises(TypeError, match="the deadline is a object: expected a timedelta"), deadline(untyped(object())):
        pytest.fail("the block was entered")
    with pytest.raises(TypeError, match="the class FakeLambdaContext"), deadline(untyped(FakeLambdaContext)):
        pytest.fail("the block was entered")


def block() -> Generator[float]:
    """Set a deadline in a generator, as a dependency of a web framework does."""
    with deadline(5):
        yield remaining()


def test_a_block_may_end_in_another_context(caplog: pytest.LogCaptureFixture) -> None:
    """No error replaces the result of the block; a warning says that the deadline did not apply."""
    with deadline(60):
        generator = block()
        copy_context().run(next, generator)
        assert remaining() > 5
        generator.close()
        assert 5 < remaining() < 60

    assert ["WARNING"] == [record.levelname for record in caplog.records]
    assert "use `with deadline(...)` in the function that uses the database" in caplog.text


def test_a_block_may_end_in_a_copy_of_its_context() -> None:
    """The deadline is over in the original context too."""
    generator = block()
    next(generator)
    copy_context().run(generator.close)

    assert remaining() == math.inf
    with deadline(60):
        assert remaining() > 5
    assert remaining() == math.inf


def test_a_block_may_end_in_another_thread() -> None:
    """The deadline of the thread that set it is over."""
    generator = block()
    next(generator)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(generator.close).result()

    assert remaining() == math.inf


def test_blocks_may_end_in_any_order() -> None:
    """A deadline that ended first is not set again by the one that ends last."""
    first, second = block(), block()
    next(first)
    next(second)
    first.close()
    assert remaining() <= 5
    second.close()

    assert remaining() == math.inf


def test_tasks_and_their_threads_have_the_deadline_of_their_block() -> None:
    """They lose it when the block ends, and other tasks never have it."""

    async def later(event: asyncio.Event) -> float:
        await event.wait()
        return remaining()

    async def main() -> tuple[float, float, float]:
        event = asyncio.Event()
        other = asyncio.create_task(asyncio.sleep(0, remaining()))
        with deadline(5):
            inside, late = await asyncio.to_thread(remaining), asyncio.create_task(later(event))
            other_left = await other
        event.set()
        return inside, other_left, await late

    inside, other, late = asyncio.run(main())
    assert inside <= 5
    assert math.inf == other == late


def test_a_command_that_ends_something_has_a_minimum() -> None:
    """The minimum applies after the deadline, for its own time only, and never shortens what is left."""
    with deadline(0):
        assert remaining() <= 0
        with at_least(0.05):
            assert 0 < remaining() <= 0.05
            time.sleep(0.06)
            assert remaining() <= 0
        with at_least(5), deadline(1, reserve=0):
            assert remaining() <= 1
    with deadline(60, reserve=0), at_least(1):
        assert remaining() > 50
    with at_least(1):
        assert remaining() == math.inf


def test_a_plain_function_may_be_decorated() -> None:
    """Each call has a deadline of its own; a coroutine function is rejected, whose body would have none."""

    @deadline(5)
    def left(number: int) -> tuple[int, float]:
        """Return the time."""
        return number, remaining()

    (one, first), (two, second) = left(1), left(2)
    assert (1, 2) == (one, two)
    assert 4 < first <= 4.5
    assert 4 < second <= 4.5
    assert "left" == left.__name__

    async def coroutine_function() -> None:
        pass

    for function in (coroutine_function, block):
        with pytest.raises(TypeError, match="deadline is a coroutine function or a generator function"):
            deadline(5)(function)
