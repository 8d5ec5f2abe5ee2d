"""`BatchDelivery`: delivers the messages of a batch, and settles each of them."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from uuid import UUID

from registration_persistence.domain.records import OutboxMessage
from registration_persistence.errors import Undeliverable
from registration_persistence.outbox_worker.circuit_breaker import CircuitBreaker
from registration_persistence.outbox_worker.delivery import Deliveries, reason_of
from registration_persistence.outbox_worker.delivery_window import DeliveryWindow
from registration_persistence.outbox_worker.settlement import Settlement

logger: logging.Logger = logging.getLogger(__package__)

# A message with more unreported attempts counts as a poison message.
_MAX_UNREPORTED_ATTEMPTS = 3


class BatchDelivery:
    """Delivers the messages of a batch, and settles those that were delivered, failed, or could not be tried.

    Attributes:
        waiting: The groups of messages that have not been tried yet; each group is delivered with one call.
    """

    def __init__(self, delivery: Deliveries, settlement: Settlement, breaker: CircuitBreaker) -> None:
        self._delivery = delivery
        self._settlement = settlement
        self._breaker = breaker
        self.waiting: deque[Sequence[OutboxMessage]] = deque()
        # Messages that failed while the circuit breaker was open.
        self._uncounted: list[OutboxMessage] = []

    def deliver(self, claimed: Sequence[OutboxMessage], window: DeliveryWindow) -> None:
        """Deliver the messages: one poison message alone and last; release the other poison messages.

        A worker that crashes uses up an attempt of every message in its batch, although only one caused the crash.
        """
        unreported = min(_MAX_UNREPORTED_ATTEMPTS, self._settlement.max_attempts)
        poison: list[OutboxMessage] = []
        harmless: list[OutboxMessage] = []
        for message in claimed:
            is_poison = message.attempts > unreported and message.last_error is None
            (poison if is_poison else harmless).append(message)
        groups = [harmless] if self._delivery.takes_batch else [[message] for message in harmless]
        last, others = poison[:1], poison[1:]
        self._uncounted = []
        try:
            self._settlement.release(others)
            self._deliver_groups(groups, window)
            if last:
                self._settlement.acknowledge()
                group, last = last, []
                self._deliver_groups([group], window)
        except GeneratorExit:  # the event loop has ended, so nothing can wait for the server
            raise
        except BaseException as error:
            self._settlement.acknowledge_at_the_end(error, [*self._taken(), *self._uncounted, *last])
            raise

    def settle(self, group: Sequence[OutboxMessage], failures: Mapping[UUID, BaseException]) -> None:
        """Settle the messages of a group after its call.

        Args:
            group: The messages, which were tried together.
            failures: The exceptions of those that were not delivered, by event id.
        """
        delivered = [message for message in group if message.event_id not in failures]
        self._settlement.delivered += delivered  # first, because settling a failure may fail
        if delivered and self._breaker.on_delivered():
            logger.info("the deliveries work again")
        if failures:
            self._settle_failures(group, failures, counts=not delivered)

    def flush(self) -> None:
        """Release the messages whose failure does not count, and delete the delivered ones if that is due."""
        self._settlement.release(self._uncounted)
        self._uncounted = []
        self._settlement.acknowledge_if_due()

    @property
    def seconds_until_deletion(self) -> float:
        """The seconds after which delivered messages wait no longer for others; infinite if there are none."""
        return self._settlement.seconds_until_deletion

    def release_waiting(self) -> None:
        """Make the messages that have not been tried due again."""
        self._settlement.release(self._taken())

    def _taken(self) -> list[OutboxMessage]:
        """Remove the messages that have not been tried, and return them."""
        messages = [message for group in self.waiting for message in group]
        self.waiting.clear()
        return messages

    def _deliver_groups(self, groups: Sequence[Sequence[OutboxMessage]], window: DeliveryWindow) -> None:
        """Call *deliver* with each group, until *window* is over, and release the rest."""
        self.waiting.extend(filter(None, map(self._due, groups)))
        self._delivery.deliver(self, window)
        self.release_waiting()

    def _due(self, group: Sequence[OutboxMessage]) -> Sequence[OutboxMessage]:
        """Bury the messages whose attempts are used up, and return the others."""
        due = []
        for message in group:
            if message.attempts <= self._settlement.max_attempts:
                due.append(message)
            else:  # the worker of the last attempt crashed
                self._settlement.bury(message, message.last_error or "attempts-used-up")
        return due

    def _settle_failures(
        self, messages: Sequence[OutboxMessage], failures: Mapping[UUID, BaseException], *, counts: bool
    ) -> None:
        """Retry or bury the messages that failed, and note those whose failure does not count.

        Args:
            messages: The messages that were tried together.
            failures: The exceptions of those that failed, by event id.
            counts: Whether the circuit breaker counts the failures.
        """
        for message in messages:
            error = failures.get(message.event_id)
            if isinstance(error, Undeliverable):
                self._settlement.bury(message, reason_of(error))
            elif error is not None and self._breaker.is_open:
                self._uncounted.append(message)
            elif error is not None:
                self._settlement.retry_or_bury(message, error)
                if counts and self._breaker.on_failed(message.event_id):
                    logger.error("the deliveries are paused: the last %d messages failed", self._breaker.threshold)
