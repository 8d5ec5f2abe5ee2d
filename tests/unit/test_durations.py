"""`in_seconds`: the one helper that converts durations."""

import math
from datetime import timedelta
from typing import Any

import pytest

from registration_persistence.durations import Duration, in_seconds


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (timedelta(milliseconds=1500), 1.5),
        (timedelta(days=-1), -86_400.0),
        (2, 2.0),
        (0.25, 0.25),
        (math.inf, math.inf),
        pytest.param(10**400, math.inf, id="huge"),
        pytest.param(-(10**400), -math.inf, id="hugely negative"),
    ],
)
def test_a_duration_becomes_a_float(duration: Duration, seconds: float) -> None:
    """A `timedelta`, a whole number and a float give seconds, always as a float."""
    assert (seconds, float) == (in_seconds(duration), type(in_seconds(duration)))


@pytest.mark.parametrize(("value", "kind"), [("2", "str"), (None, "NoneType"), (True, "bool"), ([1], "list")])
def test_another_type_is_refused(value: Any, kind: str) -> None:
    """The error names the argument, its type and the expected types."""
    with pytest.raises(TypeError, match=f"^the duration is a {kind}: expected a timedelta or a number of seconds$"):
        in_seconds(value)
    with pytest.raises(TypeError, match=f"^the lease is a {kind}: expected"):
        in_seconds(value, name="the lease")


def test_nan_is_refused() -> None:
    """NaN is no duration, because no comparison with it holds."""
    with pytest.raises(ValueError, match=r"^the pause is NaN: expected a timedelta or a number of seconds$"):
        in_seconds(math.nan, name="the pause")
