"""`in_seconds`: the one conversion of durations."""

import math
from datetime import timedelta
from typing import Any

import pytest

from registration_persistence.durations import in_seconds


@pytest.mark.parametrize(
    ("duration", "seconds"), [(timedelta(milliseconds=1500), 1.5), (2, 2), (0.5, 0.5), (0, 0), (math.inf, math.inf)]
)
def test_durations_become_seconds(duration: timedelta | float, seconds: float) -> None:
    """A timedelta is converted, and a number stays as it is."""
    assert seconds == in_seconds(duration)


@pytest.mark.parametrize("duration", ["1", None, True, [1]])
def test_other_types_are_refused(duration: Any) -> None:
    """The error names the type and what is expected."""
    with pytest.raises(TypeError, match="expected a timedelta or a number of seconds"):
        in_seconds(duration)


def test_not_a_number_is_refused() -> None:
    """NaN would make every comparison false."""
    with pytest.raises(ValueError, match="is NaN"):
        in_seconds(math.nan)
