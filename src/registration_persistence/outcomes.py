"""What repository methods take and return: frozen, usable after the session has closed, with no mailbox in `repr`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from registration_persistence.domain.records import ConsentRecord, Event, OutboxMessage, Page, Registration
from registration_persistence.domain.status import Status

__all__ = [
    "AlreadyVerified",
    "Cancelled",
    "CodeOutcome",
    "ConsentRecord",
    "EmailTaken",
    "Erased",
    "Event",
    "ImportReport",
    "IssueOutcome",
    "Issued",
    "LockedOut",
    "NotPending",
    "OutboxMessage",
    "Page",
    "PeekOutcome",
    "RegisterOutcome",
    "Registered",
    "Registration",
    "Replayed",
    "Throttled",
    "TokenExpired",
    "TokenUnknown",
    "TokenUsable",
    "Verified",
    "VerifyOutcome",
    "WrongCode",
]


@dataclass(frozen=True, slots=True)
class Registered:
    """A new registration.

    Args:
        registration: Pending.
        token: Goes into the verification link and is stored nowhere; there is no other way to get at it.
        email_verified_elsewhere: Whether another registration has verified this mailbox. The mail should
            say so; the answer to the client should not.
    """

    registration: Registration
    token: str = field(repr=False)
    email_verified_elsewhere: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """The registration that an earlier call with the same idempotency key and payload made; nothing has changed.

    Args:
        registration: As it stands now.
        email_verified_elsewhere: As in `Registered`.
    """

    registration: Registration
    email_verified_elsewhere: bool


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token or code; those that were issued before are no good any more.

    Args:
        registration: Pending. Mail goes to its `email`, never to an address that was typed now.
        secret: The token for the link, or the six digits; stored nowhere.
        expires_at: Until when it can be used.
    """

    registration: Registration
    secret: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Throttled:
    """Nothing was issued, because it is too soon or was too often.

    Args:
        retry_at: When it will be allowed, by the database's clock; `None` where `max_issued` is reached, and only a
            new registration helps.
    """

    retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class NotPending:
    """Nothing was issued, because there is nothing to prove.

    Args:
        status: Where the registration stands; `expired` also where nothing has noted yet that its time is over.
    """

    status: Status


@dataclass(frozen=True, slots=True)
class Verified:
    """The mailbox is proven now; a registration that had proven it and run out is expired."""

    registration: Registration


@dataclass(frozen=True, slots=True)
class AlreadyVerified:
    """The mailbox was proven before; a success for the person, who may have opened the link twice."""

    registration: Registration


@dataclass(frozen=True, slots=True)
class TokenUsable:
    """`verify_by_token` would prove the mailbox."""

    registration: Registration


@dataclass(frozen=True, slots=True)
class TokenUnknown:
    """No such token was given out, or its registration has been erased."""


@dataclass(frozen=True, slots=True)
class TokenExpired:
    """The token's or code's time is over, a newer token replaced it, or its registration has expired or was cancelled.

    Also where no code was issued, or its pepper is gone. A code that a newer code replaced is a wrong one.
    """


@dataclass(frozen=True, slots=True)
class WrongCode:
    """The code is another one. Commit: the attempt counts only then.

    Args:
        left: How many more wrong codes will be judged.
    """

    left: int


@dataclass(frozen=True, slots=True)
class LockedOut:
    """Too many wrong codes were tried, so that not even the right one counts; a new code has new attempts."""


@dataclass(frozen=True, slots=True)
class EmailTaken:
    """Another registration has proven this mailbox."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The registration is cancelled.

    Args:
        registration: As it stands now.
        changed: Whether this call did it; false where it was cancelled before.
    """

    registration: Registration
    changed: bool


@dataclass(frozen=True, slots=True)
class Erased:
    """Nothing is left of the person but the registration's id, its times, its consents and its trail.

    Args:
        registration: As it stands now.
        changed: Whether this call did it; false where it was erased before.
    """

    registration: Registration
    changed: bool


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Args:
        inserted: Rows that are registrations now.
        duplicates: Rows whose mailbox was proven already, or whose idempotency key was used before.
        rejected: Rows that cannot be stored.
        reasons: How many rows were rejected for each reason; no reason quotes a row.
    """

    inserted: int
    duplicates: int
    rejected: int
    reasons: Mapping[str, int]


RegisterOutcome = Registered | Replayed

VerifyOutcome = Verified | AlreadyVerified | TokenUnknown | TokenExpired | EmailTaken

CodeOutcome = VerifyOutcome | WrongCode | LockedOut

IssueOutcome = Issued | Throttled | NotPending

PeekOutcome = TokenUsable | AlreadyVerified | TokenUnknown | TokenExpired | EmailTaken
