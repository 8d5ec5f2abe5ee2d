"""`DeliveryWindow`: the time in which the messages of a batch may be delivered."""

from collections.abc import Callable
from datetime import timedelta

from registration_persistence.clock import monotonic

# The share of the lease in which a delivery may start.
_DELIVERY_SHARE_OF_LEASE = 0.9


class DeliveryWindow:
    """Begins before the messages are claimed, so it ends before their lease does, by the clock of this process.

    Args:
        lease: The lease of the messages.
        must_end: Returns whether no further delivery may start for another reason than the time.
    """

    def __init__(self, lease: timedelta, must_end: Callable[[], bool]) -> None:
        seconds, now = lease.total_seconds(), monotonic()
        self._last_start = now + _DELIVERY_SHARE_OF_LEASE * seconds
        self._end_of_lease = now + seconds
        self._must_end = must_end

    def is_over(self) -> bool:
        """Return whether no further delivery may start."""
        return monotonic() > self._last_start or self._must_end()

    @property
    def seconds_to_start(self) -> float:
        """The seconds in which a delivery may start, 0 or more."""
        return max(self._last_start - monotonic(), 0.0)

    @property
    def seconds_to_finish(self) -> float:
        """The seconds until the end of the lease, 0 or more."""
        return max(self._end_of_lease - monotonic(), 0.0)
