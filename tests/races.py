"""Concurrent calls, and assertions about their outcomes."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from support import Rows

from registration_persistence import (
    Database,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    VerificationRepository,
)
from registration_persistence.outcomes import Issued
from registration_persistence.sandbox import wait_until

THREADS = 8
MAX_THREADS = 20
ROUNDS = 15
PEPPERS = Peppers({1: bytes(range(32))})
T = TypeVar("T")


def in_sessions(
    database: Database,
    *calls: Callable[[Session], T],
    autocommit: bool = False,
    begin: Callable[[Session], object] = Session.connection,
) -> list[T | Exception]:
    """Make *calls* at the same moment, each in its own session, and return the result or exception of each."""
    barrier = Barrier(len(calls))

    def make(call: Callable[[Session], T]) -> T | Exception:
        try:
            with database.session(autocommit=autocommit) as session:
                begin(session)
                barrier.wait(20)
                return call(session)
        except Exception as error:  # noqa: BLE001 the test checks the exception
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


def of_registrations(call: Callable[[RegistrationRepository], T]) -> Callable[[Session], T]:
    """Return *call* as a function that takes a session."""
    return lambda session: call(RegistrationRepository(session))


def of_verification(call: Callable[[VerificationRepository], T]) -> Callable[[Session], T]:
    """Return *call* as a function that takes a session."""
    return lambda session: call(VerificationRepository(session, peppers=PEPPERS))


def in_a_row(
    database: Database, first: Callable[[Session], object], second: Callable[[Session], T]
) -> tuple[object, T | Exception]:
    """Make *first*, and commit it when *second* is waiting for it in another transaction."""
    with ThreadPoolExecutor(1) as thread:
        with database.session() as session:
            outcome = first(session)
            late = thread.submit(lambda: in_sessions(database, second)[0])
            wait_until(lambda: session.scalar(text(IS_BLOCKING)), "the second call waits for the first", interval=0)
            assert not late.done()
        return outcome, late.result()


IS_BLOCKING = """
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))
"""


def kinds(outcomes: Sequence[object]) -> Counter[type]:
    """Return the number of outcomes of each class."""
    return Counter(type(outcome) for outcome in outcomes)


def verifying(token: str) -> Callable[[Session], object]:
    """Return the call that verifies *token*."""
    return of_verification(lambda verification: verification.verify_by_token(token))


def resend(registration_id: UUID, min_gap: timedelta = timedelta(0)) -> Callable[[Session], object]:
    """Return the call that issues another token."""
    return lambda session: VerificationRepository(session).issue_token(
        registration_id, min_gap=min_gap, max_issued=1000
    )


def verifying_code(registration_id: UUID, code: str) -> Callable[[Session], object]:
    """Return the call that verifies *code*."""
    return of_verification(lambda verification: verification.verify_by_code(registration_id, code))


def cancellation(registration_id: UUID) -> Callable[[Session], object]:
    """Return the call that cancels the registration."""
    return lambda session: RegistrationRepository(session).cancel(registration_id)


def erasure(registration_id: UUID) -> Callable[[Session], object]:
    """Return the call that erases the registration."""
    return lambda session: PrivacyRepository(session).erase(registration_id)


def expiry(session: Session) -> int:
    """Expire overdue registrations."""
    return Retention(session).expire_due()


def purge(session: Session) -> int:
    """Delete closed registrations."""
    return Retention(session).purge_closed(datetime.now(UTC) + timedelta(hours=1))


def code_for(database: Database, registration_id: UUID) -> str:
    """Issue a code, and return it."""
    with database.session() as session:
        issued = VerificationRepository(session, peppers=PEPPERS).issue_code(registration_id, min_gap=timedelta(0))
    assert isinstance(issued, Issued)
    return issued.secret


def another(code: str) -> str:
    """Return a code that differs from *code*."""
    return f"{(int(code) + 1) % 10**6:06}"


LIVE_TOKENS = """
SELECT registration_id, count(*) AS n FROM verification_tokens
WHERE used_at IS NULL AND replaced_at IS NULL GROUP BY registration_id
"""
INCONSISTENT = """
SELECT r.id FROM registrations r LEFT JOIN verification_tokens t ON t.registration_id = r.id AND t.used_at IS NOT NULL
WHERE (r.verified_at IS NULL) <> (t.id IS NULL) OR (r.status = 'verified') <> (r.verified_at IS NOT NULL)
"""
"""Finds verified registrations without a used token, and used tokens of unverified registrations."""


def assert_events_are_complete(rows: Rows) -> None:
    """Assert that each registration has the events 1 to its version, and each event one message."""
    assert [] == rows(
        "SELECT r.id FROM registrations r"
        " LEFT JOIN (SELECT registration_id, count(*) AS n, max(seq) AS last, count(DISTINCT seq) AS different"
        "            FROM registration_events GROUP BY registration_id) e ON e.registration_id = r.id"
        " WHERE (e.n, e.last, e.different) IS DISTINCT FROM (r.version, r.version, r.version)"
    )
    assert rows("SELECT count(*) AS n FROM registration_events") == rows("SELECT count(*) AS n FROM outbox")
