"""`PrivacyRepository`: erase a person, export what is stored about them, and find their registrations."""

from typing import Any
from uuid import UUID

from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.status import Status
from registration_persistence.domain.validation import checked_id
from registration_persistence.errors import RegistrationNotFound
from registration_persistence.outcomes import Erased
from registration_persistence.repositories.base import (
    Repository,
    RowChangedMeanwhile,
    registration_of,
    repeat_if_changed_meanwhile,
)
from registration_persistence.repositories.sql.privacy import ERASE, EXPORT_SUBJECT, IDS_BY_EMAIL
from registration_persistence.repositories.traceback_redaction import redact_traceback
from registration_persistence.unit_of_work import SessionOrConnection


class PrivacyRepository(Repository):
    """Erasure and export, in the transaction of its session or connection; never commits.

    Each method is one statement: one round trip in an `autocommit` session. Errors of the connection are raised as
    `Database.session` lists them.

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
    def erase(self, registration_id: UUID) -> Erased:
        """Remove the address, the profile, the idempotency key and the tokens; a repetition changes nothing.

        The id, the status, the times, the consents and the event log stay: they show what was agreed to and done, but
        not by whom. Other registrations of the mailbox are not changed; `ids_by_email` finds them.

        Args:
            registration_id: The registration, a UUID.

        Raises:
            RegistrationNotFound: No registration has this id.
            InvalidInput: *registration_id* is not a UUID; nothing was sent.
            TransactionConflict: Other transactions kept issuing tokens at the same moment; nothing was changed.
        """

        def attempt() -> Erased:
            row = self._change(ERASE, registration_id, expected_version=None)
            if row.changed or row.status_now == Status.ERASED:
                return Erased(registration_of(row), changed=row.changed)
            raise RowChangedMeanwhile

        return repeat_if_changed_meanwhile(attempt)

    @redact_traceback
    def ids_by_email(self, email: str) -> tuple[UUID, ...]:
        """Return the ids of all registrations of a mailbox, closed ones included, the oldest first.

        Args:
            email: An address of the mailbox, in any spelling, at most 254 bytes without the white space around it.

        Raises:
            InvalidEmail: *email* is not an address; nothing was sent.
        """
        rows = self._session.execute(IDS_BY_EMAIL, {"email_key": normalise_email(email).key})
        return tuple(row.id for row in rows)

    @redact_traceback
    def export_subject(self, registration_id: UUID) -> dict[str, Any]:
        """Return everything that is stored about a registration, ready for `json.dumps`.

        The export leaves out the hashes of tokens and of the idempotency key, and the messages of the outbox, which
        repeat the ids of events until they are delivered.

        Args:
            registration_id: The registration, a UUID.

        Raises:
            RegistrationNotFound: No registration has this id.
            InvalidInput: *registration_id* is not a UUID; nothing was sent.
        """
        row = self._one(EXPORT_SUBJECT, id=checked_id(registration_id))
        if row is None:
            raise RegistrationNotFound(registration_id)
        held: dict[str, Any] = row.held
        return held
