"""`bulk_import`: registrations from another system, many in one statement, in constant memory."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from registration_persistence.domain.email import KEY_REVISION, normalise_email
from registration_persistence.domain.idempotency import submission_hashes
from registration_persistence.domain.ids import new_id_text
from registration_persistence.domain.profile import checked_profile
from registration_persistence.domain.records import ImportRow
from registration_persistence.domain.status import INITIAL_STATUSES
from registration_persistence.domain.validation import (
    checked_actor,
    checked_consents,
    checked_correlation_id,
    checked_duration,
    checked_moment,
    checked_number,
    checked_word,
)
from registration_persistence.durations import Duration
from registration_persistence.errors import InvalidInput
from registration_persistence.outcomes import ImportReport
from registration_persistence.repositories.sql.bulk_import import IMPORT
from registration_persistence.repositories.traceback_redaction import redact_traceback
from registration_persistence.unit_of_work import SessionOrConnection, refuse_single

DUPLICATE = "duplicate: the mailbox is verified already, or the idempotency key was used before"
"""The reason why a valid row was not stored."""

OTHER_REASONS = "one of the reasons that are not listed, because there are too many"
"""Counts the rejected rows whose reasons came after the first 100."""

_MAX_REASONS = 100

# The rows are built in this module, so they cannot contain a reference to themselves.
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False)

_MAX_BATCH_ROWS = 10_000
_EARLIEST_REGISTERED_AT = datetime(1900, 1, 1, tzinfo=UTC)
_IMPORTABLE_STATUSES = INITIAL_STATUSES["imported"]


@redact_traceback
def bulk_import(
    session: SessionOrConnection,
    rows: Iterable[ImportRow],
    *,
    actor: str = "system",
    correlation_id: str | None = None,
    ttl: Duration = timedelta(days=30),
    announce: bool = False,
    on_skipped: Callable[[int, str], None] | None = None,
    batch: int = 1000,
) -> ImportReport:
    """Store registrations from another system, each with its consents and an event; never commits.

    Each *batch* of rows is one statement, and rows are read from the stream when they are needed. In a transaction the
    import is all or nothing. In an `autocommit` session each batch is committed in its own transaction, and an import
    of the same rows continues after the last batch, because the rows that are stored already are duplicates.

    A pending registration gets no token; `VerificationRepository.issue_token` creates one when the mail is sent.

    Args:
        session: A session of `Database.session`, or a `sqlalchemy.Connection` of `Database.engine`.
        rows: A stream of any length; *batch* rows are in memory at a time.
        actor: The cause of the changes, for the event log: `user`, `system` or `admin:<id>`. Defaults to `system`.
        correlation_id: A trace id, no name or number of a person: 1 to 64 letters, digits or `_.:/-`. Defaults to none.
        ttl: The time for which pending and verified rows stay open, as a `timedelta` or in seconds; more than 0, at
            most ten years. Defaults to 30 days.
        announce: Whether to add a message `registration.imported` to the outbox for each row. Defaults to false.
        on_skipped: Called for each row that was not stored, with its number, from 1, and the reason; never with the
            row itself. Defaults to no call.
        batch: The number of rows in a statement, 1 to 10,000. Defaults to 1000.

    Returns:
        The number of rows that were inserted, duplicates and rejected, with the first 100 reasons.

    Raises:
        InvalidInput: An argument is not valid. A row that is not valid is rejected and raises nothing.
        RuntimeError: *session* is the connection of `Database.run` with `single=True`; nothing was sent.
    """
    refuse_single(session, "bulk_import")
    return _Import(session, checked_actor(actor), checked_correlation_id(correlation_id)).run(
        rows,
        ttl=checked_duration("ttl", ttl),
        announce=bool(announce),
        on_skipped=on_skipped or _ignore,
        batch=checked_number("batch", batch, 1, _MAX_BATCH_ROWS),
    )


class _Import:
    def __init__(self, session: SessionOrConnection, actor: str, correlation_id: str | None) -> None:
        self._session = session
        self._parameters: dict[str, Any] = {
            "actor": actor,
            "correlation_id": correlation_id,
            "email_key_rev": KEY_REVISION,
        }
        self._counts = Counter[str]()
        self._reasons = Counter[str]()

    def run(
        self,
        rows: Iterable[ImportRow],
        *,
        ttl: timedelta,
        announce: bool,
        on_skipped: Callable[[int, str], None],
        batch: int,
    ) -> ImportReport:
        self._parameters |= {"ttl": ttl, "announce": announce}
        prepared = self._prepared(rows, on_skipped)
        while chunk := list(islice(prepared, batch)):
            consents = [consent for row in chunk for consent in row.pop("consents")]
            encoded = {"rows": _ENCODER.encode(chunk), "consents": _ENCODER.encode(consents)}
            duplicates = self._session.scalars(IMPORT, {**encoded, **self._parameters}).all()
            for number in duplicates:
                on_skipped(number, DUPLICATE)
            self._counts["duplicates"] += len(duplicates)
            self._counts["inserted"] += len(chunk) - len(duplicates)
        return ImportReport(
            inserted=self._counts["inserted"],
            duplicates=self._counts["duplicates"],
            rejected=self._reasons.total(),
            reasons=dict(self._reasons),
        )

    def _prepared(self, rows: Iterable[ImportRow], on_skipped: Callable[[int, str], None]) -> Iterator[dict[str, Any]]:
        now = datetime.now(UTC)
        for number, row in enumerate(rows, 1):
            try:
                yield {"number": number, **_fields(row, now)}
            except InvalidInput as error:
                count_reasons(self._reasons, {str(error): 1})
                on_skipped(number, str(error))


def count_reasons(counts: Counter[str], more: Mapping[str, int]) -> None:
    """Add the reasons in *more* to *counts*, which lists a limited number of reasons; some contain a part of a row."""
    for reason, number in more.items():
        counts[reason if reason in counts or len(counts) < _MAX_REASONS else OTHER_REASONS] += number


def _fields(row: ImportRow, now: datetime) -> dict[str, Any]:
    """Return the stored columns of *row*, as values that JSON can represent."""
    if not isinstance(row, ImportRow):
        raise InvalidInput(f"the row is a {type(row).__name__}: expected an ImportRow")
    status = checked_word(row.status, _IMPORTABLE_STATUSES, "the status cannot be imported")
    mailbox, profile, consents = (
        normalise_email(row.email),
        checked_profile(row.profile),
        checked_consents(row.consents),
    )
    registered_at = None if row.registered_at is None else checked_moment("registered_at", row.registered_at)
    if registered_at and registered_at > now:
        raise InvalidInput("registered_at is in the future")
    if registered_at and registered_at < _EARLIEST_REGISTERED_AT:
        raise InvalidInput(f"registered_at is before {_EARLIEST_REGISTERED_AT.year}")
    keys = submission_hashes(row.idempotency_key, mailbox.address, profile, consents)
    identity = new_id_text()
    return {
        "id": identity,
        "event_id": new_id_text(),
        "email": mailbox.address,
        "email_key": mailbox.key,
        "status": status,
        "profile": profile,
        "registered_at": registered_at and registered_at.isoformat(),
        "consents": [
            {
                "registration_id": identity,
                "id": new_id_text(),
                "purpose": consent.purpose,
                "document_version": consent.document_version,
                "granted": consent.granted,
                "source": consent.source,
            }
            for consent in consents
        ],
        "purposes": [consent.purpose for consent in consents],
        **{name: key and key.hex() for name, key in keys.items()},
    }


def _ignore(_number: int, _reason: str) -> None:
    """Do nothing, because the report contains the counts."""
