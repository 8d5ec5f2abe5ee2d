"""`ConsentRepository`: what a person agreed to and withdrew, and when."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.orm import Session

from registration_persistence.domain.records import Consent, ConsentRecord, Registration
from registration_persistence.domain.validation import checked_consents, checked_id, checked_purposes
from registration_persistence.errors import InvalidConsent
from registration_persistence.repositories.base import Repository, refusal, registration_of
from registration_persistence.repositories.sql.consents import CURRENT, HISTORY, RECORD
from registration_persistence.repositories.sql.fragments import consent_parameters
from registration_persistence.repositories.traceback_redaction import redact_traceback


class ConsentRepository(Repository):
    """Consents, in the transaction of the session it is given; never commits.

    Each method is one statement: one round trip in an `autocommit` session. What `record` did is kept when the session
    commits.

    Args:
        session: A session of `Database.session`.
        actor: As for `RegistrationRepository`, as is the next.
        correlation_id: What ties the event trail to a trace or request; not personal data.
        purposes: The purposes that there are; by default any of the right form.
    """

    def __init__(
        self,
        session: Session,
        *,
        actor: str = "user",
        correlation_id: str | None = None,
        purposes: Collection[str] | None = None,
    ) -> None:
        super().__init__(session, actor=actor, correlation_id=correlation_id)
        self._purposes = checked_purposes(purposes)

    @redact_traceback
    def record(self, registration_id: UUID, consents: Iterable[Consent]) -> Registration:
        """Add decisions to the history; a withdrawal is one with `granted=False`. Nothing is ever overwritten.

        Args:
            registration_id: Which one, in any status but erased.
            consents: One for each purpose at most.

        Returns:
            The registration with its new version.

        Raises:
            InvalidConsent, InvalidInput: Nothing was sent.
            RegistrationNotFound: There is none with this id.
            IllegalTransition: The person was erased.
        """
        given = checked_consents(consents, self._purposes)
        if not given:
            raise InvalidConsent("there is no consent to record: expected one at least")
        row = self._change(RECORD, registration_id, expected_version=None, **consent_parameters(given))
        if not row.changed:
            raise refusal(row)
        return registration_of(row)

    @redact_traceback
    def current(self, registration_id: UUID) -> tuple[ConsentRecord, ...]:
        """Return the newest decision for each purpose, withdrawals included; none where there is no registration."""
        return self._records(CURRENT, registration_id)

    @redact_traceback
    def history(self, registration_id: UUID) -> tuple[ConsentRecord, ...]:
        """Return every decision in the order in which they were recorded."""
        return self._records(HISTORY, registration_id)

    def _records(self, statement: Any, registration_id: UUID) -> tuple[ConsentRecord, ...]:
        rows = self._session.execute(statement, {"id": checked_id(registration_id)})
        return tuple(_record(row) for row in rows)


def _record(row: Row[Any]) -> ConsentRecord:
    return ConsentRecord(row.purpose, row.document_version, row.granted, row.source, row.recorded_at, row.seq)
