"""Tests of `VerificationRepository.issue_code` and `verify_by_code`."""

import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import Rows, SignUp, all_rows

from registration_persistence import (
    Database,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Status,
    VerificationRepository,
)
from registration_persistence.errors import InvalidInput, RegistrationNotFound
from registration_persistence.outcomes import (
    AlreadyVerified,
    EmailTaken,
    Issued,
    LockedOut,
    TokenExpired,
    TokenUnknown,
    Verified,
    WrongCode,
)

FIRST, SECOND = b"1" * 32, b"2" * 32
PEPPERS = Peppers({1: FIRST})
CODE = "SELECT * FROM verification_tokens WHERE hash_key_id > 0 ORDER BY id DESC LIMIT 1"


@pytest.fixture
def verification(autocommit_session: Session) -> VerificationRepository:
    """A repository with a pepper, in autocommit."""
    return VerificationRepository(autocommit_session, peppers=PEPPERS)


Issue = Callable[[UUID], str]


@pytest.fixture
def issue(verification: VerificationRepository) -> Issue:
    """Issue a new code for a registration, and return the digits."""

    def code_for(registration_id: UUID) -> str:
        outcome = verification.issue_code(registration_id, min_gap=timedelta(0), max_issued=1000)
        assert isinstance(outcome, Issued)
        return outcome.secret

    return code_for


@pytest.fixture
def change(database: Database) -> Callable[[str], None]:
    """Execute a statement without the repositories."""

    def execute(sql: str) -> None:
        with database.session() as session:
            session.execute(text(sql))

    return execute


Change = Callable[[str], None]


def other_than(code: str) -> str:
    """Return six digits that differ from *code*."""
    return f"{(int(code) + 1) % 10**6:06}"


def test_the_right_code_verifies_the_mailbox(
    registrations: RegistrationRepository,
    verification: VerificationRepository,
    sign_up: SignUp,
    issue: Issue,
    rows: Rows,
) -> None:
    """The code is used up without counting an attempt, and one event and one message are stored."""
    pending = sign_up().registration
    code = issue(pending.id)

    outcome = verification.verify_by_code(pending.id, code, ttl=timedelta(days=3))

    assert isinstance(outcome, Verified)
    registration = outcome.registration
    assert (pending.id, Status.VERIFIED, 2) == (registration.id, registration.status, registration.version)
    assert registration.verified_at is not None
    assert registration.expires_at == registration.verified_at + timedelta(days=3)
    assert registrations.get(pending.id) == registration
    assert [(0, registration.verified_at)] == [(row["attempts"], row["used_at"]) for row in rows(CODE)]
    (event,) = rows("SELECT * FROM registration_events WHERE seq = 2")
    assert ("verified", "user", pending.id) == (event["type"], event["actor"], event["registration_id"])
    assert [("registration.verified", {"seq": 2})] == [
        (row["type"], row["payload"]) for row in rows(f"SELECT * FROM outbox WHERE event_id = '{event['id']}'")
    ]


def test_a_used_code_succeeds_again(
    registrations: RegistrationRepository,
    verification: VerificationRepository,
    sign_up: SignUp,
    issue: Issue,
    rows: Rows,
) -> None:
    """A form can be sent twice; another code for a verified mailbox is wrong, and in the end locked out."""
    pending = sign_up().registration
    code = issue(pending.id)
    first = verification.verify_by_code(pending.id, code)
    assert isinstance(first, Verified)
    before = all_rows(rows)

    assert AlreadyVerified(first.registration) == verification.verify_by_code(pending.id, code)
    assert before == all_rows(rows)
    assert WrongCode(1) == verification.verify_by_code(pending.id, other_than(code), max_attempts=2)
    active = registrations.activate(pending.id)
    assert AlreadyVerified(active) == verification.verify_by_code(pending.id, code, max_attempts=2)
    assert WrongCode(0) == verification.verify_by_code(pending.id, other_than(code), max_attempts=2)
    assert LockedOut() == verification.verify_by_code(pending.id, other_than(code), max_attempts=2)


def test_five_attempts_are_allowed(
    registrations: RegistrationRepository,
    verification: VerificationRepository,
    sign_up: SignUp,
    issue: Issue,
    rows: Rows,
) -> None:
    """Each outcome has the attempts left; after the last even the right code fails, until a new one is issued."""
    pending = sign_up().registration
    code = issue(pending.id)

    for left in (4, 3, 2, 1, 0):
        assert WrongCode(left) == verification.verify_by_code(pending.id, other_than(code))
    before = all_rows(rows)
    for locked_out in (code, other_than(code)):
        assert LockedOut() == verification.verify_by_code(pending.id, locked_out)
    assert before == all_rows(rows)
    assert pending == registrations.get(pending.id)

    newer = issue(pending.id)
    assert WrongCode(4) == verification.verify_by_code(pending.id, other_than(newer))
    assert isinstance(verification.verify_by_code(pending.id, newer), Verified)


def test_white_space_in_a_code_is_ignored(verification: VerificationRepository, sign_up: SignUp, issue: Issue) -> None:
    """A code is accepted with white space around and inside it."""
    pending = sign_up().registration
    code = issue(pending.id)

    outcomes = [
        verification.verify_by_code(pending.id, spelling)
        for spelling in (f"  {code}\n", f"{code[:3]} {code[3:]}", f"{code[:3]}\u00a0{code[3:]}", "\t".join(code))
    ]

    assert [Verified, AlreadyVerified, AlreadyVerified, AlreadyVerified] == [type(outcome) for outcome in outcomes]


def test_anything_but_six_digits_is_a_wrong_code(
    verification: VerificationRepository, sign_up: SignUp, issue: Issue
) -> None:
    """Letters, digits outside ASCII and any other length cost an attempt each, and raise no error."""
    pending = sign_up().registration
    code = issue(pending.id)
    full_width = "".join(chr(0xFF10 + int(digit)) for digit in code)
    wrong = ["", "abcdef", code[:5], code + "0", full_width, f"-{code}", f"{code}\0", "\ud800" * 6, code * 100_000]

    outcomes = [verification.verify_by_code(pending.id, typed, max_attempts=100) for typed in wrong]

    assert [WrongCode(99 - number) for number in range(len(wrong))] == outcomes
    assert isinstance(verification.verify_by_code(pending.id, code, max_attempts=100), Verified)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"code": 123456}, "the code is a int: expected a string"),
        ({"code": None}, "the code is a NoneType: expected a string"),
        ({"code": b"123456"}, "the code is a bytes: expected a string"),
        ({"registration_id": "1"}, "the id of the registration is a str"),
        ({"max_attempts": 0}, "max_attempts is not a whole number from 1 to 100"),
        ({"max_attempts": 101}, "max_attempts is not a whole number from 1 to 100"),
        ({"max_attempts": True}, "max_attempts is not a whole number from 1 to 100"),
        ({"ttl": "60"}, "ttl is not a timedelta"),
        ({"ttl": timedelta(0)}, "ttl is not a timedelta"),
    ],
)
def test_invalid_arguments_are_rejected(
    database: Database, sign_up: SignUp, issue: Issue, arguments: dict[str, Any], message: str
) -> None:
    """The error names the argument, no attempt is counted, and the transaction continues to verify and commits."""
    pending = sign_up().registration
    code = issue(pending.id)
    with database.session() as session:
        verification = VerificationRepository(session, peppers=PEPPERS)
        with pytest.raises(InvalidInput, match=message):
            verification.verify_by_code(**{"registration_id": pending.id, "code": code, **arguments})
        assert WrongCode(4) == verification.verify_by_code(pending.id, other_than(code))
        assert isinstance(verification.verify_by_code(pending.id, code), Verified)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE verification_tokens SET created_at = now() - interval '2 s', expires_at = now() - interval '1 s'",
        "UPDATE registrations SET expires_at = now() - interval '1 s'",
        "UPDATE registrations SET status = 'expired', expires_at = NULL, closed_at = now(), close_reason = 'ttl'",
        "UPDATE registrations SET status = 'cancelled', expires_at = NULL, closed_at = now(), close_reason = 'user'",
        "UPDATE verification_tokens SET replaced_at = now()",
        "DELETE FROM verification_tokens",
    ],
    ids=["code", "registration", "swept", "cancelled", "replaced", "purged"],
)
def test_an_expired_code_verifies_nothing(
    verification: VerificationRepository, sign_up: SignUp, issue: Issue, change: Change, rows: Rows, *, sql: str
) -> None:
    """The right code and a wrong code get the same outcome, and no attempt is counted."""
    pending = sign_up().registration
    code = issue(pending.id)
    change(sql)
    before = all_rows(rows)

    assert TokenExpired() == verification.verify_by_code(pending.id, code)
    assert TokenExpired() == verification.verify_by_code(pending.id, other_than(code))
    assert before == all_rows(rows)


def test_a_used_code_shows_nothing_after_it_has_expired(
    verification: VerificationRepository, sign_up: SignUp, issue: Issue, change: Change, rows: Rows
) -> None:
    """The code that verified the mailbox and a guess get the same outcome, and no attempt is counted."""
    pending = sign_up().registration
    code = issue(pending.id)
    assert isinstance(verification.verify_by_code(pending.id, code), Verified)
    change("UPDATE verification_tokens SET created_at = now() - interval '2 s', expires_at = now() - interval '1 s'")
    before = all_rows(rows)

    assert TokenExpired() == verification.verify_by_code(pending.id, code)
    assert TokenExpired() == verification.verify_by_code(pending.id, other_than(code))
    assert before == all_rows(rows)


def test_a_newer_code_or_link_replaces_a_code(
    verification: VerificationRepository, sign_up: SignUp, issue: Issue
) -> None:
    """After a newer code the old one is wrong, after a link it is expired, and a link is expired after a newer code."""
    made = sign_up()
    identity = made.registration.id
    assert TokenExpired() == verification.verify_by_code(identity, "123456")
    first = issue(identity)
    assert TokenExpired() == verification.verify_by_token(made.token)
    second = issue(identity)

    assert WrongCode(4) == verification.verify_by_code(identity, first)
    link = verification.issue_token(identity, min_gap=timedelta(0), max_issued=1000)
    assert TokenExpired() == verification.verify_by_code(identity, second)
    assert isinstance(link, Issued)
    assert isinstance(verification.verify_by_token(link.secret), Verified)
    assert TokenExpired() == verification.verify_by_code(identity, second)


def test_the_code_of_an_erased_registration_is_unknown(
    database: Database, verification: VerificationRepository, sign_up: SignUp, issue: Issue
) -> None:
    """The outcome does not show whether there was a code."""
    pending = sign_up().registration
    code = issue(pending.id)
    with database.session() as session:
        PrivacyRepository(session).erase(pending.id)

    assert TokenUnknown() == verification.verify_by_code(pending.id, code)
    assert TokenUnknown() == verification.verify_by_code(pending.id, other_than(code))


def test_a_code_is_valid_only_for_its_registration(
    verification: VerificationRepository, sign_up: SignUp, issue: Issue, rows: Rows
) -> None:
    """For another registration it is a wrong code; if the registration does not exist, the error names the id."""
    first, second = sign_up("ada@example.com").registration, sign_up("eve@example.com").registration
    code, unknown = issue(first.id), uuid4()
    while issue(second.id) == code:
        pass
    before = rows(f"SELECT * FROM verification_tokens WHERE registration_id = '{first.id}' ORDER BY id")

    assert WrongCode(4) == verification.verify_by_code(second.id, code)
    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        verification.verify_by_code(unknown, code)
    assert before == rows(f"SELECT * FROM verification_tokens WHERE registration_id = '{first.id}' ORDER BY id")
    assert isinstance(verification.verify_by_code(first.id, code), Verified)


def test_only_the_right_code_reveals_that_the_mailbox_is_taken(
    registrations: RegistrationRepository,
    verification: VerificationRepository,
    sign_up: SignUp,
    issue: Issue,
    rows: Rows,
) -> None:
    """A guess does not show who holds the mailbox, and the right code is not used up."""
    holder, second = sign_up("ada@example.com"), sign_up("Ada@Example.com").registration
    code = issue(second.id)
    verification.verify_by_token(holder.token)

    assert WrongCode(4) == verification.verify_by_code(second.id, other_than(code))
    assert EmailTaken() == verification.verify_by_code(second.id, code)
    assert [(1, None)] == [(row["attempts"], row["used_at"]) for row in rows(CODE)]
    assert second == registrations.get(second.id)
    registrations.cancel(holder.registration.id)
    assert isinstance(verification.verify_by_code(second.id, code), Verified)


def test_a_lapsed_holder_is_expired_by_the_right_code(  # noqa: PLR0917 most arguments are fixtures
    registrations: RegistrationRepository,
    verification: VerificationRepository,
    sign_up: SignUp,
    issue: Issue,
    change: Change,
    rows: Rows,
) -> None:
    """A right code expires a verified registration of the same mailbox that has lapsed."""
    first = sign_up()
    verification.verify_by_token(first.token)
    change("UPDATE registrations SET expires_at = now() - interval '1 s'")
    second = sign_up().registration
    code = issue(second.id)

    assert WrongCode(4) == verification.verify_by_code(second.id, other_than(code))
    assert [] == rows("SELECT * FROM registrations WHERE status = 'expired'")
    assert isinstance(verification.verify_by_code(second.id, code), Verified)

    lapsed = registrations.get(first.registration.id)
    assert lapsed is not None
    assert (Status.EXPIRED, 3, "ttl") == (lapsed.status, lapsed.version, lapsed.close_reason)
    (event,) = rows("SELECT * FROM registration_events WHERE type = 'expired'")
    assert (lapsed.id, 3, "system") == (event["registration_id"], event["seq"], event["actor"])
    assert [(event["id"], lapsed.id, {"seq": 3})] == [
        (row["event_id"], row["registration_id"], row["payload"])
        for row in rows("SELECT * FROM outbox WHERE type = 'registration.expired'")
    ]


def test_peppers_can_be_rotated(
    database: Database, verification: VerificationRepository, sign_up: SignUp, issue: Issue, rows: Rows
) -> None:
    """Old codes stay valid while both peppers are known; new codes use the newest; a removed pepper verifies none."""
    first, second, third = (sign_up(f"{name}@example.com").registration.id for name in ("ada", "bob", "eve"))
    old, forgotten = issue(first), issue(second)
    assert [1] == [row["hash_key_id"] for row in rows(CODE)]
    with database.session(autocommit=True) as session:
        both = VerificationRepository(session, peppers=Peppers({1: FIRST, 2: SECOND}))
        assert WrongCode(4) == both.verify_by_code(first, other_than(old))
        assert isinstance(both.verify_by_code(first, old), Verified)
        new = both.issue_code(third, min_gap=timedelta(0))
        assert isinstance(new, Issued)
        assert [2] == [row["hash_key_id"] for row in rows(CODE)]
        before = all_rows(rows)

        newest = VerificationRepository(session, peppers=Peppers({2: SECOND}))
        assert TokenExpired() == newest.verify_by_code(second, forgotten)
        assert TokenExpired() == newest.verify_by_code(second, other_than(forgotten))
        assert before == all_rows(rows)
        assert TokenExpired() == verification.verify_by_code(third, new.secret)
        assert isinstance(newest.verify_by_code(third, new.secret), Verified)


def test_a_different_pepper_with_the_same_id_rejects_the_code(
    database: Database, sign_up: SignUp, issue: Issue
) -> None:
    """The right code cannot be determined from the database without the pepper."""
    pending = sign_up().registration
    code = issue(pending.id)

    with database.session() as session:
        guesser = VerificationRepository(session, peppers=Peppers({1: SECOND}))
        assert WrongCode(4) == guesser.verify_by_code(pending.id, code)


def test_codes_need_a_pepper(database: Database, sign_up: SignUp, rows: Rows) -> None:
    """A repository without peppers raises an error that says how to pass them, and writes nothing."""
    pending = sign_up().registration
    before = all_rows(rows)

    with database.session() as session:
        verification = VerificationRepository(session)
        with pytest.raises(InvalidInput, match="codes need peppers"):
            verification.issue_code(pending.id, min_gap=timedelta(0))
        with pytest.raises(InvalidInput, match="codes need peppers"):
            verification.verify_by_code(pending.id, "123456")

    assert before == all_rows(rows)


def test_a_code_is_stored_as_a_keyed_hash(sign_up: SignUp, issue: Issue, rows: Rows) -> None:
    """The row holds HMAC-SHA256 of the registration's id and the digits, and no table holds the digits."""
    identity = sign_up().registration.id
    code = issue(identity)

    assert [hmac.new(FIRST, identity.bytes + code.encode(), hashlib.sha256).digest()] == [
        row["secret_hash"] for row in rows(CODE)
    ]
    by_chance = (UUID, datetime)
    stored = [
        v for table in all_rows(rows).values() for row in table for v in row.values() if not isinstance(v, by_chance)
    ]
    assert code not in str([value.decode("latin-1") if isinstance(value, bytes) else value for value in stored])


def test_tokens_and_codes_are_not_interchangeable(
    verification: VerificationRepository, sign_up: SignUp, issue: Issue, change: Change
) -> None:
    """A token is rejected as a code and a code as a token, even if the hash would match."""
    first, second = sign_up("ada@example.com"), sign_up("eve@example.com")
    code = issue(second.registration.id)

    assert TokenExpired() == verification.verify_by_code(first.registration.id, first.token)
    assert TokenUnknown() == verification.verify_by_token(code)
    assert TokenUnknown() == verification.peek_token(code)
    assert WrongCode(4) == verification.verify_by_code(second.registration.id, second.token)
    change("UPDATE verification_tokens SET hash_key_id = 1 - hash_key_id WHERE replaced_at IS NULL")
    assert TokenUnknown() == verification.verify_by_token(first.token)
    assert TokenUnknown() == verification.peek_token(first.token)
    assert TokenExpired() == verification.verify_by_code(second.registration.id, code)
