"""`RegistrationRepository`: register, activate, change, cancel and read registrations."""

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any, get_args
from uuid import UUID

from registration_persistence.domain.cursor import checked_cursor, cursor_after
from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.idempotency import submission_hashes
from registration_persistence.domain.ids import new_id, new_id_text
from registration_persistence.domain.profile import MAX_PROFILE_BYTES, checked_patch, encoded_profile
from registration_persistence.domain.records import Consent, Page, Registration
from registration_persistence.domain.status import OPEN_OR_ACTIVE, CancelReason, Status
from registration_persistence.domain.tokens import hash_token, new_token
from registration_persistence.domain.validation import (
    checked_consents,
    checked_duration,
    checked_id,
    checked_number,
    checked_purposes,
    checked_status,
    checked_version,
    checked_word,
)
from registration_persistence.durations import Duration
from registration_persistence.errors import ProfileTooLarge
from registration_persistence.outcomes import Cancelled, RegisterOutcome
from registration_persistence.repositories.base import Repository, consent_parameters, refusal, registration_of
from registration_persistence.repositories.change import event_evidence, send_change
from registration_persistence.repositories.register_outcome import register_outcome
from registration_persistence.repositories.sql import registrations as statements
from registration_persistence.repositories.traceback_redaction import redact_traceback
from registration_persistence.unit_of_work import SessionOrConnection

_MAX_PAGE_ROWS = 1000
_MAX_PENDING = 1000


class RegistrationRepository(Repository):
    """Registrations, in the transaction of its session or connection; never commits.

    Each method is one statement: one round trip in an `autocommit` session, also if the answer is no. Errors of the
    connection are raised as `Database.session` lists them, which commits if its block ends without an exception.

    Args:
        session: A session of `Database.session`, or a `sqlalchemy.Connection` of `Database.run` or `Database.engine`.
        actor: The cause of the changes, for the event log: `user`, `system` or `admin:<id>`. Defaults to `user`.
        correlation_id: A trace id, no name or number of a person: 1 to 64 letters, digits or `_.:/-`. Defaults to none.
        purposes: At most 100 known purposes of consents. Defaults to `None`, which allows every valid purpose.
    """

    @redact_traceback
    def __init__(
        self,
        session: SessionOrConnection,
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
        ttl: Duration = timedelta(days=7),
        token_ttl: Duration = timedelta(days=1),
        max_pending: int | None = None,
    ) -> RegisterOutcome:
        """Store a sign-up with its verification token, consents, event and outbox message, all or nothing.

        The statement does the same work for a known and for an unknown mailbox, and beyond *max_pending*, so the time
        does not reveal which it is. A mailbox may have several pending registrations; the first that is verified wins.

        Args:
            email: The address as the person typed it, at most 254 bytes without the white space around it.
            profile: A JSON object of at most 8192 bytes and 32 levels. Defaults to an empty object.
            consents: The decisions, at most 32, and at most one for each purpose. Defaults to none.
            idempotency_key: 1 to 255 random bytes, the same if the client repeats the request. Defaults to none.
            ttl: How long it may stay pending, a `timedelta` or seconds; above 0, at most 10 years. Defaults to 7 days.
            token_ttl: How long the token works, a `timedelta` or seconds; above 0, at most 10 years. Defaults to 1 day.
            max_pending: The largest number of pending registrations of the mailbox, 1 to 1000, exact if calls with this
                argument are concurrent. Such calls for one mailbox wait until the transaction of the previous one ends.
                Defaults to `None`, for no limit.

        Returns:
            `Registered`, or `TooManyPending` if the mailbox has *max_pending* others, or `Replayed` if the idempotency
            key was used before with the same payload.

        Raises:
            InvalidEmail, InvalidProfile, ProfileTooLarge, InvalidConsent, InvalidInput: Nothing was sent.
            IdempotencyConflict: The key was used before with another payload; nothing was changed.
        """
        mailbox = normalise_email(email)
        stored, encoded = encoded_profile({} if profile is None else profile)
        agreed = checked_consents(consents, self._purposes)
        limit = None if max_pending is None else checked_number("max_pending", max_pending, 1, _MAX_PENDING)
        token, identity = new_token(), new_id()
        parameters = {
            "id": identity,
            "email": mailbox.address,
            "email_key": mailbox.key,
            "profile": encoded,
            "ttl": checked_duration("ttl", ttl),
            "token_ttl": checked_duration("token_ttl", token_ttl),
            "max_pending": limit,
            "token_id": new_id_text(),
            "secret_hash": hash_token(token),
            **consent_parameters(agreed),
            **submission_hashes(idempotency_key, mailbox.address, stored, agreed),
            **self._event_parameters(),
        }
        evidence = event_evidence(identity, parameters["event_id"])
        row = send_change(
            self._session, statements.REGISTER, parameters, evidence, lambda row: evidence if row.created else None
        )
        assert row is not None
        return register_outcome(row, token, parameters, stored)

    @redact_traceback
    def activate(self, registration_id: UUID, *, expected_version: int | None = None) -> Registration:
        """Make a verified registration active.

        Args:
            registration_id: The registration, a UUID.
            expected_version: The version that the decision is based on, 1 to 2,147,483,647. Defaults to any version.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
            RegistrationNotFound: No registration has this id.
            StaleVersion: The registration has another version; nothing was changed.
            IllegalTransition: The registration is not verified, or it has lapsed; nothing was changed.
        """
        row = self._change(statements.ACTIVATE, registration_id, expected_version=checked_version(expected_version))
        if not row.changed:
            raise refusal(row, expected_version=expected_version, wanted=Status.ACTIVE)
        return registration_of(row)

    @redact_traceback
    def update_profile(
        self, registration_id: UUID, patch: Mapping[str, Any], *, expected_version: int | None = None
    ) -> Registration:
        """Replace the fields of the profile that *patch* names, and remove those whose value is `None`.

        The event contains the names of the changed fields and stays after an erasure, so a name must not be personal
        data. It omits names other than 1 to 64 letters, digits and `_`, with a letter first and no four digits in a
        row. A patch that changes nothing writes nothing.

        Args:
            registration_id: The registration, a UUID; pending, verified or active.
            patch: Fields of the first level of the profile, with their new values; a JSON object of at most 8192 bytes
                and 32 levels.
            expected_version: The version that the decision is based on, 1 to 2,147,483,647. Defaults to any version.

        Raises:
            InvalidProfile, InvalidInput: An argument is not valid; nothing was sent.
            ProfileTooLarge: The profile would grow and take more than 8192 bytes of JSON; nothing was changed.
            RegistrationNotFound: No registration has this id.
            StaleVersion: The registration has another version; nothing was changed.
            IllegalTransition: The registration is closed or has lapsed; nothing was changed.
        """
        row = self._change(
            statements.UPDATE_PROFILE,
            registration_id,
            expected_version=checked_version(expected_version),
            **checked_patch(patch),
        )
        stale = expected_version is not None and row.found_version != expected_version
        if not row.changed and (stale or row.status_now not in OPEN_OR_ACTIVE):
            raise refusal(row, expected_version=expected_version)
        if not row.changed and row.too_large:
            size = f"{row.merged_size} bytes of JSON: expected at most {MAX_PROFILE_BYTES}"
            raise ProfileTooLarge(f"the profile would take {size}")
        return registration_of(row)

    @redact_traceback
    def cancel(
        self, registration_id: UUID, reason: CancelReason = "user", *, expected_version: int | None = None
    ) -> Cancelled:
        """Cancel a registration that is pending or verified, lapsed or not; a repetition changes nothing.

        Args:
            registration_id: The registration, a UUID.
            reason: `user`, `admin` or `superseded`. Defaults to `user`.
            expected_version: The version that the decision is based on, 1 to 2,147,483,647. Defaults to any version.

        Raises:
            InvalidInput: An argument is not valid; nothing was sent.
            RegistrationNotFound: No registration has this id.
            StaleVersion: The registration has another version; nothing was changed.
            IllegalTransition: The registration is active, expired or erased; nothing was changed.
        """
        word = checked_word(reason, get_args(CancelReason), "the reason is unknown")
        row = self._change(
            statements.CANCEL, registration_id, expected_version=checked_version(expected_version), reason=word
        )
        if not row.changed and row.status_now != Status.CANCELLED:
            raise refusal(row, expected_version=expected_version, wanted=Status.CANCELLED)
        return Cancelled(registration_of(row), changed=row.changed)

    @redact_traceback
    def get(self, registration_id: UUID) -> Registration | None:
        """Return a registration, or `None` if no registration has this id.

        Args:
            registration_id: The id, a UUID.

        Raises:
            InvalidInput: *registration_id* is not a UUID; nothing was sent.
        """
        row = self._one(statements.GET, id=checked_id(registration_id))
        return None if row is None else registration_of(row)

    @redact_traceback
    def find_by_email(self, email: str) -> Registration | None:
        """Return the current registration of a mailbox, otherwise the newest pending one, otherwise `None`.

        Args:
            email: An address of the mailbox, in any spelling, at most 254 bytes without the white space around it.

        Raises:
            InvalidEmail: *email* is not an address; nothing was sent.
        """
        row = self._session.execute(statements.FIND_BY_EMAIL, {"email_key": normalise_email(email).key}).one()
        registration = registration_of(row)  # also if it stands for none, which takes the same time
        return registration if row.rank < statements.NO_REGISTRATION else None

    @redact_traceback
    def list_page(self, *, status: Status | str | None = None, after: str | None = None, limit: int = 50) -> Page:
        """Return registrations in the order of their ids, which is the order of their sign-up.

        Every page costs the same. If few registrations have *status*, the server reads the others to find them.

        Args:
            status: Only registrations with this status, one of `Status`. Defaults to `None`, for all.
            after: The `next_cursor` of the previous page, 36 characters. Defaults to `None`, for the first page.
            limit: The largest number of registrations on a page, 1 to 1000. Defaults to 50.

        Raises:
            InvalidCursor: *after* is not a cursor of this method; nothing was sent.
            InvalidInput: *status* or *limit* is not valid; nothing was sent.
        """
        checked_number("the limit", limit, 1, _MAX_PAGE_ROWS)
        wanted = None if status is None else checked_status(status)
        parameters = {"after": checked_cursor(after), "status": wanted, "limit": limit + 1}
        rows = self._session.execute(statements.LIST_PAGE, parameters).all()
        items = tuple(registration_of(row) for row in rows[:limit])
        return Page(items, next_cursor=cursor_after(items[-1].id) if len(rows) > limit else None)
