"""`CheckedRow`: a row of an import that can be stored; `columns_of`: many of them as parameters of one statement."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.idempotency import submission_hashes
from registration_persistence.domain.ids import new_id_text
from registration_persistence.domain.profile import encoded_profile
from registration_persistence.domain.records import Consent, ImportRow
from registration_persistence.domain.status import INITIAL_STATUSES, Status
from registration_persistence.domain.validation import checked_consents, checked_moment, checked_word
from registration_persistence.errors import InvalidInput

_EARLIEST_REGISTERED_AT = datetime(1900, 1, 1, tzinfo=UTC)
_IMPORTABLE_STATUSES = INITIAL_STATUSES["imported"]
_MAX_CACHED_EVENT_DATA = 100


@dataclass(slots=True)
class CheckedRow:
    """A row that can be stored; each value is in the form in which it is sent.

    Args:
        number: The number of the row in the stream, from 1.
        id: The id of the registration.
        event_id: The id of its event.
        email: The address.
        email_key: The key of its mailbox.
        status: The status.
        profile: The profile, as JSON.
        submit_key: The hash of the idempotency key, in hexadecimal digits.
        submit_digest: The hash of the submission, in hexadecimal digits.
        registered_at: The time of the sign-up, in ISO 8601.
        consents: The consents.
    """

    number: int
    id: str
    event_id: str
    email: str
    email_key: str
    status: str
    profile: str
    submit_key: str | None
    submit_digest: str | None
    registered_at: str | None
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
        number, new_id_text(), new_id_text(), mailbox.address, mailbox.key, status, encoded,
        _hex(key), _hex(digest), registered_at, consents,
    )  # fmt: skip


def _status_text(status: Status | str) -> str:
    if type(status) is Status and status in _IMPORTABLE_STATUSES:
        return status.value
    return checked_word(status, _IMPORTABLE_STATUSES, "the status cannot be imported")


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def _past_moment(registered_at: datetime, now: datetime) -> str:
    moment = checked_moment("registered_at", registered_at)
    if moment > now:
        raise InvalidInput("registered_at is in the future")
    if moment < _EARLIEST_REGISTERED_AT:
        raise InvalidInput(f"registered_at is before {_EARLIEST_REGISTERED_AT.year}")
    return moment.isoformat()


def columns_of(rows: Sequence[CheckedRow]) -> dict[str, str]:
    """Return *rows* and their consents as parameters of `IMPORT`: the text of one array for each column."""
    consents = [(row.id, consent) for row in rows for consent in row.consents]
    return {
        "ids": _array([row.id for row in rows]),
        "event_ids": _array([row.event_id for row in rows]),
        "emails": quoted_array([row.email for row in rows]),
        "email_keys": quoted_array([row.email_key for row in rows]),
        "statuses": _array([row.status for row in rows]),
        "profiles": quoted_array([row.profile for row in rows]),
        "submit_keys": _array([row.submit_key or "NULL" for row in rows]),
        "submit_digests": _array([row.submit_digest or "NULL" for row in rows]),
        "registered_at": _array([row.registered_at or "NULL" for row in rows]),
        "event_data": quoted_array([_event_data(row.status, *[c.purpose for c in row.consents]) for row in rows]),
        "consent_ids": _array([new_id_text() for _ in consents]),
        "consent_registrations": _array([registration for registration, _ in consents]),
        "consent_purposes": quoted_array([consent.purpose for _, consent in consents]),
        "consent_versions": quoted_array([consent.document_version for _, consent in consents]),
        "consent_granted": _array(["t" if consent.granted else "f" for _, consent in consents]),
        "consent_sources": quoted_array([consent.source for _, consent in consents]),
    }


@lru_cache(_MAX_CACHED_EVENT_DATA)
def _event_data(status: str, *purposes: str) -> str:
    """Return the data of an event, as JSON; many events have the same."""
    return json.dumps({"status": status, "consents": purposes})


def _array(elements: Sequence[str]) -> str:
    """Return the text of an array of ids, words, times or digits, which need no quotation marks, or `NULL`."""
    return "{" + ",".join(elements) + "}"


def quoted_array(elements: Sequence[str]) -> str:
    """Return the text of an array of any texts without NUL, which PostgreSQL cannot store.

    The elements are escaped together, which takes a tenth of the time of one call for each.
    """
    if not elements:
        return "{}"
    escaped = "\0".join(elements).replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + escaped.replace("\0", '","') + '"}'
