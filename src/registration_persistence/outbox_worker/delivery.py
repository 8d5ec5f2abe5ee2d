"""`Delivery`: calls the service's function, and tells which messages it has not delivered, and why."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias
from uuid import UUID

from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import checked_reason
from registration_persistence.errors import InvalidInput, Undeliverable
from registration_persistence.plain_function import creates_deferred, is_deferred

_MAX_REASON_CHARACTERS = 200

Deliver: TypeAlias = Callable[[OutboxMessage], object]
"""Delivers one message, or raises."""

DeliverBatch: TypeAlias = Callable[[Sequence[OutboxMessage]], Mapping[UUID, Exception] | None]
"""Delivers all messages of a batch, and returns the exceptions of those that were not delivered, by event id."""


class Delivery:
    """Calls *deliver* with one message, or with a batch.

    Raises:
        InvalidInput: *deliver* is not a plain function, or *takes_batch* is not a bool.
    """

    def __init__(self, deliver: Deliver | DeliverBatch, *, takes_batch: bool) -> None:
        if not callable(deliver) or creates_deferred(deliver):
            raise InvalidInput("deliver must be a plain function: a coroutine or generator would never be executed")
        if not isinstance(takes_batch, bool):
            raise InvalidInput(f"takes_batch is a {type(takes_batch).__name__}: expected True or False")
        self._deliver: Callable[[Any], object] = deliver
        self.takes_batch = takes_batch

    def failures(self, messages: Sequence[OutboxMessage]) -> Mapping[UUID, Exception]:
        """Deliver the messages, and return the exceptions of those that were not delivered, by event id.

        Raises:
            InvalidInput: The function returned something else than it may return.
        """
        try:
            result = self._deliver(tuple(messages)) if self.takes_batch else self._deliver(messages[0])
        except Exception as error:  # noqa: BLE001 whatever the service's function raises
            return dict.fromkeys((message.event_id for message in messages), error)
        if is_deferred(result):
            raise InvalidInput("deliver returned a coroutine or a generator, which would never be executed")
        return _checked_failures(result, messages) if self.takes_batch else {}


def _checked_failures(result: object, messages: Sequence[OutboxMessage]) -> Mapping[UUID, Exception]:
    if result is None:
        return {}
    ids = {message.event_id for message in messages}
    if not isinstance(result, Mapping) or not all(
        event_id in ids and isinstance(error, Exception) for event_id, error in result.items()
    ):
        raise InvalidInput(
            "deliver returned something else than None or a mapping from event ids of the batch to exceptions"
        )
    return result


def reason_of(error: Exception) -> str:
    """Return the reason of an `Undeliverable`, or the class of *error* if that is none or could contain a mailbox."""
    if isinstance(error, Undeliverable):
        with suppress(InvalidInput):
            return checked_reason(error.reason)
    name = f"{type(error).__module__}.{type(error).__qualname__}"[:_MAX_REASON_CHARACTERS]
    return re.sub(r"[^A-Za-z0-9_.:-]", "-", name)
