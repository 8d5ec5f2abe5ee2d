"""Tests of `RegistrationRepository.register`."""

import traceback
from datetime import timedelta
from typing import Any

import pytest
from support import Change, Rows, SignUp, untyped

from registration_persistence import (
    Consent,
    Database,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Status,
    VerificationRepository,
)
from registration_persistence.domain.ids import new_id
from registration_persistence.errors import (
    IdempotencyConflict,
    InvalidConsent,
    InvalidEmail,
    InvalidInput,
    InvalidProfile,
    ProfileTooLarge,
)
from registration_persistence.outcomes import NotPending, Registered, Replayed, TokenExpired, TooManyPending

TABLES = ("registrations", "verification_tokens", "registration_consents", "registration_events", "outbox")


def test_one_call_stores_all_rows_of_a_sign_up(registrations: RegistrationRepository, rows: Rows) -> None:
    """The rows are a registration, the hash of its token, its consents, an event and an outbox message."""
    consents = [Consent("terms", "2026-01"), Consent("newsletter", "2026-01", granted=False, source="app")]

    outcome = registrations.register(" Ada@Example.COM ", profile={"name": "Ada"}, consents=consents)

    assert isinstance(outcome, Registered)
    stored = outcome.registration
    assert (
        stored.status,
        stored.version,
        stored.email,
        stored.email_key,
        stored.profile,
    ) == (Status.PENDING, 1, "Ada@Example.COM", "ada@example.com", {"name": "Ada"})
    assert [stored.id] == [row["id"] for row in rows("SELECT id FROM registrations")]
    assert [(stored.id, 0, 0)] == [
        (row["registration_id"], row["hash_key_id"], row["attempts"])
        for row in rows("SELECT * FROM verification_tokens")
    ]
    assert [("newsletter", False, "app"), ("terms", True, "web")] == [
        (row["purpose"], row["granted"], row["source"])
        for row in rows("SELECT * FROM registration_consents ORDER BY purpose")
    ]
    (event,) = rows("SELECT * FROM registration_events")
    assert (stored.id, 1, "registered", {"consents": ["terms", "newsletter"]}, "user") == (
        event["registration_id"],
        event["seq"],
        event["type"],
        event["data"],
        event["actor"],
    )
    (message,) = rows("SELECT * FROM outbox")
    assert (event["id"], stored.id, "registration.registered", {"seq": 1}) == (
        message["event_id"],
        message["registration_id"],
        message["type"],
        message["payload"],
    )


def test_the_token_is_not_stored(registrations: RegistrationRepository, rows: Rows) -> None:
    """No table contains the token that is mailed."""
    outcome = registrations.register("ada@example.com")

    assert isinstance(outcome, Registered)
    for table in TABLES:
        assert outcome.token not in str(rows(f"SELECT * FROM {table}"))


def test_the_returned_registration_equals_the_stored_one(registrations: RegistrationRepository) -> None:
    """`get` returns the same registration as `register`."""
    outcome = registrations.register("ada@example.com", profile={"é": [1, 2.5, None, True, {"x": "☃"}]})

    assert registrations.get(outcome.registration.id) == outcome.registration


def test_times_to_live_are_added_by_the_database(registrations: RegistrationRepository, rows: Rows) -> None:
    """The rows have the `ttl` and `token_ttl` that were passed."""
    registrations.register("ada@example.com", ttl=timedelta(hours=5), token_ttl=timedelta(minutes=7))

    (lives,) = rows(
        "SELECT r.expires_at - r.created_at AS row, t.expires_at - t.created_at AS token"
        " FROM registrations r JOIN verification_tokens t ON t.registration_id = r.id"
    )
    assert {"row": timedelta(hours=5), "token": timedelta(minutes=7)} == lives


def test_ids_are_in_the_order_of_sign_up(registrations: RegistrationRepository) -> None:
    """A later registration has a greater id."""
    made = [registrations.register(f"ada{number}@example.com").registration for number in range(20)]

    assert made == sorted(made, key=lambda registration: registration.id)


def test_a_pending_mailbox_may_be_registered_again(sign_up: SignUp, rows: Rows) -> None:
    """An unverified registration does not reserve its mailbox."""
    first, second = sign_up("ada@example.com"), sign_up("ADA@example.com")

    assert first.registration.id != second.registration.id
    assert [{"n": 2}] == rows("SELECT count(*) AS n FROM registrations WHERE email_key = 'ada@example.com'")


def test_email_verified_elsewhere(database: Database, sign_up: SignUp) -> None:
    """The flag is false for a new mailbox, and true once another registration of the mailbox is verified."""
    first = sign_up()
    assert not first.email_verified_elsewhere
    with database.session() as session:
        VerificationRepository(session).verify_by_token(first.token)

    assert sign_up().email_verified_elsewhere


def test_the_same_submission_is_stored_once(registrations: RegistrationRepository, rows: Rows) -> None:
    """The same idempotency key with the same payload returns the first registration and writes nothing."""
    arguments: dict[str, Any] = {"profile": {"a": 1, "b": 2}, "consents": [Consent("terms", "1"), Consent("news", "1")]}
    first = registrations.register("ada@example.com", idempotency_key="k", **arguments)
    arguments = {"profile": {"b": 2, "a": 1}, "consents": [Consent("news", "1"), Consent("terms", "1")]}

    again = registrations.register(" ada@example.com", idempotency_key="k", **arguments)

    assert Replayed(first.registration, email_verified_elsewhere=False) == again
    assert [1, 1, 2, 1, 1] == [rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in TABLES]


@pytest.mark.parametrize(
    "changed",
    [{"email": "eve@example.com"}, {"profile": {"a": 2}}, {"consents": [Consent("terms", "2")]}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_payload_with_the_same_key_is_rejected(
    registrations: RegistrationRepository, rows: Rows, changed: dict[str, Any]
) -> None:
    """A repeated key with another payload raises an error that says nothing of its registration, and changes nothing.

    The key may be another person's: neither the error nor its frames contain the id or the mailbox.
    """
    payload: dict[str, Any] = {"email": "ada@example.com", "profile": {"a": 1}, "consents": [Consent("terms", "1")]}
    first = registrations.register(**payload, idempotency_key="k")

    with pytest.raises(IdempotencyConflict) as raised:
        registrations.register(**payload | changed, idempotency_key="k")

    error = raised.value
    assert ("the idempotency key was used before with another payload: use a new key",) == error.args
    assert {} == vars(error)
    assert (None, None) == (error.__cause__, error.__context__)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename != __file__]
    assert str(first.registration.id) not in str([frame.f_locals for frame in frames])

    assert registrations.get(first.registration.id) == first.registration
    assert [1, 1, 1, 1, 1] == [rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in TABLES]


def test_a_mailbox_has_a_limit_of_pending_registrations(registrations: RegistrationRepository, rows: Rows) -> None:
    """Beyond `max_pending`, in any spelling of the mailbox, a sign-up is stored closed, with the same rows."""
    arguments: dict[str, Any] = {"consents": [Consent("terms", "1")], "profile": {"a": 1}}
    for _ in range(2):
        assert isinstance(registrations.register("ada@example.com", max_pending=2, **arguments), Registered)

    refused = registrations.register("ADA@Example.com", max_pending=2, **arguments)

    assert isinstance(refused, TooManyPending)
    assert (Status.CANCELLED, "superseded", 1, None, False) == (
        refused.registration.status,
        refused.registration.close_reason,
        refused.registration.version,
        refused.registration.expires_at,
        refused.email_verified_elsewhere,
    )
    assert registrations.get(refused.registration.id) == refused.registration
    assert [3, 3, 3, 3, 3] == [rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in TABLES]
    assert [{"consents": ["terms"]}] * 2 + [{"consents": ["terms"], "status": "cancelled"}] == [
        row["data"] for row in rows("SELECT data FROM registration_events ORDER BY occurred_at")
    ]
    assert isinstance(registrations.register("eve@example.com", max_pending=1), Registered)
    assert isinstance(registrations.register("ada@example.com", max_pending=3), Registered)
    assert isinstance(registrations.register("ada@example.com"), Registered), "without a limit"


def test_only_registrations_that_are_pending_count(
    database: Database, sign_up: SignUp, change: Change, rows: Rows
) -> None:
    """Those that are verified, cancelled, erased, lapsed or refused leave room for others."""
    made = [sign_up() for _ in range(4)]
    with database.session() as session:
        VerificationRepository(session).verify_by_token(made[0].token)
        RegistrationRepository(session).cancel(made[1].registration.id)
        PrivacyRepository(session).erase(made[2].registration.id)
    change("UPDATE registrations SET expires_at = statement_timestamp() WHERE status = 'pending'")

    with database.session() as session:
        registrations = RegistrationRepository(session)
        outcomes = [registrations.register("ada@example.com", max_pending=2) for _ in range(4)]

    assert [Registered, Registered, TooManyPending, TooManyPending] == [type(outcome) for outcome in outcomes]
    assert all(outcome.email_verified_elsewhere for outcome in outcomes)
    assert [{"n": 2}] == rows("SELECT count(*) AS n FROM registrations WHERE status = 'pending' AND expires_at > now()")


def test_nothing_works_for_a_sign_up_beyond_the_limit(database: Database, sign_up: SignUp, rows: Rows) -> None:
    """It gets neither token nor code, its stored token verifies nothing, and a replay changes nothing."""
    first = sign_up()
    with database.session() as session:
        registrations = RegistrationRepository(session)
        refused = registrations.register("ada@example.com", idempotency_key="k", max_pending=1)
        again = registrations.register("ada@example.com", idempotency_key="k", max_pending=1)
        verification = VerificationRepository(session, peppers=Peppers({1: bytes(32)}))
        assert NotPending(Status.CANCELLED) == verification.issue_token(refused.registration.id, min_gap=0)
        assert NotPending(Status.CANCELLED) == verification.issue_code(refused.registration.id, min_gap=0)
        assert TokenExpired() == verification.verify_by_code(refused.registration.id, "123456")
        assert registrations.find_by_email("ada@example.com") == first.registration
        assert refused.registration.id in PrivacyRepository(session).ids_by_email("ada@example.com")
        with pytest.raises(IdempotencyConflict):
            registrations.register("ada@example.com", idempotency_key="k", profile={"a": 1}, max_pending=1)
        assert [Registered] == [type(registrations.register("ada@example.com", max_pending=2))]

    assert Replayed(refused.registration, email_verified_elsewhere=False) == again
    assert [{"n": 3}] == rows("SELECT count(*) AS n FROM registrations")


def test_a_failed_unit_of_work_leaves_nothing(database: Database, rows: Rows) -> None:
    """A rollback removes the registration, token, consents, event and message together."""
    with pytest.raises(RuntimeError, match="changed my mind"), database.session() as session:
        RegistrationRepository(session).register("ada@example.com", consents=[Consent("terms", "1")])
        raise RuntimeError("changed my mind")

    assert [0, 0, 0, 0, 0] == [rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in TABLES]


DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"email": "nobody"}, InvalidEmail),
        ({"email": None}, InvalidEmail),
        ({"profile": ["not", "an", "object"]}, InvalidProfile),
        ({"profile": {"x": "a\0b"}}, InvalidProfile),
        ({"profile": {"a\0b": 1}}, InvalidProfile),
        ({"profile": {"x": float("nan")}}, InvalidProfile),
        ({"profile": {"x": 1e300}}, InvalidProfile),
        ({"profile": {"x": "\ud800"}}, InvalidProfile),
        ({"profile": {"x": object()}}, InvalidProfile),
        ({"profile": {"x": DEEP}}, InvalidProfile),
        ({"profile": []}, InvalidProfile),
        ({"profile": {1: "a", "1": "b"}}, InvalidProfile),
        ({"profile": {"x": ("a", "tuple")}}, InvalidProfile),
        ({"profile": {"x": 10**5000}}, InvalidProfile),
        ({"profile": {"x": "y" * 8192}}, ProfileTooLarge),
        ({"consents": None}, InvalidConsent),
        ({"consents": [("terms", "1")]}, InvalidConsent),
        ({"consents": [Consent("Terms of use", "1")]}, InvalidConsent),
        ({"consents": [Consent("terms", "")]}, InvalidConsent),
        ({"consents": [Consent("terms", "1", source="x" * 65)]}, InvalidConsent),
        ({"consents": [Consent("terms", "1", granted=untyped("yes"))]}, InvalidConsent),
        ({"consents": [Consent("terms", "1"), Consent("terms", "2")]}, InvalidConsent),
        ({"idempotency_key": ""}, InvalidInput),
        ({"idempotency_key": "k" * 256}, InvalidInput),
        ({"idempotency_key": "\ud800"}, InvalidInput),
        ({"ttl": timedelta(0)}, InvalidInput),
        ({"ttl": timedelta(days=999_999)}, InvalidInput),
        ({"token_ttl": "60"}, InvalidInput),
        ({"max_pending": 0}, InvalidInput),
        ({"max_pending": -1}, InvalidInput),
        ({"max_pending": 1001}, InvalidInput),
        ({"max_pending": 10**20}, InvalidInput),
        ({"max_pending": True}, InvalidInput),
        ({"max_pending": False}, InvalidInput),
        ({"max_pending": 2.0}, InvalidInput),
        ({"max_pending": "3"}, InvalidInput),
    ],
)
def test_invalid_input_is_rejected_before_a_statement_is_sent(
    database: Database, rows: Rows, arguments: dict[str, Any], error: type[InvalidInput]
) -> None:
    """Each kind has its own error, nothing is written, and the session stays usable."""
    with database.session() as session:
        registrations = RegistrationRepository(session)
        with pytest.raises(error) as raised:
            registrations.register(**{"email": "ada@example.com", **arguments})
        assert error is raised.type
        registrations.register("eve@example.com")

    assert [{"email": "eve@example.com"}] == rows("SELECT email FROM registrations")


@pytest.mark.parametrize(
    "profile", [{}, {"text": "\\u0000 written out"}, {"x": "y" * 8180}, {"big": 10**300}, {"list": [1] * 2700}]
)
def test_a_valid_profile_is_stored_unchanged(registrations: RegistrationRepository, profile: dict[str, Any]) -> None:
    """Unusual but valid values are returned unchanged."""
    assert profile == registrations.register("ada@example.com", profile=profile).registration.profile


@pytest.mark.parametrize("actor", ["root", "", None, 5, "admin:", "admin:x\n", "user\0", "\ud800", ["user"]])
def test_an_invalid_actor_is_rejected(database: Database, actor: Any) -> None:
    """The constructor of the repository raises the error."""
    with database.session() as session, pytest.raises(InvalidInput, match="expected user, system or admin:<id>"):
        RegistrationRepository(session, actor=actor)


@pytest.mark.parametrize(
    "correlation_id",
    ["", "x" * 65, "a\0", {}, "\ud800", "\u00e9", "Ada King", "+442071234567", "r-1\n", "a=b", "Ada(1)"],
)
def test_an_invalid_correlation_id_is_rejected(database: Database, correlation_id: Any) -> None:
    """The constructor of the repository raises the error."""
    with database.session() as session, pytest.raises(InvalidInput, match="correlation id"):
        RegistrationRepository(session, correlation_id=correlation_id)


def test_errors_do_not_quote_mixed_up_arguments(registrations: RegistrationRepository) -> None:
    """If a mailbox is passed as another argument, the error does not quote it."""
    mailbox: Any = "ada@example.com"
    for call in (
        lambda: registrations.list_page(status=mailbox),
        lambda: registrations.list_page(after=mailbox),
        lambda: registrations.list_page(limit=mailbox),
        lambda: registrations.register("eve@example.com", ttl=mailbox),
        lambda: registrations.register("eve@example.com", consents=[Consent(mailbox, "1")]),
        lambda: registrations.register("eve@example.com", consents=[Consent("terms", mailbox + "\n")]),
        lambda: registrations.activate(mailbox),
        lambda: registrations.cancel(new_id(), mailbox),
        lambda: registrations.activate(new_id(), expected_version=mailbox),
    ):
        with pytest.raises(InvalidInput) as raised:
            call()
        assert "ada" not in str(raised.value)
