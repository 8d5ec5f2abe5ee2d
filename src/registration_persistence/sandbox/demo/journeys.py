"""`Journeys`: takes the people of a file through sign-up, verification and activation, and counts the outcomes."""

import secrets
from collections import Counter
from datetime import timedelta
from uuid import UUID

from registration_persistence.database import session_scope
from registration_persistence.domain.codes import Peppers
from registration_persistence.domain.records import Registration
from registration_persistence.outcomes import (
    CodeOutcome,
    Issued,
    Registered,
    RegisterOutcome,
    Throttled,
    Verified,
    WrongCode,
)
from registration_persistence.repositories.privacy import PrivacyRepository
from registration_persistence.repositories.registrations import RegistrationRepository
from registration_persistence.repositories.verification import VerificationRepository
from registration_persistence.sandbox.demo.signups import Signup

# Every Nth person does it.
_UNVERIFIED_EVERY = 10
_ASKING_FOR_ANOTHER_MAIL_EVERY = 4
_VERIFYING_BY_CODE_EVERY = 3
_UNACTIVATED_EVERY = 15
_LEAVING_EVERY = 20

_PEPPERS = Peppers({1: secrets.token_bytes(32)})


class Journeys:
    """Takes people through the whole life of a registration, as a service would.

    Some people do not go the whole way: they never open the link, ask for another mail at once, get a code and mistype
    it, stop before the last step, or leave for good.

    Attributes:
        counts: The number of people for each outcome.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def follow(self, signup: Signup) -> None:
        """Register one person, and go on as far as this person goes.

        Raises:
            InvalidInput: The sign-up cannot be stored.
            IdempotencyConflict: The same idempotency key was used with another payload.
            RegistrationPersistenceError: The database failed.
        """
        outcome = self._register(signup)
        if not isinstance(outcome, Registered):
            self.counts["replayed"] += 1
            return
        self.counts["registered"] += 1
        number = self.counts["registered"]
        if number % _ASKING_FOR_ANOTHER_MAIL_EVERY == 0:
            self._ask_for_another_mail(outcome.registration.id)
        if number % _UNVERIFIED_EVERY:
            verify = self._verify_by_code if number % _VERIFYING_BY_CODE_EVERY == 0 else self._verify_by_link
            self._finish(verify(outcome))

    def _register(self, signup: Signup) -> RegisterOutcome:
        with session_scope(autocommit=True) as session:
            return RegistrationRepository(session).register(
                signup.email, profile=signup.profile, consents=signup.consents, idempotency_key=signup.idempotency_key
            )

    def _ask_for_another_mail(self, registration_id: UUID) -> None:
        with session_scope(autocommit=True) as session:
            outcome = VerificationRepository(session).issue_token(registration_id)
        self.counts["resend throttled"] += isinstance(outcome, Throttled)

    def _verify_by_link(self, registered: Registered) -> Registration | None:
        with session_scope(autocommit=True) as session:
            return self._verified(VerificationRepository(session).verify_by_token(registered.token))

    def _verify_by_code(self, registered: Registered) -> Registration | None:
        """Type a wrong code, then the right one; each is counted in a transaction of its own."""
        identity = registered.registration.id
        with session_scope(autocommit=True) as session:
            verification = VerificationRepository(session, peppers=_PEPPERS)
            issued = verification.issue_code(identity, min_gap=timedelta(0))
            assert isinstance(issued, Issued)
            mistyped = issued.secret[:-1] + str((int(issued.secret[-1]) + 1) % 10)
            self.counts["wrong code"] += isinstance(verification.verify_by_code(identity, mistyped), WrongCode)
            return self._verified(verification.verify_by_code(identity, issued.secret))

    def _verified(self, outcome: CodeOutcome) -> Registration | None:
        if not isinstance(outcome, Verified):
            self.counts["mailbox taken"] += 1
            return None
        self.counts["verified"] += 1
        return outcome.registration

    def _finish(self, registration: Registration | None) -> None:
        if registration is None or self.counts["verified"] % _UNACTIVATED_EVERY == 0:
            return
        with session_scope(autocommit=True) as session:
            RegistrationRepository(session).activate(registration.id, expected_version=registration.version)
            self.counts["activated"] += 1
            if self.counts["activated"] % _LEAVING_EVERY == 0:
                self.counts["erased"] += PrivacyRepository(session).erase(registration.id).changed
