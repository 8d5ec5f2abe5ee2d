"""Durations: a `timedelta`, or a number of seconds."""

import math
from datetime import timedelta
from typing import TypeAlias

Duration: TypeAlias = timedelta | float
"""A `timedelta`, or a number of seconds; every argument that is a duration accepts both."""


def in_seconds(duration: Duration) -> float:
    """Return *duration* in seconds.

    Raises:
        TypeError: *duration* is neither a `timedelta` nor a number.
        ValueError: *duration* is not a number (NaN).
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise TypeError(f"the duration is a {type(duration).__name__}: expected a timedelta or a number of seconds")
    if math.isnan(duration):
        raise ValueError("the duration is NaN: expected a timedelta or a number of seconds")
    return duration
