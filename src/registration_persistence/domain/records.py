"""Records that repositories take and return: frozen, usable after the session has closed, no mailbox in `repr`."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any
from uuid import UUID

from registration_persistence.domain.status import CloseReason, EventType, Status
from registration_persistence.light_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Consent:
    """A decision about one document.

    Args:
        purpose: The purpose, 1 to 63 lower-case letters, digits and underscores: `terms`, `newsletter`.
        document_version: The version of the text that was shown, 1 to 64 letters, digits and `_.:/-`.
        granted: Whether the person agreed. Defaults to true.
        source: The place of the decision, 1 to 64 letters, digits and `_.:/-`: `web`, `app`. It stays after an erasure,
            so it must not identify the person. Defaults to `web`.
    """

    purpose: str
    document_version: str
    granted: bool = True
    source: str = "web"


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration at the moment when it was read. All times are by the clock of the database.

    Args:
        id: UUIDv7; its first 48 bits are the time of the sign-up.
        status: The status. `pending` and `verified` end at *expires_at*, before the sweep changes the row.
        version: The number of changes; pass it back as `expected_version`.
        email: The address as it was typed, for sending mail; `None` if erased.
        email_key: The normalised address by which mailboxes are compared; `None` if erased.
        profile: The JSON object that the service stored.
        created_at: The time of the sign-up.
        updated_at: The time of the last change.
        expires_at: The time until which the next step must be taken; `None` unless pending or verified.
        verified_at: The time at which the mailbox was verified; `None` before.
        activated_at: The time at which the registration became active; `None` before.
        closed_at: The time at which the registration expired, or was cancelled or erased; `None` before.
        close_reason: The reason why it is closed; `None` before.
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
    close_reason: CloseReason | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """A decision that was recorded.

    Args:
        purpose: The purpose, for example `terms`.
        document_version: The version of the text that was shown.
        granted: Whether the person agreed.
        source: The place of the decision, for example `web`.
        recorded_at: The time of the record, by the clock of the database.
        seq: The number of the event that recorded it, which orders the history.
    """

    purpose: str
    document_version: str
    granted: bool
    source: str
    recorded_at: datetime
    seq: int


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the event log; contains no personal data.

    Args:
        id: UUIDv7; the outbox message of the event has the same id.
        registration_id: The registration.
        seq: The number of the event within its registration, from 1 without gaps; the version after it.
        type: The type of the change.
        data: Details, for example the names of the fields that were changed.
        actor: The cause of the change: `user`, `system` or `admin:<id>`.
        correlation_id: The correlation id that the repository was given.
        occurred_at: The time of the change, by the clock of the database.
    """

    id: UUID
    registration_id: UUID
    seq: int
    type: EventType
    data: Mapping[str, Any]
    actor: str
    correlation_id: str | None
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message that is to be delivered; contains no personal data.

    Args:
        event_id: The id of the event, which is the same in each delivery, so that a receiver can detect a duplicate.
        registration_id: The registration.
        type: `registration.` and the type of the event.
        seq: The number of the event within its registration; a receiver that has seen a higher one may ignore it.
        attempts: The number of times that the message was claimed, this time included.
        last_error: The reason of the last failed attempt; `None` if there was none.
        available_at: The end of the lease, or the time of the next attempt.
        dead_at: The time at which the message became a dead letter; `None` before.
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
    """A registration from another system.

    Args:
        email: The address as the person typed it, at most 254 bytes without the white space around it.
        status: `pending`, `verified` or `active`. Defaults to `active`.
        profile: A JSON object of at most 8192 bytes and 32 levels. Defaults to an empty object.
        consents: The decisions, at most 32, and at most one for each purpose. Defaults to none.
        idempotency_key: A key of 1 to 255 bytes by which the row is recognised if it is imported again. Pending
            registrations need one; the others are recognised by their mailbox. Defaults to `None`.
        registered_at: The time of the sign-up, with a time zone, from 1900 to now. It is also stored as `verified_at`
            and `activated_at` if *status* implies them. Defaults to `None`, the time of the import.
    """

    email: str = field(repr=False)
    status: Status | str = Status.ACTIVE
    profile: Mapping[str, Any] = field(default_factory=dict, repr=False)
    consents: tuple[Consent, ...] = ()
    idempotency_key: str | None = field(default=None, repr=False)
    registered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of registrations, the oldest first.

    Args:
        items: The registrations.
        next_cursor: The cursor to pass as `after` for the next page; `None` on the last page.
    """

    items: tuple[Registration, ...]
    next_cursor: str | None
