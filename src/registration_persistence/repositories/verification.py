"""`VerificationRepository`: prove a mailbox, by a link or by a code."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.pq import TransactionStatus
from sqlalchemy import Row, TextClause
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registration_persistence.domain.codes import Peppers, new_code
from registration_persistence.domain.ids import new_id
from registration_persistence.domain.status import Status
from registration_persistence.domain.tokens import hash_token, new_token
from registration_persistence.domain.validation import checked_gap, checked_id, checked_number, checked_ttl
from registration_persistence.errors import InvalidInput, RegistrationNotFound, TransactionConflict
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
from registration_persistence.repositories.base import ATTEMPTS, Repository, registration_of
from registration_persistence.repositories.sql import verification as statements
from registration_persistence.repositories.traceback_redaction import redact_traceback

_MOST_TOKENS = 1000

_MOST_ATTEMPTS = 100

_OPEN_OR_ACTIVE = (Status.PENDING, Status.VERIFIED, Status.ACTIVE)


class VerificationRepository(Repository):
    """Tokens and codes that prove a mailbox, in the transaction of the session it is given; never commits.

    Each method is one statement: one round trip in an `autocommit` session, also if the answer is no.

    Args:
        session: A session of `Database.session`.
        actor: Who acts, for the event log: `user`, `system` or `admin:<id>`.
        correlation_id: What ties the event log to a trace or request; not personal data.
        peppers: The keys that short codes are hashed with; only `issue_code` and `verify_by_code` need them.
    """

    def __init__(
        self,
        session: Session,
        *,
        actor: str = "user",
        correlation_id: str | None = None,
        peppers: Peppers | None = None,
    ) -> None:
        super().__init__(session, actor=actor, correlation_id=correlation_id)
        self._peppers = peppers

    @redact_traceback
    def issue_token(
        self,
        registration_id: UUID,
        *,
        min_gap: timedelta = timedelta(minutes=1),
        max_issued: int = 5,
        ttl: timedelta = timedelta(days=1),
    ) -> IssueOutcome:
        """Make a new secret for a verification link, in place of the one before.

        The limits hold exactly, however many ask at once. Commit before the mail is sent.

        Args:
            registration_id: Which one.
            min_gap: Time that must have passed since the last token or code, the one of `register` included.
            max_issued: Tokens and codes that a registration may have in all, the one of `register` included; 1 to
                1000.
            ttl: How long the token can be used.

        Returns:
            `Issued`; `Throttled`, when it is too soon or was too often; `NotPending`. Only `Issued` changes anything.

        Raises:
            RegistrationNotFound: There is none with this id.
            InvalidInput: Nothing was sent.
            TransactionConflict: Others kept issuing at the same moment; nothing was changed.
        """
        limits = _limits(min_gap, max_issued, ttl)
        for _ in range(ATTEMPTS):
            token = new_token()
            outcome = self._issue(registration_id, token, hash_token(token) or b"", 0, limits)
            if outcome is not None:
                return outcome
        raise _kept_changing()

    @redact_traceback
    def issue_code(
        self,
        registration_id: UUID,
        *,
        min_gap: timedelta = timedelta(minutes=1),
        max_issued: int = 5,
        ttl: timedelta = timedelta(minutes=10),
    ) -> IssueOutcome:
        """Make six digits for people to type, in place of the token or code before; needs *peppers*.

        Args, outcomes and errors are those of `issue_token`; `InvalidInput` also where there are no peppers.
        """
        limits, peppers = _limits(min_gap, max_issued, ttl), self._known_peppers()
        for _ in range(ATTEMPTS):
            code = new_code()
            secret_hash = peppers.hashes(checked_id(registration_id), code)[peppers.newest]
            outcome = self._issue(registration_id, code, secret_hash, peppers.newest, limits)
            if outcome is not None:
                return outcome
        raise _kept_changing()

    @redact_traceback
    def verify_by_code(
        self, registration_id: UUID, code: str, *, max_attempts: int = 5, ttl: timedelta = timedelta(days=30)
    ) -> CodeOutcome:
        """Prove the mailbox that *code* was sent to; needs *peppers*.

        **Commit whatever the outcome is**: a wrong code is counted in the transaction, so rolling back gives the
        attempt back. At most *max_attempts* wrong codes are judged, however many arrive at once. One round trip; one
        or two more where another transaction changed the registration at the same moment.

        Args:
            registration_id: Which one.
            code: As it was typed; white space does not matter, and what is not six digits is a wrong code.
            max_attempts: Wrong codes that are judged, 1 to 100, before not even the right one counts.
            ttl: As for `verify_by_token`.

        Returns:
            `Verified`; `AlreadyVerified` for the code that proved it, sent again; `WrongCode`; `LockedOut`;
            `TokenExpired`, also where no code was issued; `EmailTaken`, to the right code only; `TokenUnknown`
            where the person was erased.

        Raises:
            RegistrationNotFound: There is none with this id.
            InvalidInput: Nothing was sent.
            TransactionConflict: As for `verify_by_token`.
        """
        if not isinstance(code, str):
            raise InvalidInput(f"the code is a {type(code).__name__}: expected a string")
        hashes = self._known_peppers().hashes(checked_id(registration_id), code)
        parameters = {
            "id": registration_id,
            "code_key_ids": list(hashes),
            "code_hashes": list(hashes.values()),
            "max_attempts": checked_number("max_attempts", max_attempts, 1, _MOST_ATTEMPTS),
            "ttl": checked_ttl("ttl", ttl),
        }
        for _ in range(ATTEMPTS):
            row = self._prove(statements.VERIFY_CODE, **parameters)
            if isinstance(row, EmailTaken):
                return row
            if row is None:
                raise RegistrationNotFound(registration_id)
            outcome = _code_outcome(row, max_attempts)
            if outcome is not None:
                return outcome
        raise _kept_changing()

    @redact_traceback
    def peek_token(self, token: str) -> PeekOutcome:
        """Tell what `verify_by_token` would do, and write nothing: mail scanners open links before people do.

        Returns:
            `TokenUsable` where it would prove the mailbox, else the outcome that it would have.
        """
        secret_hash = hash_token(token)
        row = None if secret_hash is None else self._one(statements.PEEK, secret_hash=secret_hash)
        return _token_outcome(row) if row is not None else TokenUnknown()

    @redact_traceback
    def verify_by_token(self, token: str, *, ttl: timedelta = timedelta(days=30)) -> VerifyOutcome:
        """Prove the mailbox that *token* was sent to.

        One round trip, whatever the outcome; one or two more where another transaction changed the registration at
        the same moment.

        Args:
            token: The secret from the link.
            ttl: How long the registration may stay verified without becoming active.

        Returns:
            `Verified`; `AlreadyVerified` when opened twice; `TokenExpired`; `EmailTaken`; `TokenUnknown`, also for
            what is no token at all, which is not sent to the server.

        Raises:
            TransactionConflict: Another registration proved the mailbox at the same moment, and earlier statements of
                this transaction were lost with the attempt. Where this was its first statement, the outcome is
                `EmailTaken` and the session stays usable.
        """
        secret_hash, open_for = hash_token(token), checked_ttl("ttl", ttl)
        if secret_hash is None:
            return TokenUnknown()
        for _ in range(ATTEMPTS):
            row = self._prove(statements.VERIFY, secret_hash=secret_hash, ttl=open_for)
            if isinstance(row, EmailTaken):
                return row
            if row is None:
                return TokenUnknown()
            if row.changed:
                return Verified(registration_of(row))
            outcome = _token_outcome(row)
            if not isinstance(outcome, TokenUsable):
                return outcome
        raise _kept_changing()

    def _issue(
        self, registration_id: UUID, secret: str, secret_hash: bytes, hash_key_id: int, limits: Mapping[str, Any]
    ) -> IssueOutcome | None:
        """Issue *secret*; `None` where others got in the way."""
        row = self._one(
            statements.ISSUE,
            id=checked_id(registration_id),
            token_id=new_id(),
            secret_hash=secret_hash,
            hash_key_id=hash_key_id,
            **limits,
        )
        if row is None:
            raise RegistrationNotFound(registration_id)
        if row.token_expires_at is not None:
            return Issued(registration_of(row), secret, row.token_expires_at)
        if row.status_now != Status.PENDING:
            return NotPending(Status(row.status_now))
        if row.exhausted or row.retry_at:
            return Throttled(None if row.exhausted else row.retry_at)
        return None

    def _prove(self, statement: TextClause, **parameters: Any) -> Row[Any] | EmailTaken | None:
        driver: Any = self._session.connection().connection.dbapi_connection
        alone = driver.info.transaction_status == TransactionStatus.IDLE
        try:
            return self._one(statement, lapsed_event_id=new_id(), **parameters, **self._event())
        except IntegrityError as error:
            diagnostics = getattr(error.orig, "diag", None)
            if getattr(diagnostics, "constraint_name", None) != "uq_registrations_email_proven":
                raise
            if not alone:
                raise TransactionConflict(
                    "another registration proved this mailbox at the same moment: repeat the unit of work"
                ) from error
        # Nothing else was in the transaction, so taking it back to where it had not begun loses nothing.
        driver.rollback()
        return EmailTaken()

    def _known_peppers(self) -> Peppers:
        if self._peppers is None:
            raise InvalidInput("codes need peppers: VerificationRepository(session, peppers=Peppers({1: ...}))")
        return self._peppers


def _token_outcome(row: Row[Any]) -> PeekOutcome:
    match row.status_now:
        case Status.VERIFIED | Status.ACTIVE:
            return AlreadyVerified(registration_of(row))
        case Status.PENDING if row.email_proven:
            return EmailTaken()
        case Status.PENDING if row.live:
            return TokenUsable(registration_of(row))
        case _:
            return TokenExpired()


def _code_outcome(row: Row[Any], max_attempts: int) -> CodeOutcome | None:
    """Return what became of a code; `None` where it was not judged because others got in the way."""
    if row.changed:
        return Verified(registration_of(row))
    if row.status_now == Status.ERASED:
        return TokenUnknown()
    if row.matched is False:
        return WrongCode(left=max_attempts - row.attempts)
    if row.matched:
        return EmailTaken() if row.status_now == Status.PENDING else AlreadyVerified(registration_of(row))
    if row.status_now not in _OPEN_OR_ACTIVE or row.attempts_before is None:
        return TokenExpired()
    return LockedOut() if row.attempts_before >= max_attempts else None


def _limits(min_gap: timedelta, max_issued: int, ttl: timedelta) -> dict[str, Any]:
    return {
        "min_gap": checked_gap("min_gap", min_gap),
        "max_issued": checked_number("max_issued", max_issued, 1, _MOST_TOKENS),
        "token_ttl": checked_ttl("ttl", ttl),
    }


def _kept_changing() -> TransactionConflict:
    return TransactionConflict("other transactions kept changing the registration: repeat the unit of work")
