"""Tests of `VerificationRepository.verify_by_token` and `peek_token`."""

from datetime import timedelta
from threading import Thread

import pytest
from races import PEPPERS
from sqlalchemy import text
from support import Rows, SignUp

from registration_persistence import (
    Database,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    Status,
    VerificationRepository,
)
from registration_persistence.errors import TransactionConflict
from registration_persistence.outcomes import (
    AlreadyVerified,
    EmailTaken,
    Issued,
    TokenExpired,
    TokenUnknown,
    TokenUsable,
    Verified,
)


def test_a_token_verifies_the_mailbox(
    registrations: RegistrationRepository, verification: VerificationRepository, sign_up: SignUp, rows: Rows
) -> None:
    """The registration becomes verified, the token is used up, and an event and a message are stored."""
    made = sign_up()

    outcome = verification.verify_by_token(made.token, ttl=timedelta(days=3))

    assert isinstance(outcome, Verified)
    registration = outcome.registration
    assert (made.registration.id, Status.VERIFIED, 2) == (registration.id, registration.status, registration.version)
    assert registration.verified_at is not None
    assert registration.expires_at == registration.verified_at + timedelta(days=3)
    assert registrations.get(registration.id) == registration
    assert [{"used": True}] == rows("SELECT used_at IS NOT NULL AS used FROM verification_tokens")
    assert [(1, "registered"), (2, "verified")] == [
        (row["seq"], row["type"]) for row in rows("SELECT * FROM registration_events ORDER BY seq")
    ]
    assert ["registration.registered", "registration.verified"] == [
        row["type"] for row in rows("SELECT type FROM outbox ORDER BY event_id")
    ]


def test_opening_the_link_twice_is_a_success(verification: VerificationRepository, sign_up: SignUp, rows: Rows) -> None:
    """The second use changes nothing and gives `AlreadyVerified`."""
    secret = sign_up().token
    first = verification.verify_by_token(secret)

    second = verification.verify_by_token(secret)

    assert isinstance(first, Verified)
    assert AlreadyVerified(first.registration) == second
    assert [{"n": 2}] == rows("SELECT count(*) AS n FROM registration_events")


def test_a_link_opened_after_activation_is_a_success(
    registrations: RegistrationRepository, verification: VerificationRepository, sign_up: SignUp
) -> None:
    """The token of an active registration gives `AlreadyVerified`."""
    made = sign_up()
    verification.verify_by_token(made.token)
    active = registrations.activate(made.registration.id)

    assert AlreadyVerified(active) == verification.verify_by_token(made.token)


def test_peek_token_changes_nothing(verification: VerificationRepository, sign_up: SignUp) -> None:
    """A mail scanner that opens the link sees the status of the token and does not use it up."""
    made = sign_up()

    assert TokenUsable(made.registration) == verification.peek_token(made.token)
    assert TokenUsable(made.registration) == verification.peek_token(made.token)
    assert isinstance(verification.verify_by_token(made.token), Verified)
    assert isinstance(verification.peek_token(made.token), AlreadyVerified)


EXPIRE = """UPDATE verification_tokens
            SET created_at = now() - interval '400 days', expires_at = now() - interval '399 days'"""


def test_an_old_link_shows_no_registration(database: Database, sign_up: SignUp) -> None:
    """`AlreadyVerified` is only for the link that was used, and only until it expires; other links of it are expired.

    This holds after the activation too, for peeking too, and for a link whose code verified the mailbox.
    """
    by_link, by_code = sign_up("ada@example.com"), sign_up("eve@example.com")
    with database.session(autocommit=True) as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session, peppers=PEPPERS)
        newer = verification.issue_token(by_link.registration.id, min_gap=0)
        code = verification.issue_code(by_code.registration.id, min_gap=0)
        assert isinstance(newer, Issued)
        assert isinstance(code, Issued)
        assert TokenExpired() == verification.peek_token(by_link.token) == verification.verify_by_token(by_link.token)
        assert isinstance(verification.verify_by_token(newer.secret), Verified)
        assert isinstance(verification.verify_by_code(by_code.registration.id, code.secret), Verified)

        for activate in (False, True):
            if activate:
                registrations.activate(by_link.registration.id)
            for replaced in (by_link.token, by_code.token):
                assert TokenExpired() == verification.peek_token(replaced) == verification.verify_by_token(replaced)
            assert isinstance(verification.peek_token(newer.secret), AlreadyVerified)
            assert isinstance(verification.verify_by_token(newer.secret), AlreadyVerified)

        session.execute(text(EXPIRE))
        assert TokenExpired() == verification.peek_token(newer.secret) == verification.verify_by_token(newer.secret)
        assert TokenExpired() == verification.verify_by_code(by_code.registration.id, code.secret)


def test_an_old_link_does_not_show_that_the_mailbox_is_taken(database: Database, sign_up: SignUp) -> None:
    """Only a link that could still verify the mailbox gets `EmailTaken`."""
    holder, expired = sign_up(), sign_up()
    with database.session(autocommit=True) as session:
        verification = VerificationRepository(session)
        replaced = sign_up()
        assert isinstance(verification.issue_token(replaced.registration.id, min_gap=0), Issued)
        verification.verify_by_token(holder.token)
        assert EmailTaken() == verification.peek_token(expired.token) == verification.verify_by_token(expired.token)
        session.execute(text(EXPIRE))
        for token in (expired.token, replaced.token):
            assert TokenExpired() == verification.peek_token(token) == verification.verify_by_token(token)


@pytest.mark.parametrize("closing", ["cancelled", "lapsed", "swept", "erased"])
def test_a_used_link_of_a_closed_registration_shows_nothing(database: Database, sign_up: SignUp, closing: str) -> None:
    """The link that verified the mailbox is expired with its registration, and unknown after the erasure."""
    made = sign_up()
    with database.session(autocommit=True) as session:
        verification = VerificationRepository(session)
        assert isinstance(verification.verify_by_token(made.token), Verified)
        if closing == "cancelled":
            RegistrationRepository(session).cancel(made.registration.id)
        elif closing == "erased":
            PrivacyRepository(session).erase(made.registration.id)
        else:
            session.execute(text(OVERDUE))
        if closing == "swept":
            assert Retention(session).expire_due() == 1
        expected = TokenUnknown() if closing == "erased" else TokenExpired()

        assert expected == verification.peek_token(made.token) == verification.verify_by_token(made.token)


@pytest.mark.parametrize(
    "token", ["", "x", "x" * 43, "ä" * 43, "x" * 100_000, "\ud800" * 43, "a b" * 14 + "a"], ids=lambda token: token[:3]
)
def test_a_token_that_was_never_issued_is_unknown(
    verification: VerificationRepository, sign_up: SignUp, token: str
) -> None:
    """A token of any form gives an outcome, not an error."""
    sign_up()

    assert TokenUnknown() == verification.verify_by_token(token)
    assert TokenUnknown() == verification.peek_token(token)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE verification_tokens SET created_at = now() - interval '2 s', expires_at = now() - interval '1 s'",
        "UPDATE registrations SET expires_at = now() - interval '1 s'",
        "UPDATE registrations SET status = 'expired', expires_at = NULL, closed_at = now(), close_reason = 'ttl'",
        "UPDATE registrations SET status = 'cancelled', expires_at = NULL, closed_at = now(), close_reason = 'user'",
    ],
    ids=["token", "registration", "swept", "cancelled"],
)
def test_an_expired_token_verifies_nothing(
    database: Database, verification: VerificationRepository, sign_up: SignUp, rows: Rows, sql: str
) -> None:
    """Neither an expired token nor the token of a closed registration is used up."""
    secret = sign_up().token
    with database.session() as session:
        session.execute(text(sql))

    assert TokenExpired() == verification.peek_token(secret)
    assert TokenExpired() == verification.verify_by_token(secret)
    assert [{"used_at": None}] == rows("SELECT used_at FROM verification_tokens")
    assert [{"n": 1}] == rows("SELECT count(*) AS n FROM registration_events")


def test_only_one_registration_of_a_mailbox_can_be_verified(
    verification: VerificationRepository, sign_up: SignUp, rows: Rows
) -> None:
    """The second registration gets `EmailTaken`, and keeps its token."""
    first, second = sign_up("ada@example.com"), sign_up("Ada@Example.com")
    verification.verify_by_token(first.token)

    assert EmailTaken() == verification.peek_token(second.token)
    assert EmailTaken() == verification.verify_by_token(second.token)
    assert [{"n": 1}] == rows("SELECT count(*) AS n FROM verification_tokens WHERE used_at IS NULL")


OVERDUE = "UPDATE registrations SET expires_at = now() - interval '1 s' WHERE status = 'verified'"


def test_a_lapsed_holder_is_expired_by_the_next_verification(
    database: Database,
    registrations: RegistrationRepository,
    verification: VerificationRepository,
    sign_up: SignUp,
    rows: Rows,
) -> None:
    """A verified registration that lapsed before it was active does not keep its mailbox."""
    first = sign_up()
    verification.verify_by_token(first.token)
    with database.session() as session:
        session.execute(text(OVERDUE))

    assert registrations.find_by_email("ada@example.com") is None
    second = sign_up()
    assert not second.email_verified_elsewhere
    assert isinstance(verification.peek_token(second.token), TokenUsable)
    assert isinstance(verification.verify_by_token(second.token), Verified)

    lapsed = registrations.get(first.registration.id)
    assert lapsed is not None
    assert (Status.EXPIRED, 3, "ttl") == (lapsed.status, lapsed.version, lapsed.close_reason)
    assert [(1, "registered", "user"), (2, "verified", "user"), (3, "expired", "system")] == [
        (row["seq"], row["type"], row["actor"])
        for row in rows(f"SELECT * FROM registration_events WHERE registration_id = '{lapsed.id}' ORDER BY seq")
    ]
    assert [{"n": 5}] == rows("SELECT count(*) AS n FROM outbox")
    assert TokenExpired() == verification.verify_by_token(first.token)


def test_a_lapsed_registration_can_be_cancelled(
    database: Database, registrations: RegistrationRepository, verification: VerificationRepository, sign_up: SignUp
) -> None:
    """A pending or verified registration past its `expires_at` can be cancelled before the sweep."""
    first, second = sign_up("ada@example.com"), sign_up("eve@example.com")
    verification.verify_by_token(first.token)
    with database.session() as session:
        session.execute(text("UPDATE registrations SET expires_at = now() - interval '1 s'"))

    for made in (first, second):
        assert registrations.cancel(made.registration.id).changed


class Race:
    """Two registrations of one mailbox: one is verified but not committed, and the other waits for it in a thread."""

    def __init__(self, database: Database, sign_up: SignUp) -> None:
        self._database = database
        self.winner, self.loser = sign_up(), sign_up()

    def lose(self, lose: "Thread") -> None:
        """Call *lose*, whose verification must wait, and commit the winner's once it does."""
        with self._database.session() as session:
            assert isinstance(VerificationRepository(session).verify_by_token(self.winner.token), Verified)
            lose.start()
            self._wait_for_a_lock()
        lose.join(timeout=20)
        assert not lose.is_alive()

    def _wait_for_a_lock(self) -> None:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for _ in range(2000):
                if connection.scalar(text(waiting)):
                    return
                connection.execute(text("SELECT pg_sleep(0.005)"))
        pytest.fail("the second verification never waited for the first")


@pytest.mark.parametrize("autocommit", [True, False])
def test_losing_the_race_for_a_mailbox_is_an_outcome(
    database: Database, sign_up: SignUp, rows: Rows, *, autocommit: bool
) -> None:
    """The loser gets `EmailTaken`, and its session continues and commits."""
    race, heard = Race(database, sign_up), []

    def lose() -> None:
        with database.session(autocommit=autocommit) as session:
            registrations = RegistrationRepository(session)
            verification = VerificationRepository(session)
            heard.append(verification.verify_by_token(race.loser.token))
            registrations.register("eve@example.com")

    race.lose(Thread(target=lose))

    assert [EmailTaken()] == heard
    assert [{"n": 1}] == rows("SELECT count(*) AS n FROM registrations WHERE email = 'eve@example.com'")
    assert [{"n": 1}] == rows("SELECT count(*) AS n FROM registrations WHERE status = 'verified'")


def test_losing_the_race_after_other_work_is_a_retryable_error(database: Database, sign_up: SignUp, rows: Rows) -> None:
    """The error says that the earlier work of the transaction is lost, and repeating it succeeds."""
    race = Race(database, sign_up)
    heard: list[object] = []

    def work() -> None:
        with database.session() as session:
            registrations = RegistrationRepository(session)
            verification = VerificationRepository(session)
            registrations.register("eve@example.com")
            heard.append(verification.verify_by_token(race.loser.token))

    def lose() -> None:
        with pytest.raises(TransactionConflict) as raised:
            work()
        assert raised.value.retryable
        heard.append(rows("SELECT count(*) AS n FROM registrations WHERE email = 'eve@example.com'"))
        work()

    race.lose(Thread(target=lose))

    assert [[{"n": 0}], EmailTaken()] == heard
    assert [{"n": 1}] == rows("SELECT count(*) AS n FROM registrations WHERE email = 'eve@example.com'")
