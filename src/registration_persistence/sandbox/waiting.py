"""Waiting for a condition."""

import time
from collections.abc import Callable

from registration_persistence.clock import monotonic
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox.errors import LocalServerError

_POLL_INTERVAL_SECONDS = 0.01


def wait_until(
    condition: Callable[[], object], what: str, *, timeout: Duration = 10.0, interval: Duration = _POLL_INTERVAL_SECONDS
) -> None:
    """Call *condition* repeatedly until it returns a true value.

    Args:
        condition: Function without arguments, called at least once.
        what: The condition in words, for the error message: "the standby is connected".
        timeout: Limit of the wait, as a `timedelta` or in seconds, 0 to a day; 10 s by default.
        interval: Pause between two calls, as a `timedelta` or in seconds, 0 to a day; 0.01 s by default.

    Raises:
        LocalServerError: *condition* is still false after *timeout*.
    """
    seconds, pause = bounded_seconds(timeout, "timeout"), bounded_seconds(interval, "interval")
    end = monotonic() + seconds
    while not condition():
        if monotonic() > end:
            raise LocalServerError(f"timed out after {seconds:g} s waiting until {what}")
        time.sleep(pause)
