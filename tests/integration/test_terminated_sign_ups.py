"""A sign-up whose connection is terminated can be repeated with its idempotency key, and is stored once."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest
from races import ROUNDS, assert_events_are_complete, in_sessions, kinds
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TABLES, TERMS, Rows

from registration_persistence import Database, RegistrationRepository
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost
from registration_persistence.outcomes import Registered, RegisterOutcome, Replayed

T = TypeVar("T")


def submission(number: int) -> Callable[[Session], RegisterOutcome]:
    """Return the call that registers with an idempotency key."""
    return lambda session: RegistrationRepository(session).register(
        f"ada{number}@example.com", consents=[TERMS], idempotency_key=f"key {number}"
    )


def terminate_pid(database: Database, pid: object) -> None:
    """Terminate the backend *pid*."""
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def terminated(
    database: Database, call: Callable[[Session], T], *, autocommit: bool, seconds: float
) -> list[T | Exception]:
    """Make *call*, and terminate its backend after *seconds*."""
    barrier, pids = Barrier(2), list[object]()

    def begin(session: Session) -> None:
        pids.append(session.scalar(text("SELECT pg_backend_pid()")))
        barrier.wait(20)

    with database.engine.connect() as other, ThreadPoolExecutor(1) as thread:
        other.execute(text("SELECT 1"))
        attempt = thread.submit(lambda: in_sessions(database, call, autocommit=autocommit, begin=begin))
        barrier.wait(20)
        time.sleep(seconds)
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pids[0]})
        return attempt.result()


def assert_sign_ups_are_complete(rows: Rows, number: int) -> None:
    """Assert that there are *number* registrations, each with one token, consent, event and message."""
    for table in TABLES:
        assert [{"n": number}] == rows(f"SELECT count(*) AS n FROM {table}")
    assert_events_are_complete(rows)


@pytest.mark.parametrize("moment", ["before the statement", "before COMMIT"])
def test_a_connection_terminated_before_commit(wide: Database, rows: Rows, moment: str) -> None:
    """Nothing is kept, so the repeated sign-up is the first."""
    for number in range(ROUNDS):
        submit = submission(number)
        with pytest.raises((ConnectionLost, CommitOutcomeUnknown)), wide.session() as session:
            pid = session.scalar(text("SELECT pg_backend_pid()"))
            if moment == "before the statement":
                terminate_pid(wide, pid)
            submit(session)
            terminate_pid(wide, pid)

        assert {Registered: 1} == kinds(in_sessions(wide, submit))
    assert_sign_ups_are_complete(rows, ROUNDS)


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_connection_terminated_at_any_moment(wide: Database, rows: Rows, *, autocommit: bool) -> None:
    """The sign-up is repeated with its key, and is stored once."""
    seen: Counter[type] = Counter()
    for number in range(6 * ROUNDS):
        seen += kinds(terminated(wide, submission(number), autocommit=autocommit, seconds=number / 20_000))
        while set(last := kinds(in_sessions(wide, submission(number)))).isdisjoint({Registered, Replayed}):
            seen += last

    assert {Registered, ConnectionLost, CommitOutcomeUnknown} >= set(seen)
    assert_sign_ups_are_complete(rows, 6 * ROUNDS)
