"""`Retention`: expiry of registrations, and deletion of closed registrations and old tokens."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, TextClause
from sqlalchemy.orm import Session

from registration_persistence.domain.ids import new_id
from registration_persistence.domain.validation import checked_moment, checked_number
from registration_persistence.repositories.base import Repository
from registration_persistence.repositories.sql.retention import EXPIRE_DUE, PURGE_CLOSED, PURGE_TOKENS
from registration_persistence.repositories.traceback_redaction import redact_traceback

_LARGEST_BATCH = 10_000


class Retention(Repository):
    """Expiry and purging, in the transaction of the session it is given; never commits.

    The methods with a *limit* do one batch, in one statement, and any number of workers may call them at once: rows
    that others are at are left out. Call them in an `autocommit` session, again and again until they return less than
    the limit.

    Args:
        session: A session of `Database.session`.
        actor: Who acts, for the event trail: `user`, `system` or `admin:<id>`.
        correlation_id: What ties the event trail to a trace or request; not personal data.
    """

    def __init__(self, session: Session, *, actor: str = "system", correlation_id: str | None = None) -> None:
        super().__init__(session, actor=actor, correlation_id=correlation_id)

    @redact_traceback
    def expire_due(self, limit: int = 1000) -> int:
        """Expire registrations whose time is over, the longest overdue first; return how many.

        Nothing waits for it: what has passed its time counts as expired before.

        Args:
            limit: Registrations at most, 1 to 10,000.

        Raises:
            InvalidInput: Nothing was sent.
        """
        number = _checked_limit(limit)
        return self._count(EXPIRE_DUE, limit=number, event_ids=[new_id() for _ in range(number)], **self._who)

    @redact_traceback
    def purge_closed(self, before: datetime, limit: int = 1000) -> int:
        """Delete registrations that expired or were cancelled *before*, with tokens and consents; return how many.

        Their trail stays until its month is dropped. Erased ones stay, as there is nothing of the person in them.

        Args:
            before: When they were closed, with a time zone.
            limit: Registrations at most, 1 to 10,000.

        Raises:
            InvalidInput: Nothing was sent.
        """
        return self._count(PURGE_CLOSED, before=checked_moment("before", before), limit=_checked_limit(limit))

    @redact_traceback
    def purge_tokens(self, before: datetime, limit: int = 1000) -> int:
        """Delete tokens and codes whose time was over *before*, used or not; return how many.

        A link that was used is unknown afterwards, and no longer `AlreadyVerified`. One that can still be used stays,
        whatever *before* is.

        Args and errors are those of `purge_closed`.
        """
        return self._count(PURGE_TOKENS, before=checked_moment("before", before), limit=_checked_limit(limit))

    def _count(self, statement: TextClause, **parameters: Any) -> int:
        row: Row[Any] = self._session.execute(statement, parameters).one()
        return int(row.number)


def _checked_limit(limit: int) -> int:
    return checked_number("the limit", limit, 1, _LARGEST_BATCH)
