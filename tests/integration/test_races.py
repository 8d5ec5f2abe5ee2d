"""What must hold when many do the same at the same moment: threads behind a barrier, round after round."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest
from sqlalchemy import text
from support import TERMS, Rows, SignUp

from registration_persistence import (
    AlreadyVerified,
    Cancelled,
    Database,
    DatabaseSettings,
    EmailTaken,
    IllegalTransition,
    Registered,
    Registration,
    RegistrationRepository,
    Replayed,
    StaleVersion,
    TokenExpired,
    Verified,
)

WIDTH = 8
ROUNDS = 15
T = TypeVar("T")


@pytest.fixture
def wide(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database with a connection for each thread."""
    made = Database(dataclasses.replace(database_settings, pool_size=WIDTH + 1))
    yield made
    made.dispose()


def together(database: Database, *calls: Callable[[RegistrationRepository], T]) -> list[T | Exception]:
    """Make *calls* at the same moment, each in a transaction of its own, and return what each gave or raised."""
    barrier = Barrier(len(calls))

    def make(call: Callable[[RegistrationRepository], T]) -> T | Exception:
        try:
            with database.session() as session:
                session.connection()
                barrier.wait(20)
                return call(RegistrationRepository(session))
        except Exception as error:  # noqa: BLE001 the outcome of a race, which the test judges
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


def kinds(outcomes: Sequence[object]) -> Counter[type]:
    """How many outcomes there are of each class."""
    return Counter(type(outcome) for outcome in outcomes)


def verification(token: str) -> Callable[[RegistrationRepository], object]:
    """The call that verifies *token*."""
    return lambda registrations: registrations.verify_by_token(token)


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

        outcomes = together(wide, *[submit] * WIDTH)

        assert {Registered: 1, Replayed: WIDTH - 1} == kinds(outcomes)
        assert len({outcome.registration.id for outcome in outcomes if not isinstance(outcome, Exception)}) == 1
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM registration_consents")
    assert_trails_are_whole(rows)


def test_the_same_token_eight_times(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One proves the mailbox, the others hear that it is proven."""
    for number in range(ROUNDS):
        secret = sign_up(f"ada{number}@example.com").secret

        outcomes = together(wide, *[verification(secret)] * WIDTH)

        assert {Verified: 1, AlreadyVerified: WIDTH - 1} == kinds(outcomes)
    assert_trails_are_whole(rows)


def test_one_mailbox_proven_by_eight(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of eight registrations of a mailbox wins; the others hear that it is taken and keep their tokens."""
    for number in range(ROUNDS):
        secrets = [sign_up(f"ada{number}@example.com").secret for _ in range(WIDTH)]

        outcomes = together(wide, *map(verification, secrets))

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

        seen += kinds(together(wide, verification(made.secret), cancel))

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
        together(wide, verification(made.secret))

        def activate(registrations: RegistrationRepository, made: Registered = made) -> Registration:
            return registrations.activate(made.registration.id, expected_version=2)

        assert {Registration: 1, StaleVersion: WIDTH - 1} == kinds(together(wide, *[activate] * WIDTH))
    assert_trails_are_whole(rows)


def test_activate_against_cancel(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of the two happens; the other is refused."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        together(wide, verification(made.secret))

        def activate(registrations: RegistrationRepository, made: Registered = made) -> object:
            return registrations.activate(made.registration.id)

        def cancel(registrations: RegistrationRepository, made: Registered = made) -> object:
            return registrations.cancel(made.registration.id)

        outcomes = kinds(together(wide, activate, cancel))
        assert outcomes in ({Registration: 1, IllegalTransition: 1}, {Cancelled: 1, IllegalTransition: 1})
    assert_trails_are_whole(rows)


def test_an_overdue_mailbox_proven_by_eight(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One of eight gets the mailbox of somebody who has run out, who is expired once."""
    for number in range(ROUNDS):
        address = f"ada{number}@example.com"
        together(wide, verification(sign_up(address).secret))
        with wide.session() as session:
            session.execute(
                text("UPDATE registrations SET expires_at = now() - interval '1 s' WHERE status = 'verified'")
            )
        secrets = [sign_up(address).secret for _ in range(WIDTH)]

        assert {Verified: 1, EmailTaken: WIDTH - 1} == kinds(together(wide, *map(verification, secrets)))
        with wide.session() as session:
            session.execute(
                text("UPDATE registrations SET expires_at = now() + interval '1 h' WHERE status = 'verified'")
            )
    assert [{"n": ROUNDS}] == rows("SELECT count(*) AS n FROM registration_events WHERE type = 'expired'")
    assert_trails_are_whole(rows)
