"""`ConsentRepository`: the consents that a person gave and withdrew."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from registration_persistence.domain.records import Consent, ConsentRecord, Registration
from registration_persistence.domain.validation import checked_consents, checked_id, checked_purposes
from registration_persistence.errors import InvalidConsent
from registration_persistence.repositories.base import Repository, consent_parameters, refusal, registration_of
from registration_persistence.repositories.sql.consents import CURRENT, HISTORY, RECORD
from registration_persistence.repositories.traceback_redaction import redact_traceback
from registration_persistence.unit_of_work import SessionOrConnection


class ConsentRepository(Repository):
    """Consents, in the transaction of its session or connection; never commits.

    Each method is one statement: one round trip in an `autocommit` session. Errors of the connection are raised as
    `Database.session` lists them.

    Args:
        session: A session of `Database.session`, or a `sqlalchemy.Connection` of `Database.run` or `Database.engine`.
        actor: The cause of the changes, for the event log: `user`, `system` or `admin:<id>`. Defaults to `user`.
        correlation_id: A trace id, no name or number of a person: 1 to 64 letters, digits or `_.:/-`. Defaults to none.
        purposes: The known purposes, at most 100. Defaults to `None`, which allows every purpose of a valid form.
    """

    @redact_traceback
    def __init__(
        self,
        session: SessionOrConnection,
        *,
        actor: str = "user",
        correlation_id: str | None = None,
        purposes: Collection[str] | None = None,
    ) -> None:
        super().__init__(session, actor=actor, correlation_id=correlation_id)
        self._purposes = checked_purposes(purposes)

    @redact_traceback
    def record(self, registration_id: UUID, consents: Iterable[Consent]) -> Registration:
        """Add decisions to the history; a withdrawal is a decision with `granted=False`. No decision is overwritten.

        Args:
            registration_id: The registration, a UUID; in any status but erased.
            consents: The decisions, 1 to 32, at most one for each purpose.

        Returns:
            The registration with its new version.

        Raises:
            InvalidConsent: A decision is not valid, there is none, or there are more than 32; nothing was sent.
            InvalidInput: *registration_id* is not a UUID; nothing was sent.
            RegistrationNotFound: No registration has this id.
            IllegalTransition: The registration was erased.
        """
        given = checked_consents(consents, self._purposes)
        if not given:
            raise InvalidConsent("there is no consent to record: expected at least one")
        row = self._change(RECORD, registration_id, expected_version=None, **consent_parameters(given))
        if not row.changed:
            raise refusal(row)
        return registration_of(row)

    @redact_traceback
    def current(self, registration_id: UUID) -> tuple[ConsentRecord, ...]:
        """Return the newest decision for each purpose, withdrawals included.

        Args:
            registration_id: The registration, a UUID; an unknown one has no decisions.

        Raises:
            InvalidInput: *registration_id* is not a UUID; nothing was sent.
        """
        return self._records(CURRENT, registration_id)

    @redact_traceback
    def history(self, registration_id: UUID) -> tuple[ConsentRecord, ...]:
        """Return every decision, in the order in which they were recorded.

        Args:
            registration_id: The registration, a UUID; an unknown one has no decisions.

        Raises:
            InvalidInput: *registration_id* is not a UUID; nothing was sent.
        """
        return self._records(HISTORY, registration_id)

    def _records(self, statement: Any, registration_id: UUID) -> tuple[ConsentRecord, ...]:
        rows = self._session.execute(statement, {"id": checked_id(registration_id)})
        return tuple(_record(row) for row in rows)


def _record(row: Row[Any]) -> ConsentRecord:
    return ConsentRecord(row.purpose, row.document_version, row.granted, row.source, row.recorded_at, row.seq)
