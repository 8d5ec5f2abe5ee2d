"""What must hold when many do the same at the same moment: threads behind a barrier, round after round."""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import TypeVar
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TABLES, TERMS, Change, Rows, SignUp

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    DatabaseSettings,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    Retention,
    VerificationRepository,
)
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    IllegalTransition,
    RegistrationNotFound,
    StaleVersion,
    TransactionConflict,
)
from registration_persistence.outcomes import (
    AlreadyVerified,
    Cancelled,
    EmailTaken,
    Erased,
    Issued,
    LockedOut,
    NotPending,
    OutboxMessage,
    Registered,
    Replayed,
    Throttled,
    TokenExpired,
    TokenUnknown,
    TokenUsable,
    Verified,
    WrongCode,
)

WIDTH = 8
WIDEST = 20
ROUNDS = 15
PEPPERS = Peppers({1: bytes(range(32))})
T = TypeVar("T")


@pytest.fixture
def wide(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database with a connection for each thread."""
    made = Database(dataclasses.replace(database_settings, pool_size=WIDEST + 1))
    yield made
    made.dispose()


def in_sessions(
    database: Database,
    *calls: Callable[[Session], T],
    autocommit: bool = False,
    begin: Callable[[Session], object] = Session.connection,
) -> list[T | Exception]:
    """Make *calls* at the same moment, each in a session of its own, and return what each gave or raised."""
    barrier = Barrier(len(calls))

    def make(call: Callable[[Session], T]) -> T | Exception:
        try:
            with database.session(autocommit=autocommit) as session:
                begin(session)
                barrier.wait(20)
                return call(session)
        except Exception as error:  # noqa: BLE001 the outcome of a race, which the test judges
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


def of_registrations(call: Callable[[RegistrationRepository], T]) -> Callable[[Session], T]:
    """*call* as one that takes a session."""
    return lambda session: call(RegistrationRepository(session))


def of_verification(call: Callable[[VerificationRepository], T]) -> Callable[[Session], T]:
    """*call* as one that takes a session."""
    return lambda session: call(VerificationRepository(session, peppers=PEPPERS))


def in_a_row(
    database: Database, first: Callable[[Session], object], second: Callable[[Session], T]
) -> tuple[object, T | Exception]:
    """Make *first*, and commit it when *second* has begun in another transaction and waits for it."""
    with ThreadPoolExecutor(1) as thread:
        with database.session() as session:
            outcome = first(session)
            late = thread.submit(lambda: in_sessions(database, second)[0])
            while not session.scalar(text(SOMEBODY_WAITS)):
                assert not late.done(), "nothing had to be waited for"
        return outcome, late.result()


SOMEBODY_WAITS = """
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))
"""


def kinds(outcomes: Sequence[object]) -> Counter[type]:
    """How many outcomes there are of each class."""
    return Counter(type(outcome) for outcome in outcomes)


def verifying(token: str) -> Callable[[Session], object]:
    """The call that verifies *token*."""
    return of_verification(lambda verification: verification.verify_by_token(token))


def resend(registration_id: UUID, min_gap: timedelta = timedelta(0)) -> Callable[[Session], object]:
    """The call that asks for another token."""
    return lambda session: VerificationRepository(session).issue_token(
        registration_id, min_gap=min_gap, max_issued=1000
    )


def typing_code(registration_id: UUID, code: str) -> Callable[[Session], object]:
    """The call that types *code*."""
    return of_verification(lambda verification: verification.verify_by_code(registration_id, code))


def cancellation(registration_id: UUID) -> Callable[[Session], object]:
    """The call that cancels."""
    return lambda session: RegistrationRepository(session).cancel(registration_id)


def erasure(registration_id: UUID) -> Callable[[Session], object]:
    """The call that erases."""
    return lambda session: PrivacyRepository(session).erase(registration_id)


def expiry(session: Session) -> int:
    """The call that expires what is overdue."""
    return Retention(session).expire_due()


def purge(session: Session) -> int:
    """The call that deletes what is closed."""
    return Retention(session).purge_closed(datetime.now(UTC) + timedelta(hours=1))


def code_for(database: Database, registration_id: UUID) -> str:
    """A code that has just been issued."""
    with database.session() as session:
        issued = VerificationRepository(session, peppers=PEPPERS).issue_code(registration_id, min_gap=timedelta(0))
    assert isinstance(issued, Issued)
    return issued.secret


def another(code: str) -> str:
    """A code that is not *code*."""
    return f"{(int(code) + 1) % 10**6:06}"


LIVE_TOKENS = """
SELECT registration_id, count(*) AS n FROM verification_tokens
WHERE used_at IS NULL AND replaced_at IS NULL GROUP BY registration_id
"""
TORN = """
SELECT r.id FROM registrations r LEFT JOIN verification_tokens t ON t.registration_id = r.id AND t.used_at IS NOT NULL
WHERE (r.verified_at IS NULL) <> (t.id IS NULL) OR (r.status = 'verified') <> (r.verified_at IS NOT NULL)
"""
"""Registrations that a token has not verified and that are, or the other way round."""


def assert_trails_are_whole(rows: Rows) -> None:
    """Each registration has the events 1 to its version, without gap or repeat, and as many messages as events."""
    assert [] == rows(
        "SELECT r.id FROM registrations r"
        " LEFT JOIN (SELECT registration_id, count(*) AS n, max(seq) AS last, count(DISTINCT seq) AS different"
        "            FROM registration_events GROUP BY registration_id) e ON e.registration_id = r.id"
        " WHERE (e.n, e.last, e.different) IS DISTINCT FROM (r.version, r.version, r.version)"
    )
    assert rows("SELECT count(*) AS n FROM registration_events") == rows("SELECT count(*) AS n FROM outbox")


def test_the_same_submission_eight_times(wide: Database, rows: Rows) -> None:
    """One is registered, seven are replayed, all get the same id."""
    for number in range(ROUNDS):

        def submit(registrations: RegistrationRepository, number: int = number) -> Registered | Replayed:
            return registrations.register("ada@example.com", consents=[TERMS], idempotency_key=f"key {number}")

        outcomes = in_sessions(wide, *[of_registrations(submit)] * WIDTH)

        assert {Registered: 1, Replayed: WIDTH - 1} == kinds(outcomes)
        assert len({outcome.registration.id for outcome in outcomes if not isinstance(outcome, Exception)}) == 1
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM registration_consents")
    assert_trails_are_whole(rows)


def test_the_same_token_eight_times(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One proves the mailbox, the others hear that it is proven."""
    for number in range(ROUNDS):
        secret = sign_up(f"ada{number}@example.com").token

        outcomes = in_sessions(wide, *[verifying(secret)] * WIDTH)

        assert {Verified: 1, AlreadyVerified: WIDTH - 1} == kinds(outcomes)
    assert_trails_are_whole(rows)


def test_one_mailbox_proven_by_eight(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of eight registrations of a mailbox wins; the others hear that it is taken and keep their tokens."""
    for number in range(ROUNDS):
        secrets = [sign_up(f"ada{number}@example.com").token for _ in range(WIDTH)]

        outcomes = in_sessions(wide, *map(verifying, secrets))

        assert {Verified: 1, EmailTaken: WIDTH - 1} == kinds(outcomes)
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens WHERE used_at IS NOT NULL")
    assert_trails_are_whole(rows)


def test_verify_against_cancel(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """Whoever comes first, no token is used up without proving the mailbox."""
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
    assert_trails_are_whole(rows)


def test_one_activation_of_eight(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """With the version that all have read, one activates and the others hear that they are late."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        in_sessions(wide, verifying(made.token))

        def activate(registrations: RegistrationRepository, made: Registered = made) -> Registration:
            return registrations.activate(made.registration.id, expected_version=2)

        assert {Registration: 1, StaleVersion: WIDTH - 1} == kinds(
            in_sessions(wide, *[of_registrations(activate)] * WIDTH)
        )
    assert_trails_are_whole(rows)


def test_activate_against_cancel(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of the two happens; the other is refused."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        in_sessions(wide, verifying(made.token))

        def activate(registrations: RegistrationRepository, made: Registered = made) -> object:
            return registrations.activate(made.registration.id)

        def cancel(registrations: RegistrationRepository, made: Registered = made) -> object:
            return registrations.cancel(made.registration.id)

        outcomes = kinds(in_sessions(wide, of_registrations(activate), of_registrations(cancel)))
        assert outcomes in ({Registration: 1, IllegalTransition: 1}, {Cancelled: 1, IllegalTransition: 1})
    assert_trails_are_whole(rows)


def test_an_overdue_mailbox_proven_by_eight(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of eight gets the mailbox of somebody who has run out, who is expired once."""
    for number in range(ROUNDS):
        address = f"ada{number}@example.com"
        in_sessions(wide, verifying(sign_up(address).token))
        with wide.session() as session:
            session.execute(
                text("UPDATE registrations SET expires_at = now() - interval '1 s' WHERE status = 'verified'")
            )
        secrets = [sign_up(address).token for _ in range(WIDTH)]

        assert {Verified: 1, EmailTaken: WIDTH - 1} == kinds(in_sessions(wide, *map(verifying, secrets)))
        with wide.session() as session:
            session.execute(
                text("UPDATE registrations SET expires_at = now() + interval '1 h' WHERE status = 'verified'")
            )
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM registration_events WHERE type = 'expired'")
    assert_trails_are_whole(rows)


def test_one_resend_of_eight(wide: Database, sign_up: SignUp, change: Change, rows: Rows) -> None:
    """One of eight who ask at once gets a token, which takes the place of the one before; the others are throttled."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        change("UPDATE registrations SET token_issued_at = token_issued_at - interval '1 h'")

        outcomes = in_sessions(wide, *[resend(made.registration.id, timedelta(minutes=1))] * WIDTH)

        assert {Issued: 1, Throttled: WIDTH - 1} == kinds(outcomes)
        (secret,) = (outcome.secret for outcome in outcomes if isinstance(outcome, Issued))
        with wide.session() as session:
            verification = VerificationRepository(session)
            assert isinstance(verification.peek_token(secret), TokenUsable)
            assert isinstance(verification.peek_token(made.token), TokenExpired)
    assert [1] * ROUNDS == [row["n"] for row in rows(LIVE_TOKENS)]
    assert [{"n": 2 * ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert_trails_are_whole(rows)


@pytest.mark.parametrize("autocommit", [True, False])
def test_codes_for_eight(wide: Database, sign_up: SignUp, rows: Rows, *, autocommit: bool) -> None:
    """However many codes are issued at once, all are counted and one can be used."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        def ask(verification: VerificationRepository, ada: UUID = ada) -> object:
            return verification.issue_code(ada, min_gap=timedelta(0), max_issued=1000)

        outcomes = in_sessions(wide, *[of_verification(ask)] * WIDTH, autocommit=autocommit)

        assert {Issued, TransactionConflict} >= set(kinds(outcomes))
        hashes = [PEPPERS.hashes(ada, o.secret)[1] for o in outcomes if isinstance(o, Issued)]
        of_ada = f"FROM verification_tokens WHERE registration_id = '{ada}'"
        assert [{"n": 1 + len(hashes)}] == rows(f"SELECT tokens_issued AS n FROM registrations WHERE id = '{ada}'")
        assert [{"n": 1 + len(hashes)}] == rows(f"SELECT count(*) AS n {of_ada}")
        (live,) = rows(f"SELECT secret_hash {of_ada} AND used_at IS NULL AND replaced_at IS NULL")
        assert live["secret_hash"] in hashes
    assert_trails_are_whole(rows)


def test_twenty_wrong_codes(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """Five of twenty wrong codes are judged, each with one attempt less, and then not even the right one counts."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id
        code = code_for(wide, ada)

        outcomes = in_sessions(wide, *[typing_code(ada, another(code))] * WIDEST)

        judged = [WrongCode(left) for left in range(5)]
        assert Counter([*judged, *[LockedOut()] * (WIDEST - 5)]) == Counter(outcomes)
        assert [LockedOut()] == in_sessions(wide, typing_code(ada, code))
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens WHERE used_at IS NOT NULL")
    assert_trails_are_whole(rows)


def test_the_right_code_eight_times(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One proves the mailbox, the others hear that it is proven."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        outcomes = in_sessions(wide, *[typing_code(ada, code_for(wide, ada))] * WIDTH)

        assert {Verified: 1, AlreadyVerified: WIDTH - 1} == kinds(outcomes)
    assert [] == rows(TORN)
    assert_trails_are_whole(rows)


def test_verify_against_resend(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """Whoever comes first, no token is left that could be used after the mailbox was proven."""
    for number in range(2 * ROUNDS):
        made = sign_up(f"ada{number}@example.com")

        outcomes = kinds(in_sessions(wide, verifying(made.token), resend(made.registration.id)))

        assert outcomes in ({Verified: 1, NotPending: 1}, {TokenExpired: 1, Issued: 1})
    assert [] == rows(TORN)
    assert [] == rows(
        "SELECT t.id FROM verification_tokens t JOIN registrations r ON r.id = t.registration_id"
        " WHERE r.status = 'verified' AND t.used_at IS NULL"
    )
    assert_trails_are_whole(rows)


def test_verify_against_erase(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """Whoever comes first, all tokens are gone, and the trail tells whether the mailbox was proven before."""
    seen: Counter[type] = Counter()
    for number in range(2 * ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        verify = verifying(made.token)

        seen += kinds(in_sessions(wide, verify, erasure(made.registration.id)))

    assert {Verified, TokenUnknown, TokenExpired, Erased} >= set(seen)
    assert seen[Erased] == 2 * ROUNDS
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert [{"n": seen[Verified]}] == rows("SELECT count(*) AS n FROM registrations WHERE verified_at IS NOT NULL")
    assert [{"n": seen[Verified]}] == rows("SELECT count(*) AS n FROM registration_events WHERE type = 'verified'")
    assert_trails_are_whole(rows)


@pytest.mark.parametrize("autocommit", [True, False])
def test_resend_against_erase(wide: Database, sign_up: SignUp, rows: Rows, *, autocommit: bool) -> None:
    """Whoever comes first, no token is left of a person who was erased."""
    seen: Counter[type] = Counter()
    for number in range(12 * ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        seen += kinds(in_sessions(wide, resend(ada), erasure(ada), resend(ada), autocommit=autocommit))

    assert {Issued, NotPending, Erased} >= set(seen)
    assert seen[Erased] == 12 * ROUNDS
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert_trails_are_whole(rows)


def test_an_erasure_that_waits_for_a_resend(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """The token that was issued while the erasure waited is erased with the others."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        outcomes = in_a_row(wide, resend(ada), erasure(ada))

        assert {Issued: 1, Erased: 1} == kinds(outcomes)
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert_trails_are_whole(rows)


def test_a_resend_that_waits_for_a_resend(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """The token that was issued while another was waited for takes its place."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        outcomes = in_a_row(wide, resend(ada), resend(ada))

        assert {Issued: 2} == kinds(outcomes)
    assert [1] * ROUNDS == [row["n"] for row in rows(LIVE_TOKENS)]


def test_a_resend_that_waits_for_an_erasure_or_a_purge(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """It finds that there is nobody to send a token to."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id
        eve = sign_up(f"eve{number}@example.com").registration.id
        in_sessions(wide, cancellation(eve))

        after_erasure = in_a_row(wide, erasure(ada), resend(ada))
        after_purge = in_a_row(wide, purge, resend(eve))

        assert {Erased: 1, NotPending: 1} == kinds(after_erasure)
        assert {int: 1, RegistrationNotFound: 1} == kinds(after_purge)
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens")


def test_purge_against_resend(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """A resend at the moment of cancellation and purge succeeds or says why not, and nothing is left behind."""
    seen: Counter[type] = Counter()
    for number in range(2 * ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id
        again = resend(ada)

        seen += kinds(
            in_sessions(wide, again, cancellation(ada), again, purge, again, purge, again, purge, autocommit=True)
        )

    assert {Issued, NotPending, RegistrationNotFound, Cancelled, int} >= set(seen)
    assert seen[Cancelled] == 2 * ROUNDS
    with wide.session() as session:
        purge(session)
    for table in ("registrations", "verification_tokens", "registration_consents"):
        assert [{"n": 0}] == rows(f"SELECT count(*) AS n FROM {table}")
    assert_trails_are_whole(rows)


def test_sweeps_pass_by_what_somebody_is_at(wide: Database, sign_up: SignUp, change: Change, rows: Rows) -> None:
    """What another transaction is about to cancel or to erase is neither waited for, nor expired, nor deleted."""
    overdue, closed = (sign_up(f"{name}@example.com").registration.id for name in ("ada", "eve"))
    in_sessions(wide, cancellation(closed))
    change("UPDATE registrations SET expires_at = now() WHERE status = 'pending'")
    change("UPDATE verification_tokens SET created_at = '2020-01-01', expires_at = '2020-01-02'")

    with wide.session() as session:
        cancellation(overdue)(session)
        erasure(closed)(session)
        tokens = in_sessions(wide, lambda other: Retention(other).purge_tokens(datetime.now(UTC)))
        assert [[0], [0], [1]] == [in_sessions(wide, expiry), in_sessions(wide, purge), tokens]

    assert [{"status": "cancelled"}, {"status": "erased"}] == rows("SELECT status FROM registrations ORDER BY status")
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert_trails_are_whole(rows)


ENDS_SOON = "UPDATE registrations SET expires_at = clock_timestamp() + {number} * interval '0.5 ms' WHERE id = '{id}'"


def test_verify_by_code_against_expiry(wide: Database, sign_up: SignUp, change: Change, rows: Rows) -> None:
    """At the moment that the time is over, the mailbox is proven or the registration expires, and never both."""
    seen: Counter[type] = Counter()
    for number in range(2 * ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id
        prove = typing_code(ada, code_for(wide, ada))
        change(ENDS_SOON.format(number=number, id=ada))

        seen += kinds(in_sessions(wide, prove, expiry, autocommit=True))

    assert_verified_or_expired(wide, rows, seen)


def test_verify_against_expiry(wide: Database, sign_up: SignUp, change: Change, rows: Rows) -> None:
    """At the moment that the time is over, the link works or the registration expires, and never both."""
    seen: Counter[type] = Counter()
    for number in range(2 * ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        change(ENDS_SOON.format(number=number, id=made.registration.id))

        seen += kinds(in_sessions(wide, verifying(made.token), expiry, expiry, autocommit=True))

    assert_verified_or_expired(wide, rows, seen)


def assert_verified_or_expired(database: Database, rows: Rows, seen: Counter[type]) -> None:
    """Who heard that the mailbox is proven is verified, and the others are expired, once, with their token unused."""
    assert {Verified, TokenExpired, int} >= set(seen)
    with database.session() as session:
        expiry(session)
    found = {row["status"]: row["n"] for row in rows("SELECT status, count(*) AS n FROM registrations GROUP BY status")}
    assert Counter(verified=seen[Verified], expired=seen[TokenExpired]) == Counter(found)
    assert [] == rows(TORN)
    assert_trails_are_whole(rows)


def test_one_profile_of_eight(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """With the version that all have read, one changes the profile and the others hear that they are late."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        def name(value: int, ada: UUID = ada) -> Callable[[RegistrationRepository], Registration]:
            return lambda registrations: registrations.update_profile(ada, {"name": value}, expected_version=1)

        outcomes = in_sessions(wide, *map(of_registrations, map(name, range(WIDTH))))

        assert {Registration: 1, StaleVersion: WIDTH - 1} == kinds(outcomes)
        (winner,) = (position for position, o in enumerate(outcomes) if isinstance(o, Registration))
        assert [{"profile": {"name": winner}}] == rows(f"SELECT profile FROM registrations WHERE id = '{ada}'")
    assert_trails_are_whole(rows)


def test_consents_of_eight(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """All decisions that arrive at once are recorded in one order, and the last is the one that counts."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        def decide(position: int, ada: UUID = ada) -> Callable[[Session], Registration]:
            consent = Consent("newsletter", str(position), granted=position % 2 == 0)
            return lambda session: ConsentRepository(session).record(ada, [consent])

        outcomes = in_sessions(wide, *map(decide, range(WIDTH)))

        versions = {o.version: str(position) for position, o in enumerate(outcomes) if isinstance(o, Registration)}
        with wide.session() as session:
            consents = ConsentRepository(session)
            terms, *history = consents.history(ada)
            assert {"terms": terms, "newsletter": history[-1]} == {c.purpose: c for c in consents.current(ada)}
        assert list(range(2, WIDTH + 2)) == [consent.seq for consent in history]
        assert versions == {consent.seq: consent.document_version for consent in history}
    assert_trails_are_whole(rows)


MESSAGES = """
INSERT INTO outbox (event_id, registration_id, type, payload)
SELECT gen_random_uuid(), gen_random_uuid(), 'registration.registered', '{{"seq": 1}}'
FROM generate_series(1, {number})
"""


def test_six_workers_claim(wide: Database, change: Change) -> None:
    """Six workers that claim until nothing is left get each message once."""
    number = 360

    def work(session: Session) -> list[OutboxMessage]:
        claimed: list[OutboxMessage] = []
        while batch := OutboxRepository(session).claim(7):
            claimed += batch
        return claimed

    for _ in range(3):
        change(MESSAGES.format(number=number))

        outcomes = in_sessions(wide, *[work] * 6, autocommit=True)

        claimed = [message for outcome in outcomes if isinstance(outcome, list) for message in outcome]
        assert [1] * number == [message.attempts for message in claimed]
        assert number == len({message.event_id for message in claimed})
        with wide.session() as session:
            assert number == OutboxRepository(session).ack(claimed)


def test_a_lease_that_is_over(wide: Database, change: Change, rows: Rows) -> None:
    """Another gets the message, and what the first says of it late does no harm."""
    change(MESSAGES.format(number=1))
    with wide.session(autocommit=True) as session:
        outbox = OutboxRepository(session)
        (first,) = outbox.claim()
        assert () == outbox.claim()
        change("UPDATE outbox SET available_at = now() - interval '1 s'")
        (second,) = outbox.claim()
        before = rows("SELECT * FROM outbox")

        assert (first.event_id, 1, 2) == (second.event_id, first.attempts, second.attempts)
        assert (False, False, 0) == (
            outbox.retry(first, "late", timedelta(0)),
            outbox.bury(first, "late"),
            outbox.release([first]),
        )
        assert before == rows("SELECT * FROM outbox")
        assert (1, 0, False) == (outbox.ack([first]), outbox.ack([second]), outbox.retry(second, "late", timedelta(0)))
    assert [] == rows("SELECT * FROM outbox")


def submission(number: int) -> Callable[[Session], Registered | Replayed]:
    """The call that registers, with a key of its own."""
    return lambda session: RegistrationRepository(session).register(
        f"ada{number}@example.com", consents=[TERMS], idempotency_key=f"key {number}"
    )


def kill(database: Database, pid: object) -> None:
    """End a connection from the server's side."""
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def killed(
    database: Database, call: Callable[[Session], T], *, autocommit: bool, seconds: float
) -> list[T | Exception]:
    """Make *call*, and kill its connection that long after it began."""
    barrier, pids = Barrier(2), list[object]()

    def begin(session: Session) -> None:
        pids.append(session.scalar(text("SELECT pg_backend_pid()")))
        barrier.wait(20)

    with database.engine.connect() as killer, ThreadPoolExecutor(1) as thread:
        killer.execute(text("SELECT 1"))
        attempt = thread.submit(lambda: in_sessions(database, call, autocommit=autocommit, begin=begin))
        barrier.wait(20)
        time.sleep(seconds)
        killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pids[0]})
        return attempt.result()


def assert_one_of_everything(rows: Rows, number: int) -> None:
    """There are *number* registrations, each with one token, one consent, one event and one message."""
    for table in TABLES:
        assert [{"n": number}] == rows(f"SELECT count(*) AS n FROM {table}")
    assert_trails_are_whole(rows)


@pytest.mark.parametrize("moment", ["before the statement", "before COMMIT"])
def test_killed_before_commit(wide: Database, rows: Rows, moment: str) -> None:
    """Nothing is kept of a sign-up whose connection is killed, so the one that repeats it is the first."""
    for number in range(ROUNDS):
        submit = submission(number)
        with pytest.raises((ConnectionLost, CommitOutcomeUnknown)), wide.session() as session:
            pid = session.scalar(text("SELECT pg_backend_pid()"))
            if moment == "before the statement":
                kill(wide, pid)
            submit(session)
            kill(wide, pid)

        assert {Registered: 1} == kinds(in_sessions(wide, submit))
    assert_one_of_everything(rows, ROUNDS)


@pytest.mark.parametrize("autocommit", [True, False])
def test_killed_at_any_moment(wide: Database, rows: Rows, *, autocommit: bool) -> None:
    """Whenever a connection is killed, repeating the sign-up with its key leaves one of everything."""
    seen: Counter[type] = Counter()
    for number in range(6 * ROUNDS):
        seen += kinds(killed(wide, submission(number), autocommit=autocommit, seconds=number / 20_000))
        while set(last := kinds(in_sessions(wide, submission(number)))).isdisjoint({Registered, Replayed}):
            seen += last

    assert {Registered, ConnectionLost, CommitOutcomeUnknown} >= set(seen)
    assert_one_of_everything(rows, 6 * ROUNDS)


def in_one_snapshot(session: Session) -> None:
    """Begin a transaction that sees what there is now, and nothing later."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"}).execute(text("SELECT 1"))


def test_repeatable_reads(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """Under REPEATABLE READ one of eight wins as well, and the others are to repeat their unit of work."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        ada = made.registration.id
        rivals = [sign_up(f"eve{number}@example.com").token for _ in range(WIDTH)]

        def activate(registrations: RegistrationRepository, ada: UUID = ada) -> object:
            return registrations.activate(ada)

        for calls, won in (
            ([verifying(made.token)] * WIDTH, Verified),
            ([of_registrations(activate)] * WIDTH, Registration),
            ([*map(verifying, rivals)], Verified),
        ):
            outcomes = in_sessions(wide, *calls, begin=in_one_snapshot)
            assert {won: 1, TransactionConflict: WIDTH - 1} == kinds(outcomes)
    assert [{"n": 2 * ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens WHERE used_at IS NOT NULL")
    assert_trails_are_whole(rows)
