"""The outcomes of verification: the result row of each statement as a value of `outcomes`."""

from typing import Any

from sqlalchemy import Row

from registration_persistence.domain.status import OPEN_OR_ACTIVE, Status
from registration_persistence.outcomes import (
    AlreadyVerified,
    CodeOutcome,
    EmailTaken,
    Issued,
    IssueOutcome,
    LockedOut,
    NotPending,
    PeekOutcome,
    Throttled,
    TokenExpired,
    TokenUnknown,
    TokenUsable,
    Verified,
    VerifyOutcome,
    WrongCode,
)
from registration_persistence.repositories.base import RowChangedMeanwhile, registration_of

_VERIFIED = (Status.VERIFIED, Status.ACTIVE)


def issue_outcome(row: Row[Any], secret: str) -> IssueOutcome:
    """Return the outcome of issuing *secret*.

    Raises:
        RowChangedMeanwhile: Another transaction issued a token at the same moment.
    """
    if row.token_expires_at is not None:
        return Issued(registration_of(row), secret, row.token_expires_at)
    if row.status_now != Status.PENDING:
        return NotPending(Status(row.status_now))
    if row.exhausted or row.retry_at:
        return Throttled(None if row.exhausted else row.retry_at)
    raise RowChangedMeanwhile


def peek_outcome(row: Row[Any]) -> PeekOutcome:
    """Return the outcome that using the token would have."""
    match row.status_now:
        case Status.VERIFIED | Status.ACTIVE if row.used:
            return AlreadyVerified(registration_of(row))
        case Status.PENDING if row.live:
            return EmailTaken() if row.email_proven else TokenUsable(registration_of(row))
        case _:
            return TokenExpired()


def verify_outcome(row: Row[Any]) -> VerifyOutcome:
    """Return the outcome of using a token.

    Raises:
        RowChangedMeanwhile: Another transaction changed the registration at the same moment.
    """
    if row.changed:
        return Verified(registration_of(row))
    # The statement waited while another one used the token, whose row it sees as it was before.
    used_meanwhile = row.live and row.status_now in _VERIFIED
    outcome = peek_outcome(row)
    if used_meanwhile or isinstance(outcome, TokenUsable):
        raise RowChangedMeanwhile
    return outcome


def code_outcome(row: Row[Any], max_attempts: int) -> CodeOutcome:
    """Return the outcome of typing a code.

    Raises:
        RowChangedMeanwhile: The code was not judged, because another transaction changed the token at the same moment.
    """
    if row.changed:
        return Verified(registration_of(row))
    if row.status_now == Status.ERASED:
        return TokenUnknown()
    if row.matched is False:
        return WrongCode(left=max_attempts - row.attempts)
    if row.matched:
        return _outcome_of_right_code(row)
    if row.status_now not in OPEN_OR_ACTIVE or row.attempts_before is None:
        return TokenExpired()
    if row.attempts_before >= max_attempts:
        return LockedOut()
    raise RowChangedMeanwhile


def _outcome_of_right_code(row: Row[Any]) -> CodeOutcome:
    """Return the outcome of the right code, which verified nothing."""
    if row.status_now == Status.PENDING:
        return EmailTaken()
    return AlreadyVerified(registration_of(row)) if row.used else TokenExpired()
