"""Durations: a `timedelta`, or a number of seconds."""

import math
from datetime import timedelta
from typing import TypeAlias

Duration: TypeAlias = timedelta | float
"""A `timedelta`, or a number of seconds; every argument that is a duration accepts both."""


def in_seconds(duration: Duration, *, name: str = "the duration") -> float:
    """Return *duration* as a number of seconds.

    Args:
        duration: A `timedelta`, or a number of seconds; it may be negative or infinite.
        name: Subject of the error message, for example the name of the argument.

    Raises:
        TypeError: *duration* is neither a `timedelta` nor a number.
        ValueError: *duration* is NaN.
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise TypeError(f"{name} is a {type(duration).__name__}: expected a timedelta or a number of seconds")
    if isinstance(duration, float) and math.isnan(duration):
        raise ValueError(f"{name} is NaN: expected a timedelta or a number of seconds")
    try:
        return float(duration)
    except OverflowError:  # a whole number beyond the largest float
        return math.inf if duration > 0 else -math.inf
