"""`VerificationRepository`: verify a mailbox, by the link of a mail or by a code."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Row

from registration_persistence.domain.codes import Peppers
from registration_persistence.domain.ids import new_id
from registration_persistence.domain.tokens import hash_token
from registration_persistence.domain.validation import checked_duration, checked_id, checked_number
from registration_persistence.durations import Duration
from registration_persistence.errors import InvalidInput, RegistrationNotFound
from registration_persistence.evidence import Evidence
from registration_persistence.outcomes import (
    CodeOutcome,
    EmailTaken,
    IssueOutcome,
    PeekOutcome,
    TokenUnknown,
    VerifyOutcome,
    WrongCode,
)
from registration_persistence.repositories.base import Repository, repeat_if_changed_meanwhile
from registration_persistence.repositories.change import event_evidence, event_evidence_by_token
from registration_persistence.repositories.issue import issue, issue_limits, new_code_and_hash, new_token_and_hash
from registration_persistence.repositories.mailbox_conflict import verify_or_email_taken
from registration_persistence.repositories.sql import verification as statements
from registration_persistence.repositories.traceback_redaction import redact_traceback
from registration_persistence.repositories.verification_outcomes import code_outcome, peek_outcome, verify_outcome
from registration_persistence.unit_of_work import SessionOrConnection

_MAX_WRONG_CODES = 100
_TOKEN_KEY_ID = 0  # the key id of the plain hash of a token; those of peppers begin with 1


class VerificationRepository(Repository):
    """Tokens and codes that verify a mailbox, in the transaction of its session or connection; never commits.

    Each method is one statement: one round trip in an `autocommit` session, also if the answer is no. Errors of the
    connection are raised as `Database.session` lists them.

    Args:
        session: A session of `Database.session`, or a `sqlalchemy.Connection` of `Database.run` or `Database.engine`.
        actor: The cause of the changes, for the event log: `user`, `system` or `admin:<id>`. Defaults to `user`.
        correlation_id: A trace id, no name or number of a person: 1 to 64 letters, digits or `_.:/-`. Defaults to none.
        peppers: The keys of the hashes of codes; `issue_code` and `verify_by_code` need them. Defaults to `None`.
    """

    @redact_traceback
    def __init__(
        self,
        session: SessionOrConnection,
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
        min_gap: Duration = timedelta(minutes=1),
        max_issued: int = 5,
        ttl: Duration = timedelta(days=1),
    ) -> IssueOutcome:
        """Create a token for a verification link, which replaces the previous token or code.

        The limits are exact, however many requests run at the same time. Commit before you send the mail.

        Args:
            registration_id: The registration, a UUID.
            min_gap: The shortest time since the previous token or code, the token of `register` included, as a
                `timedelta` or in seconds; 0 to ten years. Defaults to 1 minute.
            max_issued: The largest number of tokens and codes of a registration, the token of `register` included; 1
                to 1000. Defaults to 5.
            ttl: The time for which the token can be used, as a `timedelta` or in seconds; more than 0, at most ten
                years. Defaults to 1 day.

        Returns:
            `Issued`; `Throttled` if it is too early or too often; `NotPending`. Only `Issued` changes anything.

        Raises:
            RegistrationNotFound: No registration has this id.
            InvalidInput: An argument is not valid; nothing was sent.
            TransactionConflict: Other transactions kept issuing at the same moment; nothing was changed.
        """
        limits = issue_limits(min_gap, max_issued, ttl)
        return issue(self._session, registration_id, _TOKEN_KEY_ID, new_token_and_hash, limits)

    @redact_traceback
    def issue_code(
        self,
        registration_id: UUID,
        *,
        min_gap: Duration = timedelta(minutes=1),
        max_issued: int = 5,
        ttl: Duration = timedelta(minutes=10),
    ) -> IssueOutcome:
        """Create a code of six digits, which replaces the previous token or code; needs *peppers*.

        The limits are exact, however many requests run at the same time. Commit before you send the mail.

        Args:
            registration_id: The registration, a UUID.
            min_gap: The shortest time since the previous token or code, the token of `register` included, as a
                `timedelta` or in seconds; 0 to ten years. Defaults to 1 minute.
            max_issued: The largest number of tokens and codes of a registration, the token of `register` included; 1
                to 1000. Defaults to 5.
            ttl: The time for which the code can be used, as a `timedelta` or in seconds; more than 0, at most ten
                years. Defaults to 10 minutes.

        Returns:
            `Issued`; `Throttled` if it is too early or too often; `NotPending`. Only `Issued` changes anything.

        Raises:
            RegistrationNotFound: No registration has this id.
            InvalidInput: An argument is not valid, or there are no peppers; nothing was sent.
            TransactionConflict: Other transactions kept issuing at the same moment; nothing was changed.
        """
        limits, peppers = issue_limits(min_gap, max_issued, ttl), self._required_peppers()
        new_secret = partial(new_code_and_hash, peppers, checked_id(registration_id))
        return issue(self._session, registration_id, peppers.newest, new_secret, limits)

    @redact_traceback
    def peek_token(self, token: str) -> PeekOutcome:
        """Return the outcome that `verify_by_token` would have, and write nothing.

        Scanners of mail open links before people do, so a page should call this when the link is opened.

        Args:
            token: The token from the link, 43 characters; any other text is an unknown token.

        Returns:
            `TokenUsable` if the token would verify the mailbox, otherwise the outcome of `verify_by_token`.
        """
        secret_hash = hash_token(token)
        row = None if secret_hash is None else self._one(statements.PEEK, secret_hash=secret_hash)
        return peek_outcome(row) if row is not None else TokenUnknown()

    @redact_traceback
    def verify_by_token(self, token: str, *, ttl: Duration = timedelta(days=30)) -> VerifyOutcome:
        """Verify the mailbox that *token* was sent to.

        One round trip for every outcome, and one or two more if another transaction changed the registration at the
        same moment.

        Args:
            token: The token from the link, 43 characters; any other text is an unknown token.
            ttl: The time for which the registration may stay verified without becoming active, as a `timedelta` or in
                seconds; more than 0, at most ten years. Defaults to 30 days.

        Returns:
            `Verified`; `AlreadyVerified`, on which nobody may be signed in, if this token verified the mailbox before
            and has not expired; `TokenExpired`; `EmailTaken`, for a usable token only; `TokenUnknown`, also for text
            that cannot be a token, which is not sent to the server.

        Raises:
            InvalidInput: *ttl* is not valid; nothing was sent.
            TransactionConflict: Another registration verified the mailbox at the same moment, and earlier statements of
                this transaction were lost. If this is the first statement of the transaction, the outcome is
                `EmailTaken` and the session stays usable.
        """
        secret_hash, open_for = hash_token(token), checked_duration("ttl", ttl)
        if secret_hash is None:
            return TokenUnknown()

        def attempt() -> VerifyOutcome:
            values = self._event_parameters()
            evidence = event_evidence_by_token(secret_hash, values["event_id"])
            row = self._verify(statements.VERIFY, evidence, secret_hash=secret_hash, ttl=open_for, **values)
            if isinstance(row, EmailTaken):
                return row
            return TokenUnknown() if row is None else verify_outcome(row)

        return repeat_if_changed_meanwhile(attempt)

    @redact_traceback
    def verify_by_code(
        self, registration_id: UUID, code: str, *, max_attempts: int = 5, ttl: Duration = timedelta(days=30)
    ) -> CodeOutcome:
        """Verify the mailbox that *code* was sent to; needs *peppers*.

        A wrong code counts, whatever becomes of the transaction. If this is the first statement of its transaction,
        the attempt is committed at once, and exactly *max_attempts* wrong codes are judged, however many arrive at the
        same time. Otherwise COMMIT takes one more round trip, the attempt is counted again after a roll-back, and each
        transaction that is open at that moment may judge one more. One round trip, and one or two more if another
        transaction changed the registration at the same moment.

        Args:
            registration_id: The registration, a UUID.
            code: The code as typed, at most 1,000,000 characters. White space is ignored; other text is a wrong code.
            max_attempts: The number of wrong codes after which the right code is rejected, 1 to 100. Defaults to 5.
            ttl: The time for which the registration may stay verified without becoming active, as a `timedelta` or in
                seconds; more than 0, at most ten years. Defaults to 30 days.

        Returns:
            `Verified`; `AlreadyVerified`, on which nobody may be signed in, if the code that verified the mailbox is
            sent again before it expires; `WrongCode`; `LockedOut`; `TokenExpired`, also if no code was issued;
            `EmailTaken`, for the right code only; `TokenUnknown` if the registration was erased.

        Raises:
            RegistrationNotFound: No registration has this id.
            InvalidInput: An argument is not valid, there are no peppers, or the transaction belongs to a connection
                that could roll it back without the session; nothing was sent.
            TransactionConflict: Another registration verified the mailbox at the same moment, and earlier statements of
                this transaction were lost.
            AttemptNotCounted: Raised by the roll-back, if a wrong code could not be counted again.
        """
        from registration_persistence.repositories.wrong_attempts import WrongAttempts  # few services use codes

        if not isinstance(code, str):
            raise InvalidInput(f"the code is a {type(code).__name__}: expected a string")
        hashes = self._required_peppers().hashes(checked_id(registration_id), code)
        parameters = {
            "id": registration_id,
            "code_key_ids": list(hashes),
            "code_hashes": list(hashes.values()),
            "max_attempts": checked_number("max_attempts", max_attempts, 1, _MAX_WRONG_CODES),
            "ttl": checked_duration("ttl", ttl),
        }
        attempts = WrongAttempts(self._session, registration_id, hashes)
        if earlier := attempts.outcome_of_earlier_try():
            return earlier

        def attempt() -> CodeOutcome:
            values = self._event_parameters()
            # A wrong code that was counted leaves no evidence.
            evidence = replace(event_evidence(registration_id, values["event_id"]), absence_is_proof=False)
            row = self._verify(statements.VERIFY_CODE, evidence, **parameters, **values)
            if isinstance(row, EmailTaken):
                return row
            if row is None:
                raise RegistrationNotFound(registration_id)
            outcome = code_outcome(row, max_attempts)
            if isinstance(outcome, WrongCode):
                attempts.count(outcome, row.token_id, row.attempts)
            return outcome

        return repeat_if_changed_meanwhile(attempt)

    def _verify(self, statement: Executable, evidence: Evidence, **parameters: Any) -> Row[Any] | EmailTaken | None:
        return verify_or_email_taken(self._session, statement, parameters | {"lapsed_event_id": new_id()}, evidence)

    def _required_peppers(self) -> Peppers:
        if self._peppers is None:
            raise InvalidInput("codes need peppers: VerificationRepository(session, peppers=Peppers({1: ...}))")
        return self._peppers
