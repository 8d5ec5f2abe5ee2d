"""`PrivacyRepository`: erase a person, export what is stored about them, and find their registrations."""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.status import Status
from registration_persistence.domain.validation import checked_id
from registration_persistence.errors import RegistrationNotFound, TransactionConflict
from registration_persistence.outcomes import Erased
from registration_persistence.repositories.base import ATTEMPTS, Repository, registration_of
from registration_persistence.repositories.sql.privacy import ERASE, EXPORT_SUBJECT, IDS_BY_EMAIL
from registration_persistence.repositories.traceback_redaction import redact_traceback


class PrivacyRepository(Repository):
    """Erasure and export, in the transaction of the session it is given; never commits.

    Each method is one statement: one round trip in an `autocommit` session.

    Args:
        session: A session of `Database.session`.
        actor: Who acts, for the event log: `user`, `system` or `admin:<id>`.
        correlation_id: What ties the event log to a trace or request; not personal data.
    """

    def __init__(self, session: Session, *, actor: str = "system", correlation_id: str | None = None) -> None:
        super().__init__(session, actor=actor, correlation_id=correlation_id)

    @redact_traceback
    def erase(self, registration_id: UUID) -> Erased:
        """Remove address, profile, idempotency key and tokens; repeating it changes nothing.

        Id, status, times, consents and trail stay: they tell what was agreed to and done, and not by whom. Other
        registrations of the mailbox are not touched; `ids_by_email` finds them.

        Raises:
            RegistrationNotFound: There is none with this id.
            TransactionConflict: Others kept issuing tokens at the same moment; nothing was changed.
        """
        for _ in range(ATTEMPTS):
            row = self._change(ERASE, registration_id, expected_version=None)
            if row.changed or row.status_now == Status.ERASED:
                return Erased(registration_of(row), changed=row.changed)
        raise TransactionConflict("other transactions kept issuing tokens: repeat the unit of work")

    @redact_traceback
    def ids_by_email(self, email: str) -> tuple[UUID, ...]:
        """Return the ids of everything that holds this mailbox, closed registrations included, oldest first.

        Raises:
            InvalidEmail: As for `RegistrationRepository.register`.
        """
        rows = self._session.execute(IDS_BY_EMAIL, {"email_key": normalise_email(email).key})
        return tuple(row.id for row in rows)

    @redact_traceback
    def export_subject(self, registration_id: UUID) -> dict[str, Any]:
        """Return everything that is held about a registration, ready for `json.dumps`.

        Left out are hashes, of tokens and of the idempotency key, and the messages of the outbox, which repeat the ids
        of events until they are delivered.

        Raises:
            RegistrationNotFound: There is none with this id.
        """
        row = self._one(EXPORT_SUBJECT, id=checked_id(registration_id))
        if row is None:
            raise RegistrationNotFound(registration_id)
        held: dict[str, Any] = row.held
        return held
