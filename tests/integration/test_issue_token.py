"""Tests of `VerificationRepository.issue_token`, and of the limits that it shares with `issue_code`."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import Rows, SignUp, all_rows

from registration_persistence import (
    Database,
    ImportRow,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    Status,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.errors import InvalidInput, RegistrationNotFound
from registration_persistence.outcomes import (
    Issued,
    NotPending,
    Registered,
    Throttled,
    TokenExpired,
    TokenUsable,
    Verified,
)

AT_ONCE = timedelta(0)
MINUTE = timedelta(minutes=1)
PEPPERS = Peppers({1: b"p" * 32})
METHODS = ("issue_token", "issue_code")

Step = Callable[[Session, Registered], object]


def test_only_the_newest_token_is_valid(verification: VerificationRepository, sign_up: SignUp) -> None:
    """The new token verifies the mailbox; the old one is expired for `peek_token` and for `verify_by_token`."""
    made = sign_up()

    issued = verification.issue_token(made.registration.id, min_gap=AT_ONCE)

    assert isinstance(issued, Issued)
    assert made.registration == issued.registration
    assert TokenExpired() == verification.peek_token(made.token)
    assert TokenExpired() == verification.verify_by_token(made.token)
    assert TokenUsable(made.registration) == verification.peek_token(issued.secret)
    assert isinstance(verification.verify_by_token(issued.secret), Verified)


@pytest.mark.parametrize("method", METHODS)
def test_issuing_does_not_change_the_registration(database: Database, sign_up: SignUp, rows: Rows, method: str) -> None:
    """Two tokens and two counters are written; version, times, events and messages stay unchanged."""
    made = sign_up()
    before = all_rows(rows)

    with database.session() as session:
        issue = getattr(VerificationRepository(session, peppers=PEPPERS), method)
        issued = issue(made.registration.id, min_gap=AT_ONCE, ttl=timedelta(hours=3))

    after = all_rows(rows)
    (was,), (old, new) = before["verification_tokens"], after["verification_tokens"]
    moment = new["created_at"]
    assert {
        **before,
        "registrations": [{**before["registrations"][0], "tokens_issued": 2, "token_issued_at": moment}],
        "verification_tokens": [{**was, "replaced_at": moment}, new],
    } == after
    assert issued.expires_at == new["expires_at"] == moment + timedelta(hours=3)
    assert (None, None, 0) == (new["used_at"], new["replaced_at"], new["attempts"])
    assert old["created_at"] < moment


@pytest.mark.parametrize("method", METHODS)
def test_a_throttled_outcome_has_the_time_of_the_next_attempt(
    database: Database, sign_up: SignUp, rows: Rows, method: str
) -> None:
    """The gap starts with the last token or code, also that of the sign-up, and is exact to the microsecond."""
    made = sign_up()
    with database.session(autocommit=True) as session:
        issue = getattr(VerificationRepository(session, peppers=PEPPERS), method)
        for _ in range(2):
            before = all_rows(rows)
            last = before["registrations"][0]["token_issued_at"]

            assert Throttled(last + timedelta(hours=1)) == issue(made.registration.id, min_gap=timedelta(hours=1))
            assert Throttled(last + MINUTE) == issue(made.registration.id)
            assert before == all_rows(rows)

            session.execute(text("UPDATE registrations SET token_issued_at = now() - interval '2 min'"))
            assert isinstance(issue(made.registration.id, min_gap=MINUTE), Issued)


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_tokens_and_codes_is_limited(
    database: Database, sign_up: SignUp, rows: Rows, method: str
) -> None:
    """The token of the sign-up, tokens and codes count together; at the limit, waiting does not help."""
    made = sign_up()
    with database.session(autocommit=True) as session:
        verification = VerificationRepository(session, peppers=PEPPERS)
        issue = getattr(verification, method)
        assert Throttled(None) == issue(made.registration.id, max_issued=1)
        assert isinstance(issue(made.registration.id, min_gap=AT_ONCE, max_issued=3), Issued)
        assert isinstance(verification.issue_token(made.registration.id, min_gap=AT_ONCE, max_issued=3), Issued)
        before = all_rows(rows)

        assert Throttled(None) == issue(made.registration.id, min_gap=AT_ONCE, max_issued=3)
        assert Throttled(None) == issue(made.registration.id, max_issued=3)
        assert before == all_rows(rows)
        session.execute(text("UPDATE registrations SET token_issued_at = now() - interval '1 year'"))
        assert Throttled(None) == issue(made.registration.id, max_issued=3)
        assert isinstance(issue(made.registration.id, max_issued=4), Issued)


def test_an_imported_registration_gets_its_first_token_at_once(
    database: Database, registrations: RegistrationRepository, verification: VerificationRepository
) -> None:
    """A pending registration without a token has no gap to wait for, and a count of zero."""
    with database.session() as session:
        bulk_import(session, [ImportRow("ada@example.com", "pending", idempotency_key="1")])
    (imported,) = registrations.list_page().items

    issued = verification.issue_token(imported.id, min_gap=timedelta(days=1), max_issued=1)

    assert isinstance(issued, Issued)
    assert isinstance(verification.verify_by_token(issued.secret), Verified)


OVERDUE = text("UPDATE registrations SET expires_at = now() - interval '1 s'")


@pytest.mark.parametrize(
    ("status", "steps"),
    [
        (Status.VERIFIED, [lambda s, made: VerificationRepository(s).verify_by_token(made.token)]),
        (
            Status.ACTIVE,
            [
                lambda s, made: VerificationRepository(s).verify_by_token(made.token),
                lambda s, made: RegistrationRepository(s).activate(made.registration.id),
            ],
        ),
        (Status.CANCELLED, [lambda s, made: RegistrationRepository(s).cancel(made.registration.id)]),
        (Status.ERASED, [lambda s, made: PrivacyRepository(s).erase(made.registration.id)]),
        (Status.EXPIRED, [lambda s, _: s.execute(OVERDUE)]),
        (Status.EXPIRED, [lambda s, _: s.execute(OVERDUE), lambda s, _: Retention(s).expire_due()]),
    ],
    ids=["verified", "active", "cancelled", "erased", "overdue", "swept"],
)
def test_nothing_is_issued_unless_the_registration_is_pending(
    database: Database, sign_up: SignUp, rows: Rows, status: Status, steps: list[Step]
) -> None:
    """The outcome names the status, which is expired also before the sweep, and nothing is written."""
    made = sign_up()
    with database.session() as session:
        for step in steps:
            step(session, made)
    before = all_rows(rows)

    with database.session() as session:
        verification = VerificationRepository(session, peppers=PEPPERS)
        assert NotPending(status) == verification.issue_token(made.registration.id, min_gap=AT_ONCE)
        assert NotPending(status) == verification.issue_code(made.registration.id, max_issued=1)
    assert before == all_rows(rows)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_issued_for_an_unknown_id(database: Database, sign_up: SignUp, rows: Rows, method: str) -> None:
    """The error names the id, and other registrations keep their tokens."""
    sign_up()
    before, unknown = all_rows(rows), uuid4()

    with database.session() as session, pytest.raises(RegistrationNotFound, match=str(unknown)):
        getattr(VerificationRepository(session, peppers=PEPPERS), method)(unknown, min_gap=AT_ONCE)

    assert before == all_rows(rows)


def test_a_rolled_back_token_replaces_nothing(
    database: Database, verification: VerificationRepository, sign_up: SignUp, rows: Rows
) -> None:
    """If the unit of work fails, the token that was mailed stays valid, and the count stays unchanged."""
    made = sign_up()
    before = all_rows(rows)
    with pytest.raises(RuntimeError, match="no mail server"), database.session() as session:
        issued = VerificationRepository(session).issue_token(made.registration.id, min_gap=AT_ONCE)
        raise RuntimeError("no mail server")

    assert before == all_rows(rows)
    assert isinstance(issued, Issued)
    assert not isinstance(verification.verify_by_token(issued.secret), Verified)
    assert isinstance(verification.verify_by_token(made.token), Verified)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("min_gap", "60"),
        ("min_gap", None),
        ("min_gap", timedelta(seconds=-1)),
        ("min_gap", timedelta(days=3651)),
        ("max_issued", 0),
        ("max_issued", 1001),
        ("max_issued", True),
        ("max_issued", 5.0),
        ("max_issued", "5"),
        ("ttl", "600"),
        ("ttl", AT_ONCE),
        ("ttl", timedelta(seconds=-1)),
        ("ttl", timedelta(days=3651)),
    ],
)
def test_invalid_limits_are_rejected(database: Database, sign_up: SignUp, argument: str, value: Any) -> None:
    """The error names the argument, no statement is sent, and the transaction continues to issue and commits."""
    made = sign_up()
    with database.session() as session:
        verification = VerificationRepository(session, peppers=PEPPERS)
        for issue in (verification.issue_token, verification.issue_code):
            with pytest.raises(InvalidInput, match=f"^{argument} is not a "):
                issue(made.registration.id, **{argument: value})
        issued = verification.issue_token(made.registration.id, min_gap=AT_ONCE)

    assert isinstance(issued, Issued)
    with database.session() as session:
        assert isinstance(VerificationRepository(session).verify_by_token(issued.secret), Verified)
