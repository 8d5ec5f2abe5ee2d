"""`Settlement`: what becomes of a claimed message in the outbox: deleted, retried, buried or released."""

import logging
import math
from asyncio import CancelledError
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.clock import monotonic
from registration_persistence.database import Database, deadline
from registration_persistence.database.backoff import backoff
from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import checked_duration, checked_number
from registration_persistence.durations import Duration
from registration_persistence.errors import InvalidInput, RegistrationPersistenceError
from registration_persistence.outbox_worker.delivery import reason_of
from registration_persistence.repositories.outbox import OutboxRepository

# The delay before a message is tried again varies by ± 50 %.
_DELAY_JITTER = (0.5, 1.5)

# A deletion takes a few milliseconds, so more of them than one in this time would slow the deliveries down.
_SECONDS_BETWEEN_DELETIONS = 0.1

# The time for the last statements of a task that was cancelled; each of the two ends of the work may use it.
_SECONDS_AFTER_CANCELLATION = 1.0

_MAX_ATTEMPTS, _MAX_DELAY = 10_000, timedelta(days=365)

logger: logging.Logger = logging.getLogger(__package__)


class Settlement:
    """Settles claimed messages, each call with one statement in its own transaction, and counts them.

    Args:
        database: The database of the outbox.
        deletes_batches: Whether delivered messages may wait for others, to be deleted together.
        max_attempts: The number of attempts after which a message is buried.
        first_delay: How long a message waits after its first failure.
        longest_delay: The maximum of this delay before its variation.

    Attributes:
        delivered: The messages that were delivered and are not deleted yet. A deletion that fails is repeated with the
            next one, so a message is delivered again only if its lease ends before.

    Raises:
        InvalidInput: *max_attempts* or a delay is out of its range.
    """

    def __init__(
        self,
        database: Database,
        *,
        deletes_batches: bool,
        max_attempts: int,
        first_delay: Duration,
        longest_delay: Duration,
    ) -> None:
        self._database = database
        self._deletes_batches = deletes_batches
        self.max_attempts: int = checked_number("max_attempts", max_attempts, 1, _MAX_ATTEMPTS)
        self._first_delay = checked_duration("first_delay", first_delay)
        self._longest_delay = checked_duration("longest_delay", longest_delay)
        if not self._first_delay <= self._longest_delay <= _MAX_DELAY:
            raise InvalidInput(
                f"first_delay is {self._first_delay} and longest_delay is {self._longest_delay}: "
                f"expected first_delay <= longest_delay <= {_MAX_DELAY.days} days"
            )
        self.counts: Counter[str] = Counter()
        self.delivered: list[OutboxMessage] = []
        self._next_deletion = 0.0

    def acknowledge_if_due(self) -> None:
        """Delete the delivered messages if they do not wait for others."""
        if not self._deletes_batches or monotonic() >= self._next_deletion:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Delete the delivered messages from the outbox."""
        if not self.delivered:
            return
        with self._database.session(autocommit=True) as session:
            OutboxRepository(session).ack(self.delivered)
        self.on_acknowledged()

    @property
    def seconds_until_deletion(self) -> float:
        """The seconds after which delivered messages wait no longer for others; infinite if there are none."""
        return max(self._next_deletion - monotonic(), 0.0) if self.delivered else math.inf

    def acknowledge_at_the_end(self, error: BaseException | None, untried: Sequence[OutboxMessage] = ()) -> None:
        """Try to delete the delivered messages at the end of the work, or before *error* is raised.

        If a task was cancelled, somebody waits for its end, so the time is limited.

        Args:
            error: The error that ends the work, which is reported instead of a failure to delete; `None` if there is
                none.
            untried: Messages that are released if a task was cancelled.
        """
        is_cancelled = isinstance(error, CancelledError)
        limit = deadline(_SECONDS_AFTER_CANCELLATION, reserve=0) if is_cancelled else nullcontext()
        with limit, suppress(RegistrationPersistenceError, SQLAlchemyError):
            self.acknowledge()
            if is_cancelled:
                self.release(untried)

    def on_acknowledged(self) -> None:
        """Count the delivered messages, which are deleted now."""
        if self.delivered:
            self.counts["delivered"] += len(self.delivered)
            self.delivered.clear()
        self._next_deletion = monotonic() + _SECONDS_BETWEEN_DELETIONS

    def retry_or_bury(self, message: OutboxMessage, error: BaseException) -> None:
        """Schedule the next attempt of a message that failed, or bury it if this was its last one."""
        reason = reason_of(error)
        if message.attempts >= self.max_attempts:
            self.bury(message, reason)
            return
        delay = self._delay(message.attempts)
        seconds = delay.total_seconds()
        logger.warning("%s was not delivered: %s; trying again in %.1f s", _described(message), reason, seconds)
        with self._database.session(autocommit=True) as session:
            self.counts["retried"] += OutboxRepository(session).retry(message, reason, delay)

    def bury(self, message: OutboxMessage, reason: str) -> None:
        """Make the message a dead letter."""
        logger.error("%s is a dead letter now, attempts: %d, reason: %s", _described(message), message.attempts, reason)
        with self._database.session(autocommit=True) as session:
            self.counts["buried"] += OutboxRepository(session).bury(message, reason)

    def release(self, messages: Sequence[OutboxMessage]) -> None:
        """Make the messages due again; their attempt does not count."""
        if not messages:
            return
        with self._database.session(autocommit=True) as session:
            self.counts["released"] += OutboxRepository(session).release(messages)

    def _delay(self, attempts: int) -> timedelta:
        first, longest = self._first_delay.total_seconds(), self._longest_delay.total_seconds()
        return timedelta(seconds=backoff(attempts - 1, first, longest, jitter=_DELAY_JITTER))


def _described(message: OutboxMessage) -> str:
    return f"{message.type} of registration {message.registration_id}"
