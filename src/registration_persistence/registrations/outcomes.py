"""What repository methods take and return: frozen, usable after the session has closed, with no mailbox in `repr`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from registration_persistence.registrations.base import Status


@dataclass(frozen=True, slots=True)
class Consent:
    """A decision about one document.

    Args:
        purpose: What for, in lower case with underscores: `terms`, `newsletter`.
        document_version: Which version of the text was shown.
        granted: Whether the person agreed.
        source: Where the decision was made: `web`, `app`.
    """

    purpose: str
    document_version: str
    granted: bool = True
    source: str = "web"


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration as it stood when it was read.

    Args:
        id: UUIDv7; its first 48 bits tell when the person signed up.
        status: Where it stands. `pending` and `verified` end at *expires_at*, also where nothing has noted it yet.
        version: Goes up by one with each change; pass it back as `expected_version`.
        email: As typed, for sending mail; `None` when erased.
        email_key: What mailboxes are compared by; `None` when erased.
        profile: What the service stored about the person.
        created_at: When it was registered, by the database's clock, as are all the times here.
        updated_at: When it last changed.
        expires_at: Until when the next step must be taken; `None` unless pending or verified.
        verified_at: When the mailbox was proven.
        activated_at: When it became active.
        closed_at: When it expired, or was cancelled or erased.
        close_reason: `ttl`, `user`, `admin`, `superseded` or `erasure`.
    """

    id: UUID
    status: Status
    version: int
    email: str | None = field(repr=False)
    email_key: str | None = field(repr=False)
    profile: Mapping[str, Any] = field(repr=False)
    created_at: datetime = field(repr=False)
    updated_at: datetime = field(repr=False)
    expires_at: datetime | None = field(repr=False)
    verified_at: datetime | None = field(repr=False)
    activated_at: datetime | None = field(repr=False)
    closed_at: datetime | None = field(repr=False)
    close_reason: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Registered:
    """A new registration.

    Args:
        registration: Pending.
        secret: Goes into the verification link and is stored nowhere; there is no other way to get at it.
        email_proven: Whether somebody has proven this mailbox already, so that the mail should say so. The answer to
            the client should not.
    """

    registration: Registration
    secret: str = field(repr=False)
    email_proven: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """The registration that an earlier call with the same idempotency key and payload made; nothing has changed.

    Args:
        registration: As it stands now.
        email_proven: As in `Registered`.
    """

    registration: Registration
    email_proven: bool


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
    """The token's time is over, a newer one replaced it, or its registration has expired or was cancelled."""


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
class Page:
    """One page of registrations, oldest first.

    Args:
        items: The registrations.
        next_cursor: Pass it as `after` for the next page; `None` on the last.
    """

    items: tuple[Registration, ...]
    next_cursor: str | None


RegisterOutcome = Registered | Replayed
VerifyOutcome = Verified | AlreadyVerified | TokenUnknown | TokenExpired | EmailTaken
PeekOutcome = TokenUsable | AlreadyVerified | TokenUnknown | TokenExpired | EmailTaken
