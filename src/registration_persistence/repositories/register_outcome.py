"""`register_outcome`: the outcome of `RegistrationRepository.register` from the row that its statement returned."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from registration_persistence.domain.records import Registration
from registration_persistence.domain.status import Status
from registration_persistence.errors import IdempotencyConflict
from registration_persistence.outcomes import Registered, RegisterOutcome, Replayed, TooManyPending

_TIMES = ("created_at", "updated_at", "expires_at", "verified_at", "activated_at", "closed_at")


def register_outcome(row: Row[Any], token: str, sent: Mapping[str, Any], profile: dict[str, Any]) -> RegisterOutcome:
    """Return the outcome of a sign-up.

    Args:
        row: The result of the statement, or the row of its evidence.
        token: The token whose hash was sent.
        sent: The parameters of the statement.
        profile: The profile that was sent.

    Raises:
        IdempotencyConflict: The key was used before with another payload.
    """
    if row.created:
        registration = _new_registration(row, sent, profile)
        if registration.status == Status.CANCELLED:
            return TooManyPending(registration, email_verified_elsewhere=row.email_proven)
        return Registered(registration, token, email_verified_elsewhere=row.email_proven)
    if row.earlier["submit_digest"] != sent["submit_digest"].hex():
        raise IdempotencyConflict("the idempotency key was used before with another payload: use a new key")
    return Replayed(_earlier_registration(row.earlier), email_verified_elsewhere=row.email_proven)


def _new_registration(row: Row[Any], sent: Mapping[str, Any], profile: dict[str, Any]) -> Registration:
    status = Status(row.status)
    return Registration(
        id=sent["id"],
        status=status,
        version=1,
        email=sent["email"],
        email_key=sent["email_key"],
        profile=profile,
        created_at=row.created_at,
        updated_at=row.created_at,
        expires_at=row.expires_at,
        verified_at=None,
        activated_at=None,
        closed_at=row.closed_at,
        close_reason="superseded" if status == Status.CANCELLED else None,
    )


def _earlier_registration(earlier: Mapping[str, Any]) -> Registration:
    times = {name: earlier[name] and datetime.fromisoformat(earlier[name]) for name in _TIMES}
    return Registration(
        id=UUID(earlier["id"]),
        status=Status(earlier["status"]),
        version=earlier["version"],
        email=earlier["email"],
        email_key=earlier["email_key"],
        profile=earlier["profile"],
        close_reason=earlier["close_reason"],
        **times,
    )
