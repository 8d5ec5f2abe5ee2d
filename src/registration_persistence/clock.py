"""`monotonic`: the clock of every wait."""

import time


def monotonic() -> float:
    """Return `time.monotonic()`, also in a test that freezes the time.

    freezegun replaces `time.monotonic` in every module. A wait that is measured with a frozen clock never ends.
    """
    return time.clock_gettime(time.CLOCK_MONOTONIC)
