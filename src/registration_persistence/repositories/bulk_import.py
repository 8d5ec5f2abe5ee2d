"""`bulk_import`: registrations from another system, many in one statement, in constant memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import psycopg

from registration_persistence.domain.email import KEY_REVISION
from registration_persistence.domain.records import ImportRow
from registration_persistence.domain.validation import (
    checked_actor,
    checked_correlation_id,
    checked_duration,
    checked_number,
)
from registration_persistence.durations import Duration
from registration_persistence.errors import InvalidInput
from registration_persistence.outcomes import ImportReport
from registration_persistence.repositories.binary_array import accept_binary_arrays
from registration_persistence.repositories.import_batch import CheckedRow, checked_row, columns_of
from registration_persistence.repositories.sql.bulk_import import IMPORT
from registration_persistence.repositories.traceback_redaction import redact_traceback
from registration_persistence.unit_of_work import (
    Hooks,
    SessionOrConnection,
    connection_of,
    refuse_single,
    require_target,
)

DUPLICATE = "duplicate: the mailbox is verified already, or the idempotency key was used before"
"""The reason why a valid row was not stored."""

OTHER_REASONS = "one of the reasons that are not listed, because there are too many"
"""Counts the rejected rows whose reasons came after the first 100."""

_MAX_REASONS = 100

_MAX_BATCH_ROWS = 10_000


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
        TypeError: *session* is neither a session nor a connection, or one of SQLAlchemy's asyncio API.
    """
    require_target(session)
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
            accept_binary_arrays(self._driver())
            duplicates = self._session.scalars(IMPORT, {**columns_of(chunk), **self._parameters}).all()
            for place in duplicates:
                on_skipped(chunk[place - 1].number, DUPLICATE)
            self._counts["duplicates"] += len(duplicates)
            self._counts["inserted"] += len(chunk) - len(duplicates)
        return ImportReport(
            inserted=self._counts["inserted"],
            duplicates=self._counts["duplicates"],
            rejected=self._reasons.total(),
            reasons=dict(self._reasons),
        )

    def _driver(self) -> psycopg.Connection[Any]:
        driver = connection_of(self._session).connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        return driver

    def _prepared(self, rows: Iterable[ImportRow], on_skipped: Callable[[int, str], None]) -> Iterator[CheckedRow]:
        now = datetime.now(UTC)
        for number, row in enumerate(rows, 1):
            try:
                yield checked_row(number, row, now)
            except InvalidInput as error:
                count_reasons(self._reasons, {str(error): 1})
                on_skipped(number, str(error))


Hooks.add_repository(_Import, "bulk_import")


def count_reasons(counts: Counter[str], more: Mapping[str, int]) -> None:
    """Add the reasons in *more* to *counts*, which lists a limited number of reasons; some contain a part of a row."""
    for reason, number in more.items():
        counts[reason if reason in counts or len(counts) < _MAX_REASONS else OTHER_REASONS] += number


def _ignore(_number: int, _reason: str) -> None:
    """Do nothing, because the report contains the counts."""
