"""The rules of signing up and verifying."""

from datetime import timedelta

from expectations import MAX_ATTEMPTS, PEPPERS, expected_of_code, expected_of_link
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy.orm import Session
from steps import MODES, POSITIONS, SPANS, Steps
from world import MAILBOXES, TABLES

from registration_persistence import Consent, Peppers, RegistrationRepository, Status, VerificationRepository
from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.tokens import hash_token
from registration_persistence.errors import IdempotencyConflict
from registration_persistence.outcomes import (
    Issued,
    NotPending,
    Registered,
    Replayed,
    Throttled,
    TokenUsable,
    Verified,
    WrongCode,
)

OLDER_PEPPERS = Peppers({1: b"1" * 32})
NEXT_STEPS = st.sampled_from(["nothing", "the link", "a code", "another link"])


class SignUpRules(Steps):
    """Register, request tokens and codes, and use them."""

    @rule(
        mode=MODES,
        email=st.sampled_from(MAILBOXES),
        next_step=NEXT_STEPS,
        key=st.sampled_from([None, None, "a", "b", "c"]),
        name=st.sampled_from(["Ada", "Eve"]),
        ttl=SPANS,
        token_ttl=SPANS,
    )
    def register(  # noqa: PLR0917 the fields of a form
        self, mode: str, email: str, next_step: str, key: str | None, name: str, ttl: timedelta, token_ttl: timedelta
    ) -> None:
        """Sign up, perhaps with a key that was used before, perhaps with the next steps."""
        outcome, before, kept = self.perform(
            mode,
            lambda session: RegistrationRepository(session).register(
                email,
                profile={"name": name},
                consents=[Consent("terms", "1")],
                idempotency_key=key,
                ttl=ttl,
                token_ttl=token_ttl,
            ),
        )
        if key in self.submitted:
            payload, identity = self.submitted[key]
            assert type(outcome) is (Replayed if payload == (email, name) else IdempotencyConflict)
            if isinstance(outcome, Replayed):
                assert identity == outcome.registration.id
                assert before.tables == self.world.tables
            return
        assert isinstance(outcome, Registered)
        assert before.is_verified(normalise_email(email).key) == outcome.email_verified_elsewhere
        self.tokens.append(outcome.token)
        if kept:
            assert [1, 1, 1, 1] == [len(self.world.of(table, outcome.registration.id)) for table in list(TABLES)[1:]]
            if key:
                self.submitted[key] = ((email, name), outcome.registration.id)
            if next_step == "the link":
                self.follow_link("autocommit", 0, ttl)
            if next_step == "another link":
                self.issue("autocommit", 0, False, timedelta(0), 2, token_ttl, PEPPERS)  # noqa: FBT003 drawn by other rules
                self.issue("autocommit", 0, False, timedelta(0), 2, token_ttl, PEPPERS)  # noqa: FBT003 drawn by other rules
                self.follow_link("autocommit", 1, ttl)
            if next_step == "a code":
                self.issue("autocommit", 0, True, timedelta(0), 50, token_ttl, PEPPERS)  # noqa: FBT003 drawn by other rules
                self.type_code("autocommit", 0, "wrong", ttl)
                self.type_code("in a transaction", 0, "newest", ttl)

    @precondition(Steps.has_registrations)
    @rule(
        mode=MODES,
        position=POSITIONS,
        code=st.booleans(),
        min_gap=st.sampled_from([timedelta(0), timedelta(0), timedelta(minutes=1)]),
        max_issued=st.sampled_from([2, 4, 50]),
        ttl=SPANS,
        peppers=st.sampled_from([PEPPERS, OLDER_PEPPERS]),
    )
    def issue(  # noqa: PLR0917 the choices of a service
        self,
        mode: str,
        position: int,
        code: bool,  # noqa: FBT001 drawn
        min_gap: timedelta,
        max_issued: int,
        ttl: timedelta,
        peppers: Peppers,
    ) -> None:
        """Request another token or a code."""
        identity = self.pick(position)

        def call(session: Session) -> Issued | Throttled | NotPending:
            verification = VerificationRepository(session, peppers=peppers)
            method = verification.issue_code if code else verification.issue_token
            return method(identity, min_gap=min_gap, max_issued=max_issued, ttl=ttl)

        outcome, before, kept = self.perform(mode, call)
        row = before.registrations[identity]
        due = row["token_issued_at"] and row["token_issued_at"] + min_gap
        if before.status(identity) != Status.PENDING:
            assert NotPending(before.status(identity)) == outcome
        elif row["tokens_issued"] >= max_issued:
            assert Throttled(None) == outcome
        elif min_gap and due and due > before.now:
            assert Throttled(due) == outcome
        else:
            assert isinstance(outcome, Issued)
            if code and kept:
                self.codes[identity].append(outcome.secret)
            if not code:
                self.tokens.append(outcome.secret)

    @precondition(lambda self: self.tokens)
    @rule(mode=MODES, which=POSITIONS, ttl=SPANS)
    def follow_link(self, mode: str, which: int, ttl: timedelta) -> None:
        """Use a token that was issued at any time, perhaps in a transaction that was rolled back."""
        secret = self.tokens[-1 - which % len(self.tokens)]
        peeked, before, _ = self.perform(
            "autocommit", lambda session: VerificationRepository(session).peek_token(secret)
        )
        assert before.tables == self.world.tables
        outcome, before, kept = self.perform(
            mode, lambda session: VerificationRepository(session).verify_by_token(secret, ttl=ttl)
        )
        token = next((t for t in before.verification_tokens.values() if t["secret_hash"] == hash_token(secret)), None)
        assert expected_of_link(before, token) is type(outcome)
        assert type(peeked) is (TokenUsable if isinstance(outcome, Verified) else type(outcome))
        if kept and isinstance(outcome, Verified):
            assert Status.VERIFIED == outcome.registration.status

    @precondition(Steps.has_registrations)
    @rule(mode=MODES, position=POSITIONS, which=st.sampled_from(["newest", "oldest", "wrong"]), ttl=SPANS)
    def type_code(self, mode: str, position: int, which: str, ttl: timedelta) -> None:
        """Use a code: the newest, the oldest, or a wrong one."""
        identity = self.pick(position)
        known = self.codes[identity]
        wrong = next(code for code in ("000000", "111111", "222222") if code not in known[-2:])
        code = wrong if which == "wrong" or not known else known[-1] if which == "newest" else known[0]
        outcome, before, kept = self.perform(
            mode,
            lambda session: VerificationRepository(session, peppers=PEPPERS).verify_by_code(
                identity, code, max_attempts=MAX_ATTEMPTS, ttl=ttl
            ),
        )
        expected = expected_of_code(before, identity, code)
        assert expected == (outcome if isinstance(outcome, WrongCode) else type(outcome))
        if kept and isinstance(outcome, WrongCode):
            attempts = [t["attempts"] for t in self.world.of("verification_tokens", identity) if not t["replaced_at"]]
            assert MAX_ATTEMPTS - outcome.left in attempts, "the attempt was not counted"
