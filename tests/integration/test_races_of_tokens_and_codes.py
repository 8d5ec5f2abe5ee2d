"""Concurrent calls that issue and use tokens and codes."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from races import (
    INCONSISTENT,
    LIVE_TOKENS,
    MAX_THREADS,
    PEPPERS,
    ROUNDS,
    THREADS,
    another,
    assert_events_are_complete,
    code_for,
    in_a_row,
    in_sessions,
    kinds,
    of_verification,
    resend,
    verifying,
    verifying_code,
)
from support import Change, Rows, SignUp

from registration_persistence import Database, VerificationRepository
from registration_persistence.errors import TransactionConflict
from registration_persistence.outcomes import (
    AlreadyVerified,
    Issued,
    LockedOut,
    NotPending,
    Throttled,
    TokenExpired,
    TokenUsable,
    Verified,
    WrongCode,
)


def test_eight_concurrent_resends(wide: Database, sign_up: SignUp, change: Change, rows: Rows) -> None:
    """One call gets a token that replaces the old one, and the others get `Throttled`."""
    for number in range(ROUNDS):
        made = sign_up(f"ada{number}@example.com")
        change("UPDATE registrations SET token_issued_at = token_issued_at - interval '1 h'")

        outcomes = in_sessions(wide, *[resend(made.registration.id, timedelta(minutes=1))] * THREADS)

        assert {Issued: 1, Throttled: THREADS - 1} == kinds(outcomes)
        (secret,) = (outcome.secret for outcome in outcomes if isinstance(outcome, Issued))
        with wide.session() as session:
            verification = VerificationRepository(session)
            assert isinstance(verification.peek_token(secret), TokenUsable)
            assert isinstance(verification.peek_token(made.token), TokenExpired)
    assert [1] * ROUNDS == [row["n"] for row in rows(LIVE_TOKENS)]
    assert [{"n": 2 * ROUNDS}] == rows("SELECT count(*) AS n FROM verification_tokens")
    assert_events_are_complete(rows)


@pytest.mark.parametrize("autocommit", [True, False])
def test_eight_concurrent_codes(wide: Database, sign_up: SignUp, rows: Rows, *, autocommit: bool) -> None:
    """All issued codes are counted, and one of them is valid."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        def ask(verification: VerificationRepository, ada: UUID = ada) -> object:
            return verification.issue_code(ada, min_gap=timedelta(0), max_issued=1000)

        outcomes = in_sessions(wide, *[of_verification(ask)] * THREADS, autocommit=autocommit)

        assert {Issued, TransactionConflict} >= set(kinds(outcomes))
        hashes = [PEPPERS.hashes(ada, o.secret)[1] for o in outcomes if isinstance(o, Issued)]
        of_ada = f"FROM verification_tokens WHERE registration_id = '{ada}'"
        assert [{"n": 1 + len(hashes)}] == rows(f"SELECT tokens_issued AS n FROM registrations WHERE id = '{ada}'")
        assert [{"n": 1 + len(hashes)}] == rows(f"SELECT count(*) AS n {of_ada}")
        (live,) = rows(f"SELECT secret_hash {of_ada} AND used_at IS NULL AND replaced_at IS NULL")
        assert live["secret_hash"] in hashes
    assert_events_are_complete(rows)


def test_twenty_wrong_codes(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """Five of them use up the attempts, and afterwards even the right code gets `LockedOut`."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id
        code = code_for(wide, ada)

        outcomes = in_sessions(wide, *[verifying_code(ada, another(code))] * MAX_THREADS)

        judged = [WrongCode(left) for left in range(5)]
        assert Counter([*judged, *[LockedOut()] * (MAX_THREADS - 5)]) == Counter(outcomes)
        assert [LockedOut()] == in_sessions(wide, verifying_code(ada, code))
    assert [{"n": 0}] == rows("SELECT count(*) AS n FROM verification_tokens WHERE used_at IS NOT NULL")
    assert_events_are_complete(rows)


def test_the_right_code_eight_times(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """One call verifies the mailbox, and the others get `AlreadyVerified`."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        outcomes = in_sessions(wide, *[verifying_code(ada, code_for(wide, ada))] * THREADS)

        assert {Verified: 1, AlreadyVerified: THREADS - 1} == kinds(outcomes)
    assert [] == rows(INCONSISTENT)
    assert_events_are_complete(rows)


def test_verify_against_resend(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """In either order, a verified registration has no valid token."""
    for number in range(2 * ROUNDS):
        made = sign_up(f"ada{number}@example.com")

        outcomes = kinds(in_sessions(wide, verifying(made.token), resend(made.registration.id)))

        assert outcomes in ({Verified: 1, NotPending: 1}, {TokenExpired: 1, Issued: 1})
    assert [] == rows(INCONSISTENT)
    assert [] == rows(
        "SELECT t.id FROM verification_tokens t JOIN registrations r ON r.id = t.registration_id"
        " WHERE r.status = 'verified' AND t.used_at IS NULL"
    )
    assert_events_are_complete(rows)


def test_a_resend_that_waits_for_a_resend(wide: Database, sign_up: SignUp, rows: Rows) -> None:
    """The later token replaces the earlier one."""
    for number in range(ROUNDS):
        ada = sign_up(f"ada{number}@example.com").registration.id

        outcomes = in_a_row(wide, resend(ada), resend(ada))

        assert {Issued: 2} == kinds(outcomes)
    assert [1] * ROUNDS == [row["n"] for row in rows(LIVE_TOKENS)]
