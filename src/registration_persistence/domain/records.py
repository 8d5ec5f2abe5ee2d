"""Records that repositories take and return: frozen, usable after the session has closed, no mailbox in `repr`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from registration_persistence.domain.status import Status


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
class ConsentRecord:
    """A consent as it was recorded.

    Args:
        purpose: As in `Consent`, as are the next three.
        document_version: Which version of the text was shown.
        granted: Whether the person agreed.
        source: Where the decision was made.
        recorded_at: When, by the database's clock.
        seq: The event of the trail that recorded it; orders the history.
    """

    purpose: str
    document_version: str
    granted: bool
    source: str
    recorded_at: datetime
    seq: int


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a registration; holds no personal data.

    Args:
        id: UUIDv7; the outbox message of the event has the same.
        registration_id: Which registration.
        seq: 1 for the first, without gaps; the registration's version after it.
        type: `registered`, `imported`, `verified`, `activated`, `profile_updated`, `consents_recorded`, `cancelled`,
            `expired` or `erased`.
        data: For example the names of the fields that were changed.
        actor: `user`, `system` or `admin:<id>`.
        correlation_id: As it was given to the repository.
        occurred_at: When, by the database's clock.
    """

    id: UUID
    registration_id: UUID
    seq: int
    type: str
    data: Mapping[str, Any]
    actor: str
    correlation_id: str | None
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message that is to be delivered; holds no personal data.

    Args:
        event_id: The event that it tells of; the same in each delivery, so that a receiver can know it again.
        registration_id: Which registration.
        type: `registration.` and the event's type.
        seq: The event's; a receiver that has seen a higher one may ignore it.
        attempts: How often it was claimed, this time included.
        last_error: What the last attempt that failed was given as its reason.
        available_at: Until when it is leased, or when it will be tried again.
        dead_at: When it was given up; `None` unless it was.
    """

    event_id: UUID
    registration_id: UUID
    type: str
    seq: int | None
    attempts: int
    last_error: str | None
    available_at: datetime
    dead_at: datetime | None


@dataclass(frozen=True, slots=True)
class ImportRow:
    """Somebody who registered elsewhere.

    Args:
        email: As the person typed it.
        status: `pending`, `verified` or `active`.
        profile: As for `RegistrationRepository.register`.
        consents: The same.
        idempotency_key: What makes the row known when it is imported again; pending registrations need one, the
            others are known by their mailbox.
        registered_at: When the person signed up, with a time zone; by default now. Also stored as the time of
            verification and activation, as the status has it.
    """

    email: str = field(repr=False)
    status: Status | str = Status.ACTIVE
    profile: Mapping[str, Any] = field(default_factory=dict, repr=False)
    consents: tuple[Consent, ...] = ()
    idempotency_key: str | None = field(default=None, repr=False)
    registered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of registrations, oldest first.

    Args:
        items: The registrations.
        next_cursor: Pass it as `after` for the next page; `None` on the last.
    """

    items: tuple[Registration, ...]
    next_cursor: str | None
