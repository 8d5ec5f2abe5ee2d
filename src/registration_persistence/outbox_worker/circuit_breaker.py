"""`CircuitBreaker`: pauses the deliveries after several messages have failed in a row."""

from uuid import UUID

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import backoff

_FIRST_PAUSE_SECONDS = 1.0


class CircuitBreaker:
    """Is closed while deliveries work, and opens when *threshold* different messages have failed in a row.

    One message that fails again and again does not open it, because that message may be the cause. When a pause is
    over, a few messages are tried; the first that is delivered closes the circuit breaker.

    Args:
        threshold: The number of different messages that must fail without a delivery in between.
        longest_pause: Upper limit of the pauses in seconds, before the jitter. They begin at one second, and double.
    """

    def __init__(self, threshold: int, longest_pause: float) -> None:
        self.threshold = threshold
        self._longest_pause = longest_pause
        self._failed: set[UUID] = set()
        self._pauses = 0
        self._paused_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the deliveries are paused, or are being tried after a pause."""
        return self._pauses > 0

    @property
    def seconds_until_trial(self) -> float:
        """The rest of the pause in seconds; 0 if messages may be delivered or tried."""
        return max(self._paused_until - monotonic(), 0.0) if self.is_open else 0.0

    def on_delivered(self) -> bool:
        """Close, and return whether it was open."""
        was_open = self.is_open
        self._failed.clear()
        self._pauses = 0
        return was_open

    def on_failed(self, event_id: UUID) -> bool:
        """Count the failure of a message, and return whether this has opened the circuit breaker."""
        self._failed.add(event_id)
        if self.is_open or len(self._failed) < self.threshold:
            return False
        self.pause()
        return True

    def pause(self) -> float:
        """Start the next pause, and return its length in seconds."""
        seconds = backoff(self._pauses, min(_FIRST_PAUSE_SECONDS, self._longest_pause), self._longest_pause)
        self._pauses += 1
        self._paused_until = monotonic() + seconds
        return seconds
