"""`RegistrationRepository`: register, verify, activate, change, cancel, and read registrations."""

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from registration_persistence.domain.cursor import checked_cursor, cursor_after
from registration_persistence.domain.email import KEY_REVISION, normalise_email
from registration_persistence.domain.idempotency import submission
from registration_persistence.domain.ids import new_id
from registration_persistence.domain.profile import LARGEST_PROFILE, checked_patch, checked_profile
from registration_persistence.domain.records import Consent, Page, Registration
from registration_persistence.domain.status import Status
from registration_persistence.domain.tokens import hash_token, new_token
from registration_persistence.domain.validation import (
    checked_consents,
    checked_id,
    checked_number,
    checked_purposes,
    checked_status,
    checked_ttl,
    checked_version,
)
from registration_persistence.errors import IdempotencyConflict, InvalidInput, ProfileTooLarge
from registration_persistence.outcomes import Cancelled, Registered, RegisterOutcome, Replayed
from registration_persistence.repositories.base import Repository, refusal, registration_of
from registration_persistence.repositories.sql import registrations as statements
from registration_persistence.repositories.sql.fragments import consent_parameters
from registration_persistence.repositories.traceback_redaction import redact_traceback

_LARGEST_PAGE = 1000

_OPEN_OR_ACTIVE = (Status.PENDING, Status.VERIFIED, Status.ACTIVE)


class RegistrationRepository(Repository):
    """Registrations, in the transaction of the session it is given; never commits.

    Each method is one statement: one round trip in an `autocommit` session, also where the answer is no. What it did
    is kept when the session commits, which `Database.session` does on a clean exit. Errors of the connection are
    raised as `Database.session` lists them.

    Args:
        session: A session of `Database.session`.
        actor: Who acts, for the event trail: `user`, `system` or `admin:<id>`.
        correlation_id: What ties the event trail to a trace or request; not personal data.
        purposes: The purposes of consents that there are; by default any of the right form.
    """

    def __init__(
        self,
        session: Session,
        *,
        actor: str = "user",
        correlation_id: str | None = None,
        purposes: Collection[str] | None = None,
    ) -> None:
        super().__init__(session, actor=actor, correlation_id=correlation_id)
        self._purposes = checked_purposes(purposes)

    @redact_traceback
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
        agreed = checked_consents(consents, self._purposes)
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
                **consent_parameters(agreed),
                **keys,
                **self._event(),
            },
        ).one()
        registration = registration_of(row)
        if row.created:
            return Registered(registration, token, email_verified_elsewhere=row.email_proven)
        if row.submit_digest != keys["submit_digest"]:
            raise IdempotencyConflict(
                f"the idempotency key belongs to registration {registration.id}, which was made from another payload: "
                "use a new key for a new submission"
            )
        return Replayed(registration, email_verified_elsewhere=row.email_proven)

    @redact_traceback
    def activate(self, registration_id: UUID, *, expected_version: int | None = None) -> Registration:
        """Make a verified registration active.

        Args:
            registration_id: Which one.
            expected_version: The version the decision was based on; `None` where only the status matters.

        Raises:
            RegistrationNotFound, StaleVersion: Nothing was changed.
            IllegalTransition: It is not verified, or its time to become active is over.
        """
        row = self._change(statements.ACTIVATE, registration_id, expected_version=checked_version(expected_version))
        if not row.changed:
            raise refusal(row, expected_version=expected_version, wanted=Status.ACTIVE)
        return registration_of(row)

    @redact_traceback
    def update_profile(
        self, registration_id: UUID, patch: Mapping[str, Any], *, expected_version: int | None = None
    ) -> Registration:
        """Replace the fields that *patch* names, and remove those that it gives as `None`.

        The event trail gets the names of the fields that changed, as far as they look like names. A patch that changes
        nothing writes nothing.

        Args:
            registration_id: Which one; pending, verified or active.
            patch: Fields of the profile's first level with their new values.
            expected_version: As for `activate`.

        Raises:
            InvalidProfile, InvalidInput: Nothing was sent.
            ProfileTooLarge: The profile would take more than 8192 octets of JSON, and grow.
            RegistrationNotFound, StaleVersion: Nothing was changed.
            IllegalTransition: It is closed, or its time is over.
        """
        row = self._change(
            statements.UPDATE_PROFILE,
            registration_id,
            expected_version=checked_version(expected_version),
            **checked_patch(patch),
        )
        stale = expected_version is not None and row.found_version != expected_version
        if not row.changed and (stale or row.status_now not in _OPEN_OR_ACTIVE):
            raise refusal(row, expected_version=expected_version)
        if not row.changed and row.too_large:
            raise ProfileTooLarge(
                f"the profile would take {row.merged_size} octets of JSON: expected at most {LARGEST_PROFILE}"
            )
        return registration_of(row)

    @redact_traceback
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
        row = self._change(
            statements.CANCEL, registration_id, expected_version=checked_version(expected_version), reason=reason
        )
        if not row.changed and row.status_now != Status.CANCELLED:
            raise refusal(row, expected_version=expected_version, wanted=Status.CANCELLED)
        return Cancelled(registration_of(row), changed=row.changed)

    @redact_traceback
    def get(self, registration_id: UUID) -> Registration | None:
        """Return the registration with this id, or `None`."""
        row = self._one(statements.GET, id=checked_id(registration_id))
        return None if row is None else registration_of(row)

    @redact_traceback
    def find_by_email(self, email: str) -> Registration | None:
        """Return the registration that has proven this mailbox, else the newest pending one, else `None`.

        Raises:
            InvalidEmail: As for `register`.
        """
        row = self._one(statements.FIND_BY_EMAIL, email_key=normalise_email(email).key)
        return None if row is None else registration_of(row)

    @redact_traceback
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
        checked_number("the limit", limit, 1, _LARGEST_PAGE)
        wanted = None if status is None else checked_status(status)
        rows = self._session.execute(
            statements.LIST_PAGE, {"after": checked_cursor(after), "status": wanted, "limit": limit + 1}
        ).all()
        items = tuple(registration_of(row) for row in rows[:limit])
        return Page(items, next_cursor=cursor_after(items[-1].id) if len(rows) > limit else None)
