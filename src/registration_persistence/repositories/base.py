"""What the repositories share: a session, and who acts in it."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause
from sqlalchemy.orm import Session

from registration_persistence.domain.ids import new_id
from registration_persistence.domain.records import Registration
from registration_persistence.domain.status import Status
from registration_persistence.domain.validation import checked_actor, checked_correlation_id, checked_id
from registration_persistence.errors import IllegalTransition, RegistrationNotFound, StaleVersion

ATTEMPTS = 3
"""How often a statement is sent that others get in the way of."""


class Repository:
    """Rows, in the transaction of the session it is given; never commits.

    Each method is one statement: one round trip in an `autocommit` session. Errors of the connection are raised as
    `Database.session` lists them.

    Args:
        session: A session of `Database.session`.
        actor: Who acts, for the event trail: `user`, `system` or `admin:<id>`.
        correlation_id: What ties the event trail to a trace or request; not personal data.
    """

    def __init__(self, session: Session, *, actor: str = "user", correlation_id: str | None = None) -> None:
        self._session = session
        self._who = {"actor": checked_actor(actor), "correlation_id": checked_correlation_id(correlation_id)}

    def _one(self, statement: TextClause, **parameters: Any) -> Row[Any] | None:
        return self._session.execute(statement, parameters).one_or_none()

    def _event(self) -> dict[str, Any]:
        return {"event_id": new_id(), **self._who}

    def _change(self, statement: TextClause, registration_id: UUID, **parameters: Any) -> Row[Any]:
        """Send *statement*, and return how the registration stands now.

        Raises:
            RegistrationNotFound: There is none with this id.
        """
        row = self._one(statement, id=checked_id(registration_id), **parameters, **self._event())
        if row is None:
            raise RegistrationNotFound(registration_id)
        return row


def registration_of(row: Row[Any]) -> Registration:
    """Return what *row* says of a registration."""
    return Registration(
        id=row.id,
        status=Status(row.status),
        version=row.version,
        email=row.email,
        email_key=row.email_key,
        profile=row.profile,
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
        verified_at=row.verified_at,
        activated_at=row.activated_at,
        closed_at=row.closed_at,
        close_reason=row.close_reason,
    )


def refusal(
    row: Row[Any], *, expected_version: int | None = None, wanted: Status | None = None
) -> StaleVersion | IllegalTransition:
    """Return why the registration of *row* was not changed, or not moved to the status *wanted*."""
    if expected_version is not None and row.found_version != expected_version:
        return StaleVersion(row.id, expected_version, row.found_version)
    return IllegalTransition(row.id, row.status_now, wanted)
