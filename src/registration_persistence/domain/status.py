"""The statuses of a registration, and the moves between them that are allowed."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Status(StrEnum):
    """Where a registration stands."""

    PENDING = "pending"
    VERIFIED = "verified"
    ACTIVE = "active"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Move:
    """A change of status that is allowed.

    Args:
        sources: The statuses that it may start from.
        target: The status that it leads to.
    """

    sources: tuple[Status, ...]
    target: Status


MOVES: Mapping[str, Move] = MappingProxyType(
    {
        "verified": Move((Status.PENDING,), Status.VERIFIED),
        "activated": Move((Status.VERIFIED,), Status.ACTIVE),
        "cancelled": Move((Status.PENDING, Status.VERIFIED), Status.CANCELLED),
        "expired": Move((Status.PENDING, Status.VERIFIED), Status.EXPIRED),
        "erased": Move(tuple(status for status in Status if status != Status.ERASED), Status.ERASED),
    }
)
"""The moves by the type of their event; a trigger of the schema refuses all others."""

INITIAL_STATUSES: Mapping[str, tuple[Status, ...]] = MappingProxyType(
    {"registered": (Status.PENDING,), "imported": (Status.PENDING, Status.VERIFIED, Status.ACTIVE)}
)
"""The statuses that a registration may begin with, by the type of its first event."""
