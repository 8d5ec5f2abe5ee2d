"""`Delivery`: calls the service's function, and tells which messages it has not delivered, and why."""

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import checked_reason
from registration_persistence.errors import InvalidInput, Undeliverable
from registration_persistence.outbox_worker.delivery_window import DeliveryWindow
from registration_persistence.plain_function import creates_deferred, is_deferred

_MAX_REASON_CHARACTERS = 200

Deliver: TypeAlias = Callable[[OutboxMessage], object]
"""Delivers one message, or raises."""

DeliverBatch: TypeAlias = Callable[[Sequence[OutboxMessage]], Mapping[UUID, Exception] | None]
"""Delivers all messages of a batch, and returns the exceptions of those that were not delivered, by event id."""


Failures: TypeAlias = Mapping[UUID, BaseException]
"""The exceptions of the messages of a group that were not delivered, by event id."""


class Batch(Protocol):
    """The messages of a batch, in groups, each of which is delivered with one call.

    Attributes:
        waiting: The groups that have not been tried yet.
    """

    waiting: deque[Sequence[OutboxMessage]]

    def settle(self, group: Sequence[OutboxMessage], failures: Failures) -> None:
        """Settle the messages of a group after its call."""

    def flush(self) -> None:
        """Release the messages whose failure does not count, and delete the delivered ones if that is due."""

    @property
    def seconds_until_deletion(self) -> float:
        """The seconds after which delivered messages wait no longer for others; infinite if there are none."""

    def release_waiting(self) -> None:
        """Make the messages that have not been tried due again."""


class Deliveries(Protocol):
    """Calls the service's function with the groups of a batch.

    Attributes:
        takes_batch: Whether the function is called with a tuple of messages.
    """

    takes_batch: bool

    def deliver(self, batch: Batch, window: DeliveryWindow) -> None:
        """Deliver and settle the groups, and remove them from `waiting`, until *window* is over."""


class Delivery:
    """Calls *deliver* with one message, or with a batch.

    Raises:
        InvalidInput: *deliver* is not a plain function, or *takes_batch* is not a bool.
    """

    def __init__(self, deliver: Deliver | DeliverBatch, *, takes_batch: bool) -> None:
        if not callable(deliver) or creates_deferred(deliver):
            raise InvalidInput(
                "deliver must be a plain function, because a coroutine or generator would never be executed: "
                "an async function needs AsyncOutboxWorker"
            )
        self._deliver: Callable[[Any], object] = deliver
        self.takes_batch: bool = checked_takes_batch(takes_batch)

    def deliver(self, batch: Batch, window: DeliveryWindow) -> None:
        """Deliver one group after the other, until *window* is over."""
        while batch.waiting and not window.is_over():
            group = batch.waiting.popleft()
            batch.settle(group, self._failures(group))
            batch.flush()

    def _failures(self, messages: Sequence[OutboxMessage]) -> Failures:
        """Deliver the messages, and return the exceptions of those that were not delivered, by event id.

        Raises:
            InvalidInput: The function returned something else than it may return.
        """
        try:
            result = self._deliver(tuple(messages)) if self.takes_batch else self._deliver(messages[0])
        except Exception as error:  # noqa: BLE001 whatever the service's function raises
            return failures_of_all(messages, error)
        return checked_failures(result, messages, takes_batch=self.takes_batch)


def checked_takes_batch(takes_batch: bool) -> bool:  # noqa: FBT001 it is named after the argument that it checks
    """Return *takes_batch* if it is a bool.

    Raises:
        InvalidInput: It is not.
    """
    if not isinstance(takes_batch, bool):
        raise InvalidInput(f"takes_batch is a {type(takes_batch).__name__}: expected True or False")
    return takes_batch


def failures_of_all(messages: Sequence[OutboxMessage], error: BaseException) -> Failures:
    """Return *error* as the exception of each message."""
    return dict.fromkeys((message.event_id for message in messages), error)


def checked_failures(result: object, messages: Sequence[OutboxMessage], *, takes_batch: bool) -> Failures:
    """Return the exceptions of the messages that were not delivered, by event id.

    Args:
        result: The result of the service's function.
        messages: The messages with which it was called.
        takes_batch: Whether its result is about a batch.

    Raises:
        InvalidInput: The function returned something else than it may return.
    """
    if is_deferred(result):
        raise InvalidInput("deliver returned a coroutine or a generator, which would never be executed")
    if result is None or not takes_batch:
        return {}
    ids = {message.event_id for message in messages}
    if not isinstance(result, Mapping) or not all(
        event_id in ids and isinstance(error, Exception) for event_id, error in result.items()
    ):
        raise InvalidInput(
            "deliver returned something else than None or a mapping from event ids of the batch to exceptions"
        )
    return result


def reason_of(error: BaseException) -> str:
    """Return the reason of an `Undeliverable`, or the class of *error* if that is none or could contain a mailbox."""
    if isinstance(error, Undeliverable):
        with suppress(InvalidInput):
            return checked_reason(error.reason)
    name = f"{type(error).__module__}.{type(error).__qualname__}"[:_MAX_REASON_CHARACTERS]
    return re.sub(r"[^A-Za-z0-9_.:-]", "-", name)
