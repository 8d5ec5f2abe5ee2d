"""Durations: a `timedelta`, or a number of seconds."""

import math
from datetime import timedelta
from typing import TypeAlias

_ONE_DAY_SECONDS = 86_400.0

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


def bounded_seconds(duration: Duration, name: str, *, most: float = _ONE_DAY_SECONDS) -> float:
    """Return *duration* as a number of seconds if it is in the range of a wait.

    Args:
        duration: A `timedelta`, or a number of seconds; 0 to *most*.
        name: Subject of the error message, for example the name of the argument.
        most: The largest number of seconds. Defaults to a day.

    Raises:
        TypeError: *duration* is neither a `timedelta` nor a number.
        ValueError: *duration* is NaN or out of range.
    """
    seconds = in_seconds(duration, name=name)
    if not 0 <= seconds <= most:
        raise ValueError(f"{name} is {seconds:g} s: expected 0 to {most:g} s")
    return seconds
