"""`DeliveryLoop`: claims, delivers and settles one batch after the other; the part that both workers have."""

import logging
from datetime import timedelta
from typing import Literal, Protocol, TypeAlias, get_args

from registration_persistence.database import Database
from registration_persistence.database.backoff import backoff
from registration_persistence.domain.validation import checked_duration, checked_number, checked_word
from registration_persistence.durations import Duration
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    RegistrationPersistenceError,
    StatementTimeout,
)
from registration_persistence.outbox_worker.batch_delivery import BatchDelivery
from registration_persistence.outbox_worker.circuit_breaker import CircuitBreaker
from registration_persistence.outbox_worker.claims import Claims
from registration_persistence.outbox_worker.delivery import Deliveries
from registration_persistence.outbox_worker.delivery_window import DeliveryWindow
from registration_persistence.outbox_worker.settlement import Settlement

Acknowledge: TypeAlias = Literal["message", "batch"]
"""When delivered messages are deleted: each `message` at once, or many of a `batch` together."""

MAX_BATCH_MESSAGES = 1000
"""The maximum of *batch*."""

logger: logging.Logger = logging.getLogger(__package__)

# The back-off while the database cannot be reached.
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.5, 30.0

_MAX_PAUSE_AFTER = 10_000


class Stop(Protocol):
    """The part of `threading.Event` that the loop uses."""

    def is_set(self) -> bool:
        """Return whether the loop must end."""

    def wait(self, timeout: float) -> object:
        """Wait until the loop must end, at most *timeout* seconds."""


class DeliveryLoop:
    """Claims, delivers and settles one batch after the other.

    Args:
        database: The database of the outbox.
        delivery: Delivers the messages of a batch.
        acknowledge: When delivered messages are deleted.
        batch: The maximum number of messages to claim at once.
        lease: How long other workers cannot claim the messages of a batch.
        max_attempts: The number of attempts after which a message is given up.
        first_delay: How long a message waits after its first failure.
        longest_delay: The maximum of this delay before the variation.
        pause_after: The number of different messages that fail in a row before the deliveries are paused.
        longest_pause: The maximum of the pauses.

    Raises:
        InvalidInput: An argument is out of its range.
    """

    def __init__(
        self,
        database: Database,
        delivery: Deliveries,
        *,
        acknowledge: Acknowledge,
        batch: int,
        lease: Duration,
        max_attempts: int,
        first_delay: Duration,
        longest_delay: Duration,
        pause_after: int,
        longest_pause: Duration,
    ) -> None:
        when = checked_word(acknowledge, get_args(Acknowledge), "acknowledge is unknown")
        self._batch = checked_number("batch", batch, 1, MAX_BATCH_MESSAGES)
        self._lease = checked_duration("lease", lease)
        self._claims = Claims(database, self._lease)
        self.settlement: Settlement = Settlement(
            database,
            deletes_batches=delivery.takes_batch or when == "batch",
            max_attempts=max_attempts,
            first_delay=first_delay,
            longest_delay=longest_delay,
        )
        self._breaker = CircuitBreaker(
            checked_number("pause_after", pause_after, 1, _MAX_PAUSE_AFTER),
            checked_duration("longest_pause", longest_pause).total_seconds(),
        )
        self._batches = BatchDelivery(delivery, self.settlement, self._breaker)

    def run_once(self, stop: Stop | None) -> int:
        """Claim one batch, deliver it, and return the number of messages that were claimed."""
        claimed = self._deliver_batch(stop)
        self.settlement.acknowledge()
        return claimed

    def run(self, stop: Stop, poll: timedelta) -> None:
        """Deliver until *stop* is set. Waits while the database cannot be reached.

        Args:
            stop: Ends the loop.
            poll: How long to wait if fewer messages than a full batch are due.
        """
        try:
            self._run(stop, poll.total_seconds())
        except GeneratorExit:  # the event loop has ended, so nothing can wait for the server
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self.settlement.acknowledge_at_the_end(error)
        if self.settlement.delivered:
            number = len(self.settlement.delivered)
            logger.error("%d messages were delivered, cannot be deleted, and will be delivered again", number)

    def _run(self, stop: Stop, wait: float) -> None:
        failures = 0
        while not stop.is_set():
            try:
                is_full = self._deliver_batch(stop) == self._batch
                if not is_full or stop.is_set():
                    self.settlement.acknowledge()
                if not is_full:
                    stop.wait(max(wait, self._breaker.seconds_until_trial))
                failures = 0
            except RegistrationPersistenceError as error:
                # The last statement may be repeated even if it was committed: a lease ends, a message is sent twice.
                if not (error.retryable or isinstance(error, CommitOutcomeUnknown | StatementTimeout)):
                    raise
                failures += 1
                pause = backoff(failures, _FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
                logger.warning("the outbox cannot be read, trying again in %.1f s: %s", pause, type(error).__name__)
                stop.wait(pause)

    def _deliver_batch(self, stop: Stop | None) -> int:
        """Claim a batch, delete what was delivered before, deliver, and return the number of claimed messages.

        With `acknowledge="batch"`, the last messages that were delivered are left to the next deletion.
        """
        if self._breaker.seconds_until_trial > 0:
            return 0
        is_trial = self._breaker.is_open

        def must_end() -> bool:
            return (stop is not None and stop.is_set()) or (self._breaker.is_open and not is_trial)

        window = DeliveryWindow(self._lease, must_end)
        limit = min(self._batch, self._breaker.threshold) if is_trial else self._batch
        claimed = self._claims.take(limit, self.settlement.delivered)
        self.settlement.on_acknowledged()
        self._batches.deliver(claimed, window)
        if is_trial and claimed and self._breaker.is_open:
            logger.warning("the deliveries still fail, trying again in %.1f s", self._breaker.pause())
        return len(claimed)
