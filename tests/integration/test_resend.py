"""`issue_token`, and the limits that `issue_code` shares with it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import Rows, SignUp, everything

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


def test_the_newest_secret_is_the_good_one(verification: VerificationRepository, sign_up: SignUp) -> None:
    """What was issued proves the mailbox, and the secret before it is over, for a scanner as for a person."""
    made = sign_up()

    issued = verification.issue_token(made.registration.id, min_gap=AT_ONCE)

    assert isinstance(issued, Issued)
    assert made.registration == issued.registration
    assert TokenExpired() == verification.peek_token(made.token)
    assert TokenExpired() == verification.verify_by_token(made.token)
    assert TokenUsable(made.registration) == verification.peek_token(issued.secret)
    assert isinstance(verification.verify_by_token(issued.secret), Verified)


@pytest.mark.parametrize("method", METHODS)
def test_issuing_is_no_change_of_the_registration(database: Database, sign_up: SignUp, rows: Rows, method: str) -> None:
    """Two tokens and two counters tell of it; version, times, events and messages stay as they were."""
    made = sign_up()
    before = everything(rows)

    with database.session() as session:
        issue = getattr(VerificationRepository(session, peppers=PEPPERS), method)
        issued = issue(made.registration.id, min_gap=AT_ONCE, ttl=timedelta(hours=3))

    after = everything(rows)
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
def test_too_soon_is_told_with_the_time_to_come_back(
    database: Database, sign_up: SignUp, rows: Rows, method: str
) -> None:
    """The gap counts from the last one that was issued, be it that of the sign-up, to the microsecond."""
    made = sign_up()
    with database.session(autocommit=True) as session:
        issue = getattr(VerificationRepository(session, peppers=PEPPERS), method)
        for _ in range(2):
            before = everything(rows)
            last = before["registrations"][0]["token_issued_at"]

            assert Throttled(last + timedelta(hours=1)) == issue(made.registration.id, min_gap=timedelta(hours=1))
            assert Throttled(last + MINUTE) == issue(made.registration.id)
            assert before == everything(rows)

            session.execute(text("UPDATE registrations SET token_issued_at = now() - interval '2 min'"))
            assert isinstance(issue(made.registration.id, min_gap=MINUTE), Issued)


@pytest.mark.parametrize("method", METHODS)
def test_a_registration_has_so_many_and_no_more(database: Database, sign_up: SignUp, rows: Rows, method: str) -> None:
    """The secret of the sign-up counts, as do links and codes together; at the limit, waiting does not help."""
    made = sign_up()
    with database.session(autocommit=True) as session:
        verification = VerificationRepository(session, peppers=PEPPERS)
        issue = getattr(verification, method)
        assert Throttled(None) == issue(made.registration.id, max_issued=1)
        assert isinstance(issue(made.registration.id, min_gap=AT_ONCE, max_issued=3), Issued)
        assert isinstance(verification.issue_token(made.registration.id, min_gap=AT_ONCE, max_issued=3), Issued)
        before = everything(rows)

        assert Throttled(None) == issue(made.registration.id, min_gap=AT_ONCE, max_issued=3)
        assert Throttled(None) == issue(made.registration.id, max_issued=3)
        assert before == everything(rows)
        session.execute(text("UPDATE registrations SET token_issued_at = now() - interval '1 year'"))
        assert Throttled(None) == issue(made.registration.id, max_issued=3)
        assert isinstance(issue(made.registration.id, max_issued=4), Issued)


def test_who_was_imported_gets_the_first_secret_at_once(
    database: Database, registrations: RegistrationRepository, verification: VerificationRepository
) -> None:
    """A pending registration without a token has neither a gap to wait for nor a count."""
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
def test_there_is_nothing_to_issue_where_there_is_nothing_to_prove(
    database: Database, sign_up: SignUp, rows: Rows, status: Status, steps: list[Step]
) -> None:
    """The outcome says how the registration stands, expired also before the sweep, and nothing is written."""
    made = sign_up()
    with database.session() as session:
        for step in steps:
            step(session, made)
    before = everything(rows)

    with database.session() as session:
        verification = VerificationRepository(session, peppers=PEPPERS)
        assert NotPending(status) == verification.issue_token(made.registration.id, min_gap=AT_ONCE)
        assert NotPending(status) == verification.issue_code(made.registration.id, max_issued=1)
    assert before == everything(rows)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_issued_for_what_is_not_there(database: Database, sign_up: SignUp, rows: Rows, method: str) -> None:
    """The error names the id, and the registrations that are there keep their tokens."""
    sign_up()
    before, unknown = everything(rows), uuid4()

    with database.session() as session, pytest.raises(RegistrationNotFound, match=str(unknown)):
        getattr(VerificationRepository(session, peppers=PEPPERS), method)(unknown, min_gap=AT_ONCE)

    assert before == everything(rows)


def test_a_secret_that_was_rolled_back_replaces_nothing(
    database: Database, verification: VerificationRepository, sign_up: SignUp, rows: Rows
) -> None:
    """Where the unit of work fails, the mail that is out already stays good, and the count is as it was."""
    made = sign_up()
    before = everything(rows)
    with pytest.raises(RuntimeError, match="no mail server"), database.session() as session:
        issued = VerificationRepository(session).issue_token(made.registration.id, min_gap=AT_ONCE)
        raise RuntimeError("no mail server")

    assert before == everything(rows)
    assert isinstance(issued, Issued)
    assert not isinstance(verification.verify_by_token(issued.secret), Verified)
    assert isinstance(verification.verify_by_token(made.token), Verified)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("min_gap", 60),
        ("min_gap", None),
        ("min_gap", timedelta(seconds=-1)),
        ("min_gap", timedelta(days=3651)),
        ("max_issued", 0),
        ("max_issued", 1001),
        ("max_issued", True),
        ("max_issued", 5.0),
        ("max_issued", "5"),
        ("ttl", 600),
        ("ttl", AT_ONCE),
        ("ttl", timedelta(seconds=-1)),
        ("ttl", timedelta(days=3651)),
    ],
)
def test_limits_that_make_no_sense_are_refused(database: Database, sign_up: SignUp, argument: str, value: Any) -> None:
    """The error names the argument, nothing is sent, and the transaction goes on to issue and to commit."""
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
