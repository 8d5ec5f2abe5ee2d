"""The checks of arguments that several methods share."""

import math
from datetime import timedelta
from typing import Any

import pytest

from registration_persistence.domain.validation import checked_duration
from registration_persistence.errors import InvalidInput

TEN_YEARS = timedelta(days=3650)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(minutes=1), timedelta(minutes=1)),
        (60, timedelta(minutes=1)),
        (0.25, timedelta(milliseconds=250)),
        (TEN_YEARS, TEN_YEARS),
        (TEN_YEARS.total_seconds(), TEN_YEARS),
    ],
)
def test_a_duration_is_a_timedelta_or_seconds(duration: timedelta | float, expected: timedelta) -> None:
    """A number is a number of seconds, and the result is a timedelta for PostgreSQL."""
    assert expected == checked_duration("ttl", duration)


@pytest.mark.parametrize(
    "duration",
    [
        0,
        timedelta(0),
        -1,
        timedelta(seconds=-1),
        TEN_YEARS + timedelta(seconds=1),
        1e300,
        math.inf,
        math.nan,
        True,
        "60",
        None,
    ],
)
def test_other_durations_are_refused(duration: Any) -> None:
    """The error names the argument and the range, and not the value."""
    with pytest.raises(InvalidInput) as raised:
        checked_duration("ttl", duration)

    expected = "ttl is not a timedelta or a number of seconds, more than 0 and at most ten years"
    assert expected == str(raised.value)


@pytest.mark.parametrize("duration", [0, 0.0, timedelta(0)])
def test_zero_is_allowed_if_the_method_says_so(duration: timedelta | float) -> None:
    """A gap may be 0, and every other bound stays."""
    assert timedelta(0) == checked_duration("min_gap", duration, zero_is_allowed=True)
    with pytest.raises(InvalidInput, match="0 or more and"):
        checked_duration("min_gap", -1, zero_is_allowed=True)
