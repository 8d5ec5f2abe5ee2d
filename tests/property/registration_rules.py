"""The rules of a registration after its sign-up."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from steps import MODES, POSITIONS, VERSIONS, Steps
from world import CLOSED, OPEN

from registration_persistence import (
    Consent,
    ConsentRepository,
    PrivacyRepository,
    Registration,
    RegistrationPersistenceError,
    RegistrationRepository,
    Status,
)
from registration_persistence.domain.status import CancelReason
from registration_persistence.errors import IllegalTransition, StaleVersion
from registration_persistence.outcomes import Cancelled


class RegistrationRules(Steps):
    """Activate, cancel, change the profile, record consents, and erase."""

    @precondition(Steps.has_registrations)
    @rule(mode=MODES, position=POSITIONS, which=VERSIONS)
    def activate(self, mode: str, position: int, which: str | None) -> None:
        """Activate, perhaps with a stale version."""
        identity = self.pick(position)
        version = self.version(identity, which)
        outcome, before, _ = self.perform(
            mode, lambda session: RegistrationRepository(session).activate(identity, expected_version=version)
        )
        allowed = before.status(identity) == Status.VERIFIED
        assert type(outcome) is (StaleVersion if which == "stale" else Registration if allowed else IllegalTransition)

    @precondition(Steps.has_registrations)
    @rule(mode=MODES, position=POSITIONS, which=VERSIONS, reason=st.sampled_from(["user", "admin", "superseded"]))
    def cancel(self, mode: str, position: int, which: str | None, reason: CancelReason) -> None:
        """Cancel, perhaps with a stale version."""
        identity = self.pick(position)
        version = self.version(identity, which)
        outcome, before, _ = self.perform(
            mode, lambda session: RegistrationRepository(session).cancel(identity, reason, expected_version=version)
        )
        status = before.registrations[identity]["status"]
        if status == Status.CANCELLED:
            assert isinstance(outcome, Cancelled)
            assert not outcome.changed
        else:
            assert type(outcome) is (
                StaleVersion if which == "stale" else Cancelled if status in OPEN else IllegalTransition
            )

    @precondition(Steps.has_registrations)
    @rule(
        mode=MODES,
        position=POSITIONS,
        which=VERSIONS,
        patch=st.dictionaries(st.sampled_from(["name", "city"]), st.sampled_from(["Ada", "Eve", None])),
    )
    def update_profile(self, mode: str, position: int, which: str | None, patch: dict[str, Any]) -> None:
        """Change the profile, perhaps to the values that it has."""
        identity = self.pick(position)
        version = self.version(identity, which)
        outcome, before, kept = self.perform(
            mode,
            lambda session: RegistrationRepository(session).update_profile(identity, patch, expected_version=version),
        )
        closed = before.status(identity) in CLOSED
        assert type(outcome) is (StaleVersion if which == "stale" else IllegalTransition if closed else Registration)
        if isinstance(outcome, Registration):
            profile = before.registrations[identity]["profile"]
            wanted = {name: value for name, value in {**profile, **patch}.items() if value is not None}
            assert wanted == outcome.profile
            if kept:
                increment = self.world.registrations[identity]["version"] - before.registrations[identity]["version"]
                assert increment == (wanted != profile)

    @precondition(Steps.has_registrations)
    @rule(
        mode=MODES,
        position=POSITIONS,
        decisions=st.dictionaries(st.sampled_from(["terms", "news"]), st.booleans(), min_size=1),
    )
    def record_consents(self, mode: str, position: int, decisions: dict[str, bool]) -> None:
        """Grant or withdraw consents."""
        identity = self.pick(position)
        given = [Consent(purpose, "2", granted=granted) for purpose, granted in decisions.items()]
        outcome, before, kept = self.perform(mode, lambda session: ConsentRepository(session).record(identity, given))
        erased = before.registrations[identity]["status"] == Status.ERASED
        assert type(outcome) is (IllegalTransition if erased else Registration)
        if kept:
            with self.database.session() as session:
                current = {c.purpose: c.granted for c in ConsentRepository(session).current(identity)}
            assert decisions.items() <= current.items()

    @precondition(Steps.has_registrations)
    @rule(mode=MODES, position=POSITIONS)
    def erase(self, mode: str, position: int) -> None:
        """Erase a registration."""
        identity = self.pick(position)
        outcome, before, kept = self.perform(mode, lambda session: PrivacyRepository(session).erase(identity))
        assert not isinstance(outcome, RegistrationPersistenceError)
        assert outcome.changed == (before.registrations[identity]["status"] != Status.ERASED)
        assert Status.ERASED == outcome.registration.status
        if kept:
            assert [] == self.world.of("verification_tokens", identity)
            self.forget_closed_submissions()
