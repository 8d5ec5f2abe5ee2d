"""Exponential back-off with jitter."""

import random

# 2 ** 30 times the first wait exceeds every limit; 2.0 ** 1024 would overflow.
_MAX_DOUBLINGS = 30

# The kernel's random numbers: processes that are restored from one snapshot share the state of every other generator.
_random = random.SystemRandom()


def backoff(attempts: int, first: float, longest: float, *, jitter: tuple[float, float] = (0.5, 1.0)) -> float:
    """Return an exponential back-off with jitter: `min(first * 2**attempts, longest)` seconds, reduced by up to 50 %.

    The jitter spreads processes that failed at the same moment, also those restored from one snapshot.

    Args:
        attempts: The number of failed attempts before the next one, 0 or more.
        first: Seconds to wait if *attempts* is 0.
        longest: Upper limit in seconds, before the jitter.
        jitter: The range of the random factor. Defaults to a reduction by up to 50 %.
    """
    return min(first * 2.0 ** min(attempts, _MAX_DOUBLINGS), longest) * _random.uniform(*jitter)
