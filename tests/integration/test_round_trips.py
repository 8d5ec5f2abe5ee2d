"""The number of round trips of each use case, counted between client and server."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    DatabaseSettings,
    EventRepository,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.outcomes import (
    AlreadyVerified,
    Issued,
    LockedOut,
    NotPending,
    Registered,
    Throttled,
    TooManyPending,
    Verified,
    WrongCode,
)
from registration_persistence.repositories.outbox import OutboxPosition
from registration_persistence.testing import RoundTripCounter

# After this number of executions psycopg prepares the statement, which takes one more round trip, once.
PREPARED_AFTER = 5


@pytest.fixture
def counted(database_settings: DatabaseSettings, wire: RoundTripCounter) -> Iterator[Database]:
    """A database with an open connection through `wire`."""
    settings = dataclasses.replace(
        database_settings, host="127.0.0.1", port=wire.port, sslmode="disable", pool="lambda"
    )
    database = Database(settings)
    with database.session() as session:
        session.execute(text("SELECT 1"))
    wire.round_trips()
    yield database
    database.dispose()


def test_the_counter_counts(wire: RoundTripCounter, counted: Database) -> None:
    """Two statements in a transaction are three round trips with COMMIT; a ping is one."""
    with counted.session() as session:
        session.execute(text("SELECT 1"))
        session.execute(text("SELECT 2"))
    assert wire.round_trips() == 3

    counted.ping()
    assert wire.round_trips() == 1


def test_a_sign_up_is_one_round_trip(wire: RoundTripCounter, counted: Database) -> None:
    """In autocommit the five rows take one round trip; preparing the statement takes one more, once."""
    costs = []
    for number in range(2 * PREPARED_AFTER):
        with counted.session(autocommit=True) as session:
            RegistrationRepository(session).register(
                f"ada{number}@example.com",
                profile={"name": "Ada"},
                consents=[Consent("terms", "1"), Consent("newsletter", "1")],
                idempotency_key=str(number),
            )
        costs.append(wire.round_trips())

    assert [*[1] * PREPARED_AFTER, 2, *[1] * (PREPARED_AFTER - 1)] == costs
    assert wire.connections == 1


def test_a_sign_up_in_a_transaction_is_two_round_trips(wire: RoundTripCounter, counted: Database) -> None:
    """BEGIN is sent with the statement; COMMIT is the second round trip."""
    with counted.session() as session:
        RegistrationRepository(session).register("ada@example.com", consents=[Consent("terms", "1")])

    assert wire.round_trips() == 2


def test_every_other_method_is_one_round_trip(wire: RoundTripCounter, counted: Database) -> None:
    """This includes negative outcomes: the statement that changes nothing also returns the reason."""
    now = datetime.now(UTC)
    with counted.session(autocommit=True) as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session, peppers=Peppers({1: bytes(32)}))
        consents, events = ConsentRepository(session), EventRepository(session)
        outbox, retention = OutboxRepository(session), Retention(session)
        privacy = PrivacyRepository(session)
        first, second = registrations.register("ada@example.com"), registrations.register("ada@example.com")
        third = registrations.register("eve@example.com")
        assert isinstance(first, Registered)
        assert isinstance(second, Registered)
        ada, eve = first.registration.id, third.registration.id
        wire.round_trips()
        costs: dict[str, int] = {}
        gave: dict[str, Any] = {}
        calls: dict[str, Callable[[], object]] = {
            "register beyond the limit": lambda: registrations.register("eve@example.com", max_pending=1),
            "find nobody": lambda: registrations.find_by_email("nobody@example.com"),
            "peek": lambda: verification.peek_token(first.token),
            "verify": lambda: verification.verify_by_token(first.token),
            "verify again": lambda: verification.verify_by_token(first.token),
            "verify taken": lambda: verification.verify_by_token(second.token),
            "verify unknown": lambda: verification.verify_by_token("x" * 43),
            "issue token": lambda: verification.issue_token(eve, min_gap=timedelta(0)),
            "issue throttled": lambda: verification.issue_token(eve),
            "issue to nobody": lambda: verification.issue_token(ada),
            "issue code": lambda: verification.issue_code(eve, min_gap=timedelta(0)),
            "type nonsense": lambda: verification.verify_by_code(eve, "nonsense"),
            "type too often": lambda: verification.verify_by_code(eve, "nonsense", max_attempts=1),
            "type code": lambda: verification.verify_by_code(eve, gave["issue code"].secret),
            "type code again": lambda: verification.verify_by_code(eve, gave["issue code"].secret),
            "update profile": lambda: registrations.update_profile(ada, {"name": "Ada"}),
            "update nothing": lambda: registrations.update_profile(ada, {"name": "Ada"}),
            "activate": lambda: registrations.activate(ada),
            "cancel": lambda: registrations.cancel(second.registration.id),
            "cancel again": lambda: registrations.cancel(second.registration.id),
            "get": lambda: registrations.get(ada),
            "find": lambda: registrations.find_by_email("ada@example.com"),
            "list": registrations.list_page,
            "record consents": lambda: consents.record(ada, [Consent("terms", "2"), Consent("newsletter", "1")]),
            "current consents": lambda: consents.current(ada),
            "history of consents": lambda: consents.history(ada),
            "list events": lambda: events.list_events(ada),
            "claim": outbox.claim,
            "claim again": outbox.claim,
            "ack": lambda: outbox.ack(gave["claim"][:1]),
            "ack and claim": lambda: outbox.claim_from(OutboxPosition(), delivered=gave["claim"][:1]),
            "retry": lambda: outbox.retry(gave["claim"][1], "smtp:421", timedelta(minutes=1)),
            "retry late": lambda: outbox.retry(gave["claim"][0], "smtp:421", timedelta(minutes=1)),
            "bury": lambda: outbox.bury(gave["claim"][2], "smtp:550"),
            "release": lambda: outbox.release(gave["claim"][3:]),
            "dead": outbox.dead,
            "revive": lambda: outbox.revive([message.event_id for message in gave["dead"]]),
            "import": lambda: bulk_import(session, [ImportRow(f"{number}@example.org") for number in range(3)]),
            "export": lambda: privacy.export_subject(ada),
            "ids by email": lambda: privacy.ids_by_email("ada@example.com"),
            "erase": lambda: privacy.erase(ada),
            "erase again": lambda: privacy.erase(ada),
            "expire": retention.expire_due,
            "purge closed": lambda: retention.purge_closed(now + timedelta(hours=1)),
            "purge tokens": lambda: retention.purge_tokens(now),
        }
        for name, call in calls.items():
            gave[name] = call()
            costs[name] = wire.round_trips()

    assert dict.fromkeys(costs, 1) == costs
    answers = [type(gave[name]) for name in calls if name.startswith(("issue", "type"))]
    assert [Issued, Throttled, NotPending, Issued, WrongCode, LockedOut, Verified, AlreadyVerified] == answers
    assert isinstance(gave["register beyond the limit"], TooManyPending)
    assert (True, False, True, 3, 1) == (
        *(gave[name] for name in ("retry", "retry late", "bury")),
        gave["import"].inserted,
        gave["revive"],
    )


def test_a_malformed_token_is_not_sent(wire: RoundTripCounter, counted: Database) -> None:
    """A malformed token is unknown without a round trip."""
    with counted.session(autocommit=True) as session:
        VerificationRepository(session).verify_by_token("nonsense")

    assert wire.round_trips() == 0


def test_a_wrong_code_in_a_transaction_is_two_round_trips(wire: RoundTripCounter, counted: Database) -> None:
    """The attempt is committed at once, and neither the end of the block nor a roll-back sends anything."""
    peppers = Peppers({1: bytes(32)})
    with counted.session(autocommit=True) as session:
        made = RegistrationRepository(session).register("ada@example.com")
        VerificationRepository(session, peppers=peppers).issue_code(made.registration.id, min_gap=timedelta(0))
    wire.round_trips()
    with counted.session() as session:
        assert WrongCode(4) == VerificationRepository(session, peppers=peppers).verify_by_code(
            made.registration.id, "wrong"
        )
    assert wire.round_trips() == 2

    with counted.session() as session:
        assert WrongCode(3) == VerificationRepository(session, peppers=peppers).verify_by_code(
            made.registration.id, "wrong"
        )
        session.rollback()
    assert wire.round_trips() == 2
