"""Exponential back-off with jitter."""

import random

# Enough for any limit; beyond some thousand, a power of two is no float any more.
_DOUBLINGS = 30

_random = random.SystemRandom()


def backoff(attempts: int, first: float, longest: float) -> float:
    """Return the seconds to wait after so many *attempts*: twice as long each time, and up to half of that less.

    Processes that were refused together do not come back together, not even those that were restored from one
    snapshot, which share the state of any random number generator but the kernel's.
    """
    return min(first * 2.0 ** min(attempts, _DOUBLINGS), longest) * _random.uniform(0.5, 1)
