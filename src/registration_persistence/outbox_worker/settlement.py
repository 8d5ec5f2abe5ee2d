"""`Settlement`: what becomes of a claimed message in the outbox: deleted, retried, buried or released."""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from registration_persistence.database import Database
from registration_persistence.database.backoff import backoff
from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import checked_duration, checked_number
from registration_persistence.durations import Duration
from registration_persistence.errors import InvalidInput
from registration_persistence.outbox_worker.delivery import reason_of
from registration_persistence.repositories.outbox import OutboxRepository

# The delay before a message is tried again varies by ± 50 %.
_DELAY_JITTER = (0.5, 1.5)

_MAX_ATTEMPTS, _MAX_DELAY = 10_000, timedelta(days=365)

logger: logging.Logger = logging.getLogger(__package__)


class Settlement:
    """Settles claimed messages, each call with one statement in its own transaction, and counts them.

    Raises:
        InvalidInput: *max_attempts* or a delay is out of its range.
    """

    def __init__(
        self, database: Database, *, max_attempts: int, first_delay: Duration, longest_delay: Duration
    ) -> None:
        self._database = database
        self.max_attempts: int = checked_number("max_attempts", max_attempts, 1, _MAX_ATTEMPTS)
        self._first_delay = checked_duration("first_delay", first_delay)
        self._longest_delay = checked_duration("longest_delay", longest_delay)
        if not self._first_delay <= self._longest_delay <= _MAX_DELAY:
            raise InvalidInput(
                f"first_delay is {self._first_delay} and longest_delay is {self._longest_delay}: "
                f"expected first_delay <= longest_delay <= {_MAX_DELAY.days} days"
            )
        self.counts: Counter[str] = Counter()

    def acknowledge(self, delivered: list[OutboxMessage]) -> None:
        """Delete the messages from the outbox, and remove them from the list."""
        if not delivered:
            return
        with self._database.session(autocommit=True) as session:
            OutboxRepository(session).ack(delivered)
        self.counts["delivered"] += len(delivered)
        delivered.clear()

    def retry_or_bury(self, message: OutboxMessage, error: Exception) -> None:
        """Schedule the next attempt of a message that failed, or bury it if this was its last one."""
        reason = reason_of(error)
        if message.attempts >= self.max_attempts:
            self.bury(message, reason)
            return
        delay = self._delay(message.attempts)
        logger.warning("%s was not delivered: %s; trying again in %s", _described(message), reason, delay)
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
