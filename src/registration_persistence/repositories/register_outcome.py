"""`register_outcome`: the outcome of `RegistrationRepository.register` from the row that its statement returned."""

from typing import Any

from sqlalchemy import Row

from registration_persistence.domain.status import Status
from registration_persistence.errors import IdempotencyConflict
from registration_persistence.outcomes import Registered, RegisterOutcome, Replayed, TooManyPending
from registration_persistence.repositories.base import registration_of


def register_outcome(row: Row[Any], token: str, submit_digest: bytes | None) -> RegisterOutcome:
    """Return the outcome of a sign-up.

    Args:
        row: The result of the statement.
        token: The token whose hash was sent.
        submit_digest: The digest of the payload that was sent, if there is an idempotency key.

    Raises:
        IdempotencyConflict: The key was used before with another payload.
    """
    registration = registration_of(row)
    if row.created and registration.status == Status.CANCELLED:
        return TooManyPending(registration, email_verified_elsewhere=row.email_proven)
    if row.created:
        return Registered(registration, token, email_verified_elsewhere=row.email_proven)
    if row.submit_digest != submit_digest:
        raise IdempotencyConflict("the idempotency key was used before with another payload: use a new key")
    return Replayed(registration, email_verified_elsewhere=row.email_proven)
