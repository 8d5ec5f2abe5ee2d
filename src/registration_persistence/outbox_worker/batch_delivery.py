"""`BatchDelivery`: delivers the messages of a batch, and settles each of them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from registration_persistence.domain.records import OutboxMessage
from registration_persistence.errors import Undeliverable
from registration_persistence.outbox_worker.circuit_breaker import CircuitBreaker
from registration_persistence.outbox_worker.delivery import Delivery, reason_of
from registration_persistence.outbox_worker.settlement import Settlement

logger: logging.Logger = logging.getLogger(__package__)

# A message with more unreported attempts counts as a poison message.
_MAX_UNREPORTED_ATTEMPTS = 3


class BatchDelivery:
    """Delivers the messages of a batch, and settles those that were delivered, failed, or could not be tried."""

    def __init__(self, delivery: Delivery, settlement: Settlement, breaker: CircuitBreaker) -> None:
        self._delivery = delivery
        self._settlement = settlement
        self._breaker = breaker

    def deliver(self, claimed: Sequence[OutboxMessage], must_end: Callable[[], bool]) -> None:
        """Deliver the messages: one poison message alone and last; release the other poison messages.

        A worker that crashes uses up an attempt of every message in its batch, although only one caused the crash.
        """
        unreported = min(_MAX_UNREPORTED_ATTEMPTS, self._settlement.max_attempts)
        poison: list[OutboxMessage] = []
        harmless: list[OutboxMessage] = []
        for message in claimed:
            is_poison = message.attempts > unreported and message.last_error is None
            (poison if is_poison else harmless).append(message)
        self._settlement.release(poison[1:])
        groups = [harmless] if self._delivery.takes_batch else [[message] for message in harmless]
        try:
            self._deliver_groups(groups, must_end)
            if poison:
                self._settlement.acknowledge()
                self._deliver_groups([poison[:1]], must_end)
        except BaseException:
            self._settlement.acknowledge_before_an_error()
            raise

    def _deliver_groups(self, groups: Sequence[Sequence[OutboxMessage]], must_end: Callable[[], bool]) -> None:
        """Call *deliver* with each group, until *must_end* returns true, and release the rest."""
        for position, group in enumerate(groups):
            if must_end():
                self._settlement.release([message for rest in groups[position:] for message in rest])
                break
            self._deliver_group(group)
            self._settlement.acknowledge_if_due()

    def _deliver_group(self, group: Sequence[OutboxMessage]) -> None:
        """Call *deliver* with the messages, and settle them."""
        due = []
        for message in group:
            if message.attempts <= self._settlement.max_attempts:
                due.append(message)
            else:  # the worker of the last attempt crashed
                self._settlement.bury(message, message.last_error or "attempts-used-up")
        if not due:
            return
        failures = self._delivery.failures(due)
        delivered = [message for message in due if message.event_id not in failures]
        self._settlement.delivered += delivered  # first, because settling a failure may fail
        if delivered and self._breaker.on_delivered():
            logger.info("the deliveries work again")
        if failures:
            self._settle_failures(due, failures, counts=not delivered)

    def _settle_failures(
        self, messages: Sequence[OutboxMessage], failures: Mapping[UUID, Exception], *, counts: bool
    ) -> None:
        """Retry, bury or release the messages that failed.

        Args:
            messages: The messages that were tried together.
            failures: The exceptions of those that failed, by event id.
            counts: Whether the circuit breaker counts the failures.
        """
        untried = []
        for message in messages:
            error = failures.get(message.event_id)
            if isinstance(error, Undeliverable):
                self._settlement.bury(message, reason_of(error))
            elif error is not None and self._breaker.is_open:
                untried.append(message)
            elif error is not None:
                self._settlement.retry_or_bury(message, error)
                if counts and self._breaker.on_failed(message.event_id):
                    logger.error("the deliveries are paused: the last %d messages failed", self._breaker.threshold)
        self._settlement.release(untried)
