"""How much time is left inside a `deadline`."""

import math
import time
from datetime import timedelta
from threading import Thread

import pytest

from registration_persistence import deadline
from registration_persistence.database.deadlines import remaining
from registration_persistence.sandbox import FakeLambdaContext


def test_there_is_none_by_default() -> None:
    """Outside every block there is no end."""
    assert remaining() == math.inf


def test_seconds_run_down_and_keep_a_reserve() -> None:
    """What is left shrinks, and half a second of it is kept for the answer."""
    with deadline(10):
        first = remaining()
        time.sleep(0.02)
        assert 9 < remaining() < first <= 9.5
    assert remaining() == math.inf


def test_a_deadline_and_its_reserve_may_be_timedeltas() -> None:
    """A `timedelta` means the same as its number of seconds."""
    with deadline(timedelta(minutes=1), reserve=timedelta(seconds=20)):
        assert 39 < remaining() <= 40


def test_a_lambdas_context_is_asked_each_time() -> None:
    """Lambda's own clock decides, which goes on while the process is frozen."""
    now = 0.0
    with deadline(FakeLambdaContext(29, clock=lambda: now), reserve=1):
        assert remaining() == 28
        now = 28.5
        assert remaining() == -0.5


def test_an_inner_deadline_can_only_be_earlier() -> None:
    """A block inside another cannot win time."""
    with deadline(5, reserve=0):
        with deadline(60):
            assert remaining() <= 5
        with deadline(2, reserve=0):
            assert remaining() <= 2
        assert 4 < remaining() <= 5


def test_it_ends_with_an_error_too() -> None:
    """An error leaves nothing behind."""
    with pytest.raises(ZeroDivisionError), deadline(1):
        _ = 1 / 0
    assert remaining() == math.inf


def test_other_threads_have_none() -> None:
    """It holds for the thread that set it."""
    seen: list[float] = []
    with deadline(1):
        thread = Thread(target=lambda: seen.append(remaining()))
        thread.start()
        thread.join()
    assert seen == [math.inf]


@pytest.mark.parametrize(
    ("limit", "reserve", "error", "said"),
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
def test_what_is_no_time_is_refused(limit: float, reserve: float, error: type[Exception], said: str) -> None:
    """The error names what was given and what is expected."""
    with pytest.raises(error, match=said), deadline(limit, reserve=reserve):
        pass
