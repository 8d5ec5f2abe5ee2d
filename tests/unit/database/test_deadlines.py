"""`deadline`: the time that remains inside a block."""

import math
import time
from datetime import timedelta
from threading import Thread

import pytest

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
