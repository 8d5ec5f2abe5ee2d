"""`ReadThrottle`: limits the calls to Secrets Manager that follow rejected logins."""

import math
from collections import deque

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import backoff
from registration_persistence.database.credentials.secret_value import Stage

# Pause after all versions were rejected: at first, and at most.
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.2, 2.0

# Another thread's login takes at most this long after its read. A version that was read so shortly before a login
# began is up to date for that login too.
_LOGIN_SECONDS = 0.25

# The limit of the calls of this process in any second. Two rotations in a row need as many at most: in each of them,
# the current and the pending version are read.
_MAX_READS_PER_SECOND = 4


class ReadThrottle:
    """Decides whether a rejected login leads to a call, so that many threads cause one call and not one each."""

    def __init__(self) -> None:
        # `monotonic()` at the start of the last read that Secrets Manager answered.
        self._read_at: dict[Stage, float] = {}
        # `monotonic()` of the last read that `must_read` asked for, answered or not.
        self._asked_at: dict[Stage, float] = {}
        # `monotonic()` of the last reads that `must_read` asked for, the oldest one first.
        self._recent: deque[float] = deque(maxlen=_MAX_READS_PER_SECOND)
        # The number of pauses since a login was accepted, and the `monotonic()` at which the last one ends.
        self._pauses, self._pause_until = 0, -math.inf

    def must_read(self, stage: Stage, since: float) -> bool:
        """Return whether *stage* must be read for a login that began at *since* and was rejected.

        It must not during a pause, nor if the known version is newer than the login, nor more than four times in a
        second.
        """
        if self.seconds_left() or self._read_at.get(stage, -math.inf) >= since:
            return False
        if self._asked_at.get(stage, -math.inf) >= since - _LOGIN_SECONDS:
            return False
        now = monotonic()
        if len(self._recent) == _MAX_READS_PER_SECOND and now - self._recent[0] < 1:
            return False
        self._asked_at[stage] = now
        self._recent.append(now)
        return True

    def on_read(self, stage: Stage, started: float) -> None:
        """Record that Secrets Manager answered the read of *stage* that began at *started*."""
        self._read_at[stage] = started

    def seconds_left(self) -> float:
        """Return the seconds until the pause ends; 0 if there is none."""
        return max(self._pause_until - monotonic(), 0.0)

    def start_pause(self) -> None:
        """Start a pause, longer than the one before, unless one is running."""
        if not self.seconds_left():
            self._pause_until = monotonic() + backoff(self._pauses, _FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
            self._pauses += 1

    def on_accepted(self) -> None:
        """End the pause, and let the next one be short again; a login that is rejected from now on may read at once."""
        self._pauses, self._pause_until = 0, -math.inf
        self._asked_at = {}

    def forget_times(self) -> None:
        """Forget every time, because the monotonic clock may be another one after a snapshot was restored."""
        self._read_at, self._asked_at, self._pause_until = {}, {}, -math.inf
        self._recent.clear()
