"""`Retention`: expiry of registrations, and deletion of closed registrations and old tokens."""

from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import Executable, Row
from sqlalchemy.exc import IntegrityError

from registration_persistence.domain.ids import new_id
from registration_persistence.domain.validation import checked_moment, checked_number
from registration_persistence.errors import RegistrationReferenced
from registration_persistence.repositories.base import Repository
from registration_persistence.repositories.sql.retention import EXPIRE_DUE, PURGE_CLOSED, PURGE_TOKENS
from registration_persistence.repositories.traceback_redaction import redact_traceback
from registration_persistence.unit_of_work import SessionOrConnection

_MAX_BATCH_ROWS = 10_000


class Retention(Repository):
    """Expiry and purging, in the transaction of its session or connection; never commits.

    Each method processes one batch in one statement. Any number of workers may call it at the same time, because it
    skips rows that are locked. Call it in an `autocommit` session until it returns less than the limit.

    Args:
        session: A session of `Database.session`, or a `sqlalchemy.Connection` of `Database.run` or `Database.engine`.
        actor: The cause of the changes, for the event log: `user`, `system` or `admin:<id>`. Defaults to `system`.
        correlation_id: A trace id, no name or number of a person: 1 to 64 letters, digits or `_.:/-`. Defaults to none.
    """

    @redact_traceback
    def __init__(
        self, session: SessionOrConnection, *, actor: str = "system", correlation_id: str | None = None
    ) -> None:
        super().__init__(session, actor=actor, correlation_id=correlation_id)

    @redact_traceback
    def expire_due(self, limit: int = 1000) -> int:
        """Change the status of lapsed registrations to expired, the longest lapsed first.

        Nothing depends on it in time, because a lapsed registration counts as expired already.

        Args:
            limit: The largest number of registrations, 1 to 10,000. Defaults to 1000.

        Returns:
            The number of registrations that were expired.

        Raises:
            InvalidInput: *limit* is not valid; nothing was sent.
        """
        number = _checked_limit(limit)
        return self._count(EXPIRE_DUE, limit=number, event_ids=[new_id() for _ in range(number)], **self._origin)

    @redact_traceback
    def purge_closed(self, before: datetime, limit: int = 1000) -> int:
        """Delete registrations that expired or were cancelled earlier than *before*, with their tokens and consents.

        Rows of other tables that refer to them are handled as their foreign keys declare. Their events stay until the
        partition of their month is dropped. Erased registrations stay, because they contain no personal data.

        Args:
            before: A moment with a time zone, in the years 1 to 9999.
            limit: The largest number of registrations, 1 to 10,000. Defaults to 1000.

        Returns:
            The number of registrations that were deleted.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
            RegistrationReferenced: Another table has a foreign key without ON DELETE CASCADE or SET NULL; nothing was
                deleted.
        """
        moment, number = checked_moment("before", before), _checked_limit(limit)
        try:
            return self._count(PURGE_CLOSED, before=moment, limit=number)
        except IntegrityError as error:
            if isinstance(error.orig, (psycopg.errors.ForeignKeyViolation, psycopg.errors.RestrictViolation)):
                diagnostics = error.orig.diag
                raise RegistrationReferenced(diagnostics.table_name or "", diagnostics.constraint_name or "") from error
            raise

    @redact_traceback
    def purge_tokens(self, before: datetime, limit: int = 1000) -> int:
        """Delete tokens and codes that expired earlier than *before*, used or not.

        A link gives `TokenUnknown` afterwards, and no longer `TokenExpired`. A token that has not expired stays, even
        if *before* is in the future.

        Args:
            before: A moment with a time zone, in the years 1 to 9999.
            limit: The largest number of tokens, 1 to 10,000. Defaults to 1000.

        Returns:
            The number of tokens that were deleted.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
        """
        return self._count(PURGE_TOKENS, before=checked_moment("before", before), limit=_checked_limit(limit))

    def _count(self, statement: Executable, **parameters: Any) -> int:
        row: Row[Any] = self._session.execute(statement, parameters).one()
        return int(row.number)


def _checked_limit(limit: int) -> int:
    return checked_number("the limit", limit, 1, _MAX_BATCH_ROWS)
