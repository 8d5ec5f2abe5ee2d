"""`Repository`: the base class of the repositories."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Executable, Row

from registration_persistence.domain.ids import new_id_text
from registration_persistence.domain.records import Consent, Registration
from registration_persistence.domain.status import Status
from registration_persistence.domain.validation import checked_actor, checked_correlation_id, checked_id
from registration_persistence.errors import (
    IllegalTransition,
    RegistrationNotFound,
    StaleVersion,
    TransactionConflict,
)
from registration_persistence.repositories.change import event_evidence, send_change
from registration_persistence.repositories.traceback_redaction import redact_traceback
from registration_persistence.unit_of_work import Hooks, SessionOrConnection, require_target

T = TypeVar("T")

_MAX_ATTEMPTS = 3


class Repository:
    """Rows, in the transaction of its session or connection; never commits.

    Each method is one statement: one round trip in an `autocommit` session. Errors of the connection are raised as
    `Database.session` lists them.

    Args:
        session: A session of `Database.session`, or a `sqlalchemy.Connection` of `Database.run` or `Database.engine`.
        actor: The cause of the changes, for the event log: `user`, `system` or `admin:<id>`. Defaults to `user`.
        correlation_id: A trace id, no name or number of a person: 1 to 64 letters, digits or `_.:/-`. Defaults to none.

    Raises:
        TypeError: *session* is neither a session nor a connection, or one of SQLAlchemy's asyncio API.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Hooks.add_repository(cls)

    @redact_traceback
    def __init__(self, session: SessionOrConnection, *, actor: str = "user", correlation_id: str | None = None) -> None:
        require_target(session)
        self._session = session
        self._origin = {"actor": checked_actor(actor), "correlation_id": checked_correlation_id(correlation_id)}

    def _one(self, statement: Executable, **parameters: Any) -> Row[Any] | None:
        return self._session.execute(statement, parameters).one_or_none()

    def _event_parameters(self) -> dict[str, Any]:
        return {"event_id": new_id_text(), **self._origin}

    def _change(self, statement: Executable, registration_id: UUID, **parameters: Any) -> Row[Any]:
        """Send *statement*, and return the registration as it is now.

        Raises:
            RegistrationNotFound: No registration has this id.
        """
        values = {"id": checked_id(registration_id), **parameters, **self._event_parameters()}
        evidence = event_evidence(values["id"], values["event_id"])
        row = send_change(self._session, statement, values, evidence, lambda row: evidence if row.changed else None)
        if row is None:
            raise RegistrationNotFound(registration_id)
        return row


class RowChangedMeanwhile(Exception):
    """The statement waited for a row and then found that another transaction had changed it; nothing was changed."""


def repeat_if_changed_meanwhile(attempt: Callable[[], T]) -> T:
    """Call *attempt*, again after `RowChangedMeanwhile`, and return its result.

    Raises:
        TransactionConflict: Other transactions changed the row during every attempt.
    """
    for _ in range(_MAX_ATTEMPTS):
        with suppress(RowChangedMeanwhile):
            return attempt()
    raise TransactionConflict("other transactions kept changing the registration: repeat the unit of work")


def registration_of(row: Row[Any]) -> Registration:
    """Return the registration in the columns of *row*."""
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


def consent_parameters(consents: list[Consent]) -> dict[str, str]:
    """Return *consents* as the parameter of `CONSENTS_GIVEN`, a text of JSON."""
    rows = [
        {
            "id": new_id_text(),
            "purpose": consent.purpose,
            "document_version": consent.document_version,
            "granted": consent.granted,
            "source": consent.source,
        }
        for consent in consents
    ]
    return {"consents": json.dumps(rows)}


def refusal(
    row: Row[Any], *, expected_version: int | None = None, wanted: Status | None = None
) -> StaleVersion | IllegalTransition:
    """Return the reason why the registration in *row* was not changed, or did not get the status *wanted*."""
    if expected_version is not None and row.found_version != expected_version:
        return StaleVersion(row.id, expected_version, row.found_version)
    return IllegalTransition(row.id, row.status_now, wanted)
