"""Concurrent calls while registrations are erased, purged or expired."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from races import (
    INCONSISTENT,
    ROUNDS,
    assert_events_are_complete,
    cancellation,
    code_for,
    erasure,
    expiry,
    in_a_row,
    in_sessions,
    kinds,
    purge,
    resend,
    verifying,
    verifying_code,
)
from support import Change, Rows, SignUp

from registration_persistence import Database, Retention
from registration_persistence.errors import RegistrationNotFound
from registration_persistence.outcomes import (
    Cancelled,
    Erased,
    Issued,
    NotPending,
    TokenExpired,
    TokenUnknown,
    Verified,
)


def test_verify_against_erase(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """In either order, no token is left, and the event log shows whether the mailbox was verified."""
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
    assert_events_are_complete(rows)


@pytest.mark.parametrize("autocommit", [True, False])
def test_resend_against_erase(wide: Database, sign_up: SignUp, rows: Rows, *, autocommit: bool) -> None:
    """In any order, an erased registration has no token."""
    seen: Counter[type] = Counter()
    for number in range(12 * ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        seen += kinds(in_sessions(wide, resend(ada), erasure(ada), resend(ada), autocommit=autocommit))

    assert {Issued, NotPending, Erased} >= set(seen)
    assert seen[Erased] == 12 * ROUNDS
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert_events_are_complete(rows)


def test_an_erasure_that_waits_for_a_resend(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """The token that is issued while the erasure waits is deleted too."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        outcomes = in_a_row(wide, resend(ada), erasure(ada))

        assert {Issued: 1, Erased: 1} == kinds(outcomes)
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert_events_are_complete(rows)


def test_a_resend_that_waits_for_an_erasure_or_a_purge(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """The outcome is `NotPending` after an erasure, and `RegistrationNotFound` after a purge."""
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
    """Each resend gets a token or the reason why not, and no row is left."""
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
    assert_events_are_complete(rows)


def test_sweeps_skip_locked_registrations(wide: Database, sign_up: SignUp, change: Change, rows: Rows) -> None:
    """Registrations that another transaction cancels or erases are neither waited for, nor expired, nor deleted."""
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
    assert_events_are_complete(rows)


ENDS_SOON = "UPDATE registrations SET expires_at = clock_timestamp() + {number} * interval '0.5 ms' WHERE id = '{id}'"


def test_verify_by_code_against_expiry(wide: Database, sign_up: SignUp, change: Change, rows: Rows) -> None:
    """At the time of the expiry, the mailbox is verified or the registration expires, but never both."""
    seen: Counter[type] = Counter()
    for number in range(2 * ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id
        verify = verifying_code(ada, code_for(wide, ada))
        change(ENDS_SOON.format(number=number, id=ada))

        seen += kinds(in_sessions(wide, verify, expiry, autocommit=True))

    assert_verified_or_expired(wide, rows, seen)


def test_verify_against_expiry(wide: Database, sign_up: SignUp, change: Change, rows: Rows) -> None:
    """At the time of the expiry, the mailbox is verified or the registration expires, but never both."""
    seen: Counter[type] = Counter()
    for number in range(2 * ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        change(ENDS_SOON.format(number=number, id=made.registration.id))

        seen += kinds(in_sessions(wide, verifying(made.token), expiry, expiry, autocommit=True))

    assert_verified_or_expired(wide, rows, seen)


def assert_verified_or_expired(database: Database, rows: Rows, seen: Counter[type]) -> None:
    """Assert that each `Verified` outcome has a verified registration, and that all others are expired once."""
    assert {Verified, TokenExpired, int} >= set(seen)
    with database.session() as session:
        expiry(session)
    found = {row["status"]: row["n"] for row in rows("SELECT status, count(*) AS n FROM registrations GROUP BY status")}
    assert Counter(verified=seen[Verified], expired=seen[TokenExpired]) == Counter(found)
    assert [] == rows(INCONSISTENT)
    assert_events_are_complete(rows)
