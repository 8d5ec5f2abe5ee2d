"""Concurrent sign-ups, verifications, activations and changes: threads start at a barrier, in many rounds."""

from collections import Counter
from collections.abc import Callable
from uuid import UUID

from races import (
    ROUNDS,
    THREADS,
    assert_events_are_complete,
    in_a_row,
    in_sessions,
    kinds,
    of_registrations,
    verifying,
)
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TERMS, Rows, SignUp

from registration_persistence import Consent, ConsentRepository, Database, Registration, RegistrationRepository
from registration_persistence.errors import IllegalTransition, StaleVersion, TransactionConflict
from registration_persistence.outcomes import (
    AlreadyVerified,
    Cancelled,
    EmailTaken,
    Registered,
    RegisterOutcome,
    Replayed,
    TokenExpired,
    TooManyPending,
    Verified,
)


def test_the_same_submission_eight_times(wide: Database, rows: Rows) -> None:
    """One call gets `Registered`, seven get `Replayed`, and all get the same id."""
    for number in range(ROUNDS):

        def submit(registrations: RegistrationRepository, number: int = number) -> RegisterOutcome:
            return registrations.register("ada@example.com", consents=[TERMS], idempotency_key=f"key {number}")

        outcomes = in_sessions(wide, *[of_registrations(submit)] * THREADS)

        assert {Registered: 1, Replayed: THREADS - 1} == kinds(outcomes)
        assert len({outcome.registration.id for outcome in outcomes if not isinstance(outcome, Exception)}) == 1
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM registration_consents")
    assert_events_are_complete(rows)


def test_sign_ups_beyond_the_limit_of_a_mailbox(wide: Database, rows: Rows) -> None:
    """Of eight calls at once, as many as `max_pending` are pending, in autocommit and in a transaction."""
    for number in range(ROUNDS):

        def submit(registrations: RegistrationRepository, number: int = number) -> RegisterOutcome:
            return registrations.register(f"ada{number}@example.com", max_pending=3)

        outcomes = in_sessions(wide, *[of_registrations(submit)] * THREADS, autocommit=number % 2 == 0)

        assert {Registered: 3, TooManyPending: THREADS - 3} == kinds(outcomes)
    assert [{"n": 3 * ROUNDS}] == rows("SELECT count(*) AS n FROM registrations WHERE status = 'pending'")
    assert_events_are_complete(rows)


def test_the_limits_of_two_mailboxes_do_not_wait_for_each_other(wide: Database) -> None:
    """A sign-up waits for another of its mailbox, and only for those with a limit."""
    with wide.session() as session:
        RegistrationRepository(session).register("ada@example.com", max_pending=1)
        others = in_sessions(
            wide,
            of_registrations(lambda registrations: registrations.register("eve@example.com", max_pending=1)),
            of_registrations(lambda registrations: registrations.register("ada@example.com")),
        )
    assert {Registered: 2} == kinds(others)

    _, late = in_a_row(
        wide,
        lambda session: RegistrationRepository(session).register("bob@example.com", max_pending=1),
        of_registrations(lambda registrations: registrations.register("bob@example.com", max_pending=1)),
    )
    assert isinstance(late, TooManyPending)


def test_the_same_token_eight_times(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One call verifies the mailbox, and the others get `AlreadyVerified`."""
    for number in range(ROUNDS):
        secret = sign_up(f"ada{number}@example.com").token

        outcomes = in_sessions(wide, *[verifying(secret)] * THREADS)

        assert {Verified: 1, AlreadyVerified: THREADS - 1} == kinds(outcomes)
    assert_events_are_complete(rows)


def test_eight_registrations_of_one_mailbox_are_verified(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of them is verified; the others get `EmailTaken` and keep their tokens."""
    for number in range(ROUNDS):
        secrets = [sign_up(f"ada{number}@example.com").token for _ in range(THREADS)]

        outcomes = in_sessions(wide, *map(verifying, secrets))

        assert {Verified: 1, EmailTaken: THREADS - 1} == kinds(outcomes)
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens WHERE used_at IS NOT NULL")
    assert_events_are_complete(rows)


def test_verify_against_cancel(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """In either order, a token is used up only if it verifies the mailbox."""
    seen: Counter[type] = Counter()
    for number in range(2 * ROUNDS):
        made = sign_up(f"ada{number}@example.com")

        def cancel(registrations: RegistrationRepository, made: Registered = made) -> object:
            return registrations.cancel(made.registration.id)

        seen += kinds(in_sessions(wide, verifying(made.token), of_registrations(cancel)))

    assert {Verified, TokenExpired, Cancelled} >= set(seen)
    assert seen[Cancelled] == 2 * ROUNDS
    assert [] == rows(
        "SELECT r.id FROM registrations r JOIN verification_tokens t ON t.registration_id = r.id"
        " WHERE (t.used_at IS NULL) <> (r.verified_at IS NULL)"
    )
    assert_events_are_complete(rows)


def test_eight_activations_of_the_same_version(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One call activates the registration, and the others get `StaleVersion`."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        in_sessions(wide, verifying(made.token))

        def activate(registrations: RegistrationRepository, made: Registered = made) -> Registration:
            return registrations.activate(made.registration.id, expected_version=2)

        assert {Registration: 1, StaleVersion: THREADS - 1} == kinds(
            in_sessions(wide, *[of_registrations(activate)] * THREADS)
        )
    assert_events_are_complete(rows)


def test_activate_against_cancel(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of the two succeeds, and the other gets `IllegalTransition`."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        in_sessions(wide, verifying(made.token))

        def activate(registrations: RegistrationRepository, made: Registered = made) -> object:
            return registrations.activate(made.registration.id)

        def cancel(registrations: RegistrationRepository, made: Registered = made) -> object:
            return registrations.cancel(made.registration.id)

        outcomes = kinds(in_sessions(wide, of_registrations(activate), of_registrations(cancel)))
        assert outcomes in ({Registration: 1, IllegalTransition: 1}, {Cancelled: 1, IllegalTransition: 1})
    assert_events_are_complete(rows)


def test_eight_registrations_take_over_a_lapsed_mailbox(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of them is verified, and the lapsed registration is expired once."""
    for number in range(ROUNDS):
        address = f"ada{number}@example.com"
        in_sessions(wide, verifying(sign_up(address).token))
        with wide.session() as session:
            session.execute(
                text("UPDATE registrations SET expires_at = now() - interval '1 s' WHERE status = 'verified'")
            )
        secrets = [sign_up(address).token for _ in range(THREADS)]

        assert {Verified: 1, EmailTaken: THREADS - 1} == kinds(in_sessions(wide, *map(verifying, secrets)))
        with wide.session() as session:
            session.execute(
                text("UPDATE registrations SET expires_at = now() + interval '1 h' WHERE status = 'verified'")
            )
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM registration_events WHERE type = 'expired'")
    assert_events_are_complete(rows)


def test_eight_profiles_of_the_same_version(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One call changes the profile, and the others get `StaleVersion`."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        def name(value: int, ada: UUID = ada) -> Callable[[RegistrationRepository], Registration]:
            return lambda registrations: registrations.update_profile(ada, {"name": value}, expected_version=1)

        outcomes = in_sessions(wide, *map(of_registrations, map(name, range(THREADS))))

        assert {Registration: 1, StaleVersion: THREADS - 1} == kinds(outcomes)
        (winner,) = (position for position, o in enumerate(outcomes) if isinstance(o, Registration))
        assert [{"profile": {"name": winner}}] == rows(f"SELECT profile FROM registrations WHERE id = '{ada}'")
    assert_events_are_complete(rows)


def test_eight_concurrent_consents(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """All decisions are recorded in one order, and the last one is current."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        def decide(position: int, ada: UUID = ada) -> Callable[[Session], Registration]:
            consent = Consent("newsletter", str(position), granted=position % 2 == 0)
            return lambda session: ConsentRepository(session).record(ada, [consent])

        outcomes = in_sessions(wide, *map(decide, range(THREADS)))

        versions = {o.version: str(position) for position, o in enumerate(outcomes) if isinstance(o, Registration)}
        with wide.session() as session:
            consents = ConsentRepository(session)
            terms, *history = consents.history(ada)
            assert {"terms": terms, "newsletter": history[-1]} == {c.purpose: c for c in consents.current(ada)}
        assert list(range(2, THREADS + 2)) == [consent.seq for consent in history]
        assert versions == {consent.seq: consent.document_version for consent in history}
    assert_events_are_complete(rows)


def begin_repeatable_read(session: Session) -> None:
    """Begin a transaction in REPEATABLE READ, and take its snapshot."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"}).execute(text("SELECT 1"))


def test_repeatable_read(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """In REPEATABLE READ, too, one of eight succeeds, and the others get `TransactionConflict`."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        ada = made.registration.id
        rivals = [sign_up(f"eve{number}@example.com").token for _ in range(THREADS)]

        def activate(registrations: RegistrationRepository, ada: UUID = ada) -> object:
            return registrations.activate(ada)

        for calls, won in (
            ([verifying(made.token)] * THREADS, Verified),
            ([of_registrations(activate)] * THREADS, Registration),
            ([*map(verifying, rivals)], Verified),
        ):
            outcomes = in_sessions(wide, *calls, begin=begin_repeatable_read)
            assert {won: 1, TransactionConflict: THREADS - 1} == kinds(outcomes)
    assert [{"n": 2 * ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens WHERE used_at IS NOT NULL")
    assert_events_are_complete(rows)
