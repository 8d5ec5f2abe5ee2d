"""Exponential back-off with jitter, and the waits for a service that is expected to be available again soon."""

import random

from registration_persistence.light_dataclass import dataclass

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


MIN_ATTEMPT_SECONDS = 0.05
"""An attempt with less time than this is not begun: a login and a unit of work are about twelve round trips."""

# Upper limit of the waits of a `RecoveryBackoff`, before the jitter.
_MAX_RECOVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RecoveryBackoff:
    """Waits that are short while a failure is young, so that its end is noticed at once, and longer if it lasts.

    Args:
        first: Seconds to wait after the first failed attempt; the wait doubles with each further one.
        longest: Upper limit in seconds, before the jitter, for the first *short_for* seconds of the failure. The limit
            then grows in proportion to the duration of the failure, up to 1 s.
        short_for: Seconds after which the limit grows.
        jitter: The range of the random factor.
    """

    first: float
    longest: float
    short_for: float
    jitter: tuple[float, float]

    def seconds(self, attempts: int, lasting: float) -> float:
        """Return the wait before the next attempt.

        Args:
            attempts: The number of failed attempts before the last one, 0 or more.
            lasting: Seconds since the first failed attempt began.
        """
        limit = min(self.longest * max(1.0, lasting / self.short_for), _MAX_RECOVERY_SECONDS)
        return backoff(attempts, self.first, limit, jitter=self.jitter)


def fitting_wait(wait: float, left: float) -> float | None:
    """Return *wait*, shortened if an attempt after it would have too little time; `None` if there is no time for one.

    Args:
        wait: Seconds to wait before the next attempt.
        left: Seconds until the attempts end.
    """
    return None if left < MIN_ATTEMPT_SECONDS else min(wait, left - MIN_ATTEMPT_SECONDS)
