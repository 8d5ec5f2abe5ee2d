"""`CheckedRow`: a row of an import that can be stored; `columns_of`: many of them as parameters of one statement."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct

from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.idempotency import submission_hashes
from registration_persistence.domain.ids import new_id_bytes
from registration_persistence.domain.profile import encoded_profile
from registration_persistence.domain.records import Consent, ImportRow
from registration_persistence.domain.status import INITIAL_STATUSES, Status
from registration_persistence.domain.validation import checked_consents, checked_moment, checked_word
from registration_persistence.errors import InvalidInput
from registration_persistence.repositories.binary_array import BinaryArray, binary_array

_EARLIEST_REGISTERED_AT = datetime(1900, 1, 1, tzinfo=UTC)
# PostgreSQL's `timestamptz` is a number of microseconds from this moment.
_POSTGRESQL_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_bigint = Struct("!q").pack
_FALSE, _TRUE = b"\0", b"\1"
_JSONB_VERSION = b"\1"

_IMPORTABLE_STATUSES = INITIAL_STATUSES["imported"]
_MAX_CACHED_EVENT_DATA = 100


@dataclass(slots=True)
class CheckedRow:
    """A row that can be stored.

    Args:
        number: The number of the row in the stream, from 1.
        id: The id of the registration, as 16 bytes.
        event_id: The id of its event, as 16 bytes.
        email: The address.
        email_key: The key of its mailbox.
        status: The status.
        profile: The profile, as JSON.
        submit_key: The hash of the idempotency key.
        submit_digest: The hash of the submission.
        registered_at: The time of the sign-up, in microseconds from 2000.
        consents: The consents.
    """

    number: int
    id: bytes
    event_id: bytes
    email: str
    email_key: str
    status: str
    profile: str
    submit_key: bytes | None
    submit_digest: bytes | None
    registered_at: int | None
    consents: list[Consent]


def checked_row(number: int, row: ImportRow, now: datetime) -> CheckedRow:
    """Return *row*, the row *number* of a stream, if it can be stored.

    Raises:
        InvalidInput: It cannot.
    """
    if not isinstance(row, ImportRow):
        raise InvalidInput(f"the row is a {type(row).__name__}: expected an ImportRow")
    status = _status_text(row.status)
    mailbox = normalise_email(row.email)
    profile, encoded = encoded_profile(row.profile)
    consents = checked_consents(row.consents)
    registered_at = None if row.registered_at is None else _past_moment(row.registered_at, now)
    key, digest = submission_hashes(row.idempotency_key, mailbox.address, profile, consents).values()
    return CheckedRow(
        number, new_id_bytes(), new_id_bytes(), mailbox.address, mailbox.key, status, encoded,
        key, digest, registered_at, consents,
    )  # fmt: skip


def _status_text(status: Status | str) -> str:
    if type(status) is Status and status in _IMPORTABLE_STATUSES:
        return status.value
    return checked_word(status, _IMPORTABLE_STATUSES, "the status cannot be imported")


def _past_moment(registered_at: datetime, now: datetime) -> int:
    moment = checked_moment("registered_at", registered_at)
    if moment > now:
        raise InvalidInput("registered_at is in the future")
    if moment < _EARLIEST_REGISTERED_AT:
        raise InvalidInput(f"registered_at is before {_EARLIEST_REGISTERED_AT.year}")
    return (moment - _POSTGRESQL_EPOCH) // _MICROSECOND


def columns_of(rows: Sequence[CheckedRow]) -> dict[str, BinaryArray]:
    """Return *rows* and their consents as parameters of `IMPORT`: one array for each column."""
    consents = [(row.id, consent) for row in rows for consent in row.consents]
    return {
        "ids": binary_array("uuid", [row.id for row in rows]),
        "event_ids": binary_array("uuid", [row.event_id for row in rows]),
        "emails": binary_array("text", [row.email.encode() for row in rows]),
        "email_keys": binary_array("text", [row.email_key.encode() for row in rows]),
        "statuses": binary_array("text", [row.status.encode() for row in rows]),
        "profiles": binary_array("jsonb", [_JSONB_VERSION + row.profile.encode() for row in rows]),
        "submit_keys": binary_array("bytea", [row.submit_key for row in rows]),
        "submit_digests": binary_array("bytea", [row.submit_digest for row in rows]),
        "registered_at": binary_array(
            "timestamptz", [None if row.registered_at is None else _bigint(row.registered_at) for row in rows]
        ),
        "event_data": binary_array(
            "jsonb", [_event_data(row.status, *[c.purpose for c in row.consents]) for row in rows]
        ),
        "consent_ids": binary_array("uuid", [new_id_bytes() for _ in consents]),
        "consent_registrations": binary_array("uuid", [registration_id for registration_id, _ in consents]),
        "consent_purposes": binary_array("text", [consent.purpose.encode() for _, consent in consents]),
        "consent_versions": binary_array("text", [consent.document_version.encode() for _, consent in consents]),
        "consent_granted": binary_array("bool", [_TRUE if consent.granted else _FALSE for _, consent in consents]),
        "consent_sources": binary_array("text", [consent.source.encode() for _, consent in consents]),
    }


@lru_cache(_MAX_CACHED_EVENT_DATA)
def _event_data(status: str, *purposes: str) -> bytes:
    """Return the data of an event as `jsonb`; many events have the same."""
    return _JSONB_VERSION + json.dumps({"status": status, "consents": purposes}).encode()
