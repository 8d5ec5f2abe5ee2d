"""The statuses of a registration, the moves between them, and the vocabulary of its events."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, TypeAlias

from registration_persistence.light_dataclass import dataclass


class Status(StrEnum):
    """The position of a registration in its life."""

    PENDING = "pending"
    VERIFIED = "verified"
    ACTIVE = "active"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ERASED = "erased"


OPEN_OR_ACTIVE = (Status.PENDING, Status.VERIFIED, Status.ACTIVE)
"""The statuses of a registration that is not closed."""

CancelReason: TypeAlias = Literal["user", "admin", "superseded"]
"""The reason of a cancellation."""

CloseReason: TypeAlias = Literal["ttl", "user", "admin", "superseded", "erasure"]
"""The reason why a registration is closed: `ttl` if it expired, `erasure` if it was erased, or a `CancelReason`."""

EventType: TypeAlias = Literal[
    "registered",
    "imported",
    "verified",
    "activated",
    "profile_updated",
    "consents_recorded",
    "cancelled",
    "expired",
    "erased",
]
"""The type of an event in the event log."""


@dataclass(frozen=True, slots=True)
class Move:
    """A change of status that is allowed.

    Args:
        sources: The statuses from which the move can start.
        target: The status to which the move leads.
    """

    sources: tuple[Status, ...]
    target: Status


MOVES: Mapping[EventType, Move] = MappingProxyType(
    {
        "verified": Move((Status.PENDING,), Status.VERIFIED),
        "activated": Move((Status.VERIFIED,), Status.ACTIVE),
        "cancelled": Move((Status.PENDING, Status.VERIFIED), Status.CANCELLED),
        "expired": Move((Status.PENDING, Status.VERIFIED), Status.EXPIRED),
        "erased": Move(tuple(status for status in Status if status != Status.ERASED), Status.ERASED),
    }
)
"""The moves, by the type of their event; a trigger of the schema refuses all others."""

INITIAL_STATUSES: Mapping[EventType, tuple[Status, ...]] = MappingProxyType(
    {
        "registered": (Status.PENDING, Status.CANCELLED),
        "imported": (Status.PENDING, Status.VERIFIED, Status.ACTIVE),
    }
)
"""The statuses with which a registration can begin, by the type of its first event."""
