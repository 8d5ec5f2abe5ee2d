"""`RegistrationRepository`: register, verify, activate, cancel, and read registrations."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.pq import TransactionStatus
from sqlalchemy import Row, TextClause
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registration_persistence.errors import (
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    RegistrationNotFound,
    StaleVersion,
    TransactionConflict,
)
from registration_persistence.registrations import statements
from registration_persistence.registrations.base import Status, new_id
from registration_persistence.registrations.confidential import confidential
from registration_persistence.registrations.email import KEY_REVISION, normalise_email
from registration_persistence.registrations.inputs import (
    checked_actor,
    checked_consents,
    checked_correlation_id,
    checked_cursor,
    checked_id,
    checked_profile,
    checked_status,
    checked_ttl,
    checked_version,
    submission,
)
from registration_persistence.registrations.outcomes import (
    AlreadyVerified,
    Cancelled,
    Consent,
    EmailTaken,
    Page,
    PeekOutcome,
    Registered,
    RegisterOutcome,
    Registration,
    Replayed,
    TokenExpired,
    TokenUnknown,
    TokenUsable,
    Verified,
    VerifyOutcome,
)
from registration_persistence.registrations.tokens import hash_token, new_token

_LARGEST_PAGE = 1000
_VERIFY_ATTEMPTS = 3


class RegistrationRepository:
    """Registrations, in the transaction of the session it is given; never commits.

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

    @confidential
    def register(
        self,
        email: str,
        *,
        profile: Mapping[str, Any] | None = None,
        consents: Iterable[Consent] = (),
        idempotency_key: str | None = None,
        ttl: timedelta = timedelta(days=7),
        token_ttl: timedelta = timedelta(days=1),
    ) -> RegisterOutcome:
        """Store a sign-up with its verification token, consents, event and outbox message, all or nothing.

        The work is the same whether or not the mailbox is known, so neither the answer nor the time tells. Pending
        registrations of one mailbox may repeat; the first that proves it wins.

        Args:
            email: As the person typed it.
            profile: A JSON object of at most 8192 octets.
            consents: What was agreed to or declined, one for each purpose.
            idempotency_key: Chosen by the client and kept when it repeats the request; makes a repeat harmless.
            ttl: How long the registration may stay pending.
            token_ttl: How long the token can be used.

        Returns:
            `Registered`, or `Replayed` where the idempotency key was used before with the same payload.

        Raises:
            InvalidEmail, InvalidProfile, ProfileTooLarge, InvalidConsent, InvalidInput: Nothing was sent.
            IdempotencyConflict: The key was used before with another payload.
        """
        mailbox = normalise_email(email)
        stored = checked_profile({} if profile is None else profile)
        agreed = checked_consents(consents)
        token, identity = new_token(), new_id()
        keys = submission(idempotency_key, mailbox.address, stored, agreed)
        row = self._session.execute(
            statements.REGISTER,
            {
                "id": identity,
                "email": mailbox.address,
                "email_key": mailbox.key,
                "email_key_rev": KEY_REVISION,
                "profile": stored,
                "ttl": checked_ttl("ttl", ttl),
                "token_ttl": checked_ttl("token_ttl", token_ttl),
                "token_id": new_id(),
                "secret_hash": hash_token(token),
                "consent_ids": [new_id() for _ in agreed],
                "consent_purposes": [consent.purpose for consent in agreed],
                "consent_versions": [consent.document_version for consent in agreed],
                "consent_granted": [consent.granted for consent in agreed],
                "consent_sources": [consent.source for consent in agreed],
                **keys,
                **self._event(),
            },
        ).one()
        registration = _registration(row)
        if row.created:
            return Registered(registration, token, row.email_proven)
        if row.submit_digest != keys["submit_digest"]:
            raise IdempotencyConflict(
                f"the idempotency key belongs to registration {registration.id}, which was made from another payload: "
                "use a new key for a new submission"
            )
        return Replayed(registration, row.email_proven)

    @confidential
    def peek_token(self, token: str) -> PeekOutcome:
        """Tell what `verify_by_token` would do, and write nothing: mail scanners open links before people do."""
        secret_hash = hash_token(token)
        row = None if secret_hash is None else self._one(statements.PEEK, secret_hash=secret_hash)
        return _token_outcome(row) if row is not None else TokenUnknown()

    @confidential
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
        for _ in range(_VERIFY_ATTEMPTS):
            row = self._verify(secret_hash, open_for)
            if isinstance(row, EmailTaken):
                return row
            if row is None:
                return TokenUnknown()
            if row.changed:
                return Verified(_registration(row))
            outcome = _token_outcome(row)
            if not isinstance(outcome, TokenUsable):
                return outcome
        raise TransactionConflict("other transactions kept changing the registration: repeat the unit of work")

    @confidential
    def activate(self, registration_id: UUID, *, expected_version: int | None = None) -> Registration:
        """Make a verified registration active.

        Args:
            registration_id: Which one.
            expected_version: The version the decision was based on; `None` where only the status matters.

        Raises:
            RegistrationNotFound, StaleVersion: Nothing was changed.
            IllegalTransition: It is not verified, or its time to become active is over.
        """
        row = self._move(statements.ACTIVATE, registration_id, expected_version=checked_version(expected_version))
        if not row.changed:
            raise _refusal(row, expected_version, wanted=Status.ACTIVE)
        return _registration(row)

    @confidential
    def cancel(self, registration_id: UUID, reason: str = "user", *, expected_version: int | None = None) -> Cancelled:
        """End a registration that is pending or verified, its time over or not; repeating it changes nothing.

        Args:
            registration_id: Which one.
            reason: `user`, `admin` or `superseded`.
            expected_version: As for `activate`.

        Raises:
            RegistrationNotFound, StaleVersion: Nothing was changed.
            IllegalTransition: It is active, expired or erased.
        """
        if reason not in ("user", "admin", "superseded"):
            raise InvalidInput("the reason is unknown: expected user, admin or superseded")
        row = self._move(
            statements.CANCEL, registration_id, expected_version=checked_version(expected_version), reason=reason
        )
        if not row.changed and row.status_now != Status.CANCELLED:
            raise _refusal(row, expected_version, wanted=Status.CANCELLED)
        return Cancelled(_registration(row), changed=row.changed)

    @confidential
    def get(self, registration_id: UUID) -> Registration | None:
        """Return the registration with this id, or `None`."""
        row = self._one(statements.GET, id=checked_id(registration_id))
        return None if row is None else _registration(row)

    @confidential
    def find_by_email(self, email: str) -> Registration | None:
        """Return the registration that has proven this mailbox, else the newest pending one, else `None`.

        Raises:
            InvalidEmail: As for `register`.
        """
        row = self._one(statements.FIND_BY_EMAIL, email_key=normalise_email(email).key)
        return None if row is None else _registration(row)

    @confidential
    def list_page(self, *, status: Status | str | None = None, after: str | None = None, limit: int = 50) -> Page:
        """Return registrations in the order of their ids, which is that of their sign-up.

        Every page costs the same; with a *status* that few have, finding them means looking through the others.

        Args:
            status: Only these.
            after: `next_cursor` of the page before.
            limit: Registrations on a page, 1 to 1000.

        Raises:
            InvalidCursor, InvalidInput: *after*, *status* or *limit* is not of that form.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _LARGEST_PAGE:
            raise InvalidInput(f"the limit is not a number from 1 to {_LARGEST_PAGE}")
        wanted = None if status is None else checked_status(status)
        rows = self._session.execute(
            statements.LIST_PAGE, {"after": checked_cursor(after), "status": wanted, "limit": limit + 1}
        ).all()
        items = tuple(_registration(row) for row in rows[:limit])
        return Page(items, next_cursor=items[-1].id.hex if len(rows) > limit else None)

    def _one(self, statement: TextClause, **parameters: Any) -> Row[Any] | None:
        return self._session.execute(statement, parameters).one_or_none()

    def _event(self) -> dict[str, Any]:
        return {"event_id": new_id(), **self._who}

    def _move(self, statement: TextClause, registration_id: UUID, **parameters: Any) -> Row[Any]:
        row = self._one(statement, id=checked_id(registration_id), **parameters, **self._event())
        if row is None:
            raise RegistrationNotFound(registration_id)
        return row

    def _verify(self, secret_hash: bytes, ttl: timedelta) -> Row[Any] | EmailTaken | None:
        driver: Any = self._session.connection().connection.dbapi_connection
        alone = driver.info.transaction_status == TransactionStatus.IDLE
        try:
            return self._one(
                statements.VERIFY, secret_hash=secret_hash, ttl=ttl, lapsed_event_id=new_id(), **self._event()
            )
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


def _registration(row: Row[Any]) -> Registration:
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


def _token_outcome(row: Row[Any]) -> PeekOutcome:
    match row.status_now:
        case Status.VERIFIED | Status.ACTIVE:
            return AlreadyVerified(_registration(row))
        case Status.PENDING if row.email_proven:
            return EmailTaken()
        case Status.PENDING if row.live:
            return TokenUsable(_registration(row))
        case _:
            return TokenExpired()


def _refusal(row: Row[Any], expected_version: int | None, *, wanted: Status) -> StaleVersion | IllegalTransition:
    if expected_version is not None and row.found_version != expected_version:
        return StaleVersion(row.id, expected_version, row.found_version)
    return IllegalTransition(row.id, row.status_now, wanted.value)
