"""`checked_messages`: the messages of the outbox that a worker reports on."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from registration_persistence.domain.records import OutboxMessage
from registration_persistence.domain.validation import at_most, checked_moment
from registration_persistence.errors import InvalidInput

_MAX_ATTEMPTS = 2**31 - 1  # PostgreSQL's integer


def checked_messages(messages: Iterable[OutboxMessage], maximum: int) -> list[OutboxMessage]:
    """Return *messages* as a list if they are at most *maximum*, and look as `claim` returned them."""
    too_many = InvalidInput(f"there are more than {maximum} messages: expected at most {maximum} in a call")
    given = at_most(messages, maximum, too_many) if isinstance(messages, Iterable) else [messages]
    if not all(_is_claimed(message) for message in given):
        raise InvalidInput(
            "the messages contain something else: expected OutboxMessage objects, as claim returned them"
        )
    return given


def _is_claimed(message: object) -> bool:
    return (
        isinstance(message, OutboxMessage)
        and isinstance(message.event_id, UUID)
        and type(message.attempts) is int
        and 0 <= message.attempts <= _MAX_ATTEMPTS
        and _is_moment(message.available_at)
    )


def _is_moment(value: datetime) -> bool:
    try:
        checked_moment("available_at", value)
    except InvalidInput:
        return False
    return True
