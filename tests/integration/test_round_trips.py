"""What each use case costs, counted on the wire."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from registration_persistence import Consent, Database, DatabaseSettings, Registered, RegistrationRepository
from registration_persistence.testing import WireCounter

# psycopg runs a statement this often before it has the server prepare it, which takes one round trip more, once.
PREPARED_AFTER = 5


@pytest.fixture
def wire(database_settings: DatabaseSettings) -> Iterator[WireCounter]:
    """A counter between the client and the server."""
    with WireCounter(database_settings.host, database_settings.port) as counter:
        yield counter


@pytest.fixture
def counted(database_settings: DatabaseSettings, wire: WireCounter) -> Iterator[Database]:
    """A database that is reached through `wire`, with a connection that is open."""
    settings = dataclasses.replace(
        database_settings, host="127.0.0.1", port=wire.port, sslmode="disable", pool="lambda"
    )
    database = Database(settings)
    with database.session() as session:
        session.execute(text("SELECT 1"))
    wire.round_trips()
    yield database
    database.dispose()


def test_the_counter_counts(wire: WireCounter, counted: Database) -> None:
    """Two statements in a transaction are four round trips with BEGIN and COMMIT; a ping is one."""
    with counted.session() as session:
        session.execute(text("SELECT 1"))
        session.execute(text("SELECT 2"))
    assert wire.round_trips() == 4

    counted.ping()
    assert wire.round_trips() == 1


def test_a_sign_up_is_one_round_trip(wire: WireCounter, counted: Database) -> None:
    """Registration, token, consents, event and message in autocommit: one; preparing it costs one more, once."""
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


def test_a_sign_up_in_a_transaction_is_three(wire: WireCounter, counted: Database) -> None:
    """BEGIN, the statement, COMMIT."""
    with counted.session() as session:
        RegistrationRepository(session).register("ada@example.com", consents=[Consent("terms", "1")])

    assert wire.round_trips() == 3


def test_every_other_method_is_one_round_trip(wire: WireCounter, counted: Database) -> None:
    """Also where the answer is no: the statement that refuses is the one that explains."""
    with counted.session(autocommit=True) as session:
        registrations = RegistrationRepository(session)
        first, second = registrations.register("ada@example.com"), registrations.register("ada@example.com")
        assert isinstance(first, Registered)
        assert isinstance(second, Registered)
        ada = first.registration.id
        wire.round_trips()
        costs = {}
        calls: dict[str, Callable[[], object]] = {
            "peek": lambda: registrations.peek_token(first.secret),
            "verify": lambda: registrations.verify_by_token(first.secret),
            "verify again": lambda: registrations.verify_by_token(first.secret),
            "verify taken": lambda: registrations.verify_by_token(second.secret),
            "verify unknown": lambda: registrations.verify_by_token("x" * 43),
            "activate": lambda: registrations.activate(ada),
            "cancel": lambda: registrations.cancel(second.registration.id),
            "cancel again": lambda: registrations.cancel(second.registration.id),
            "get": lambda: registrations.get(ada),
            "find": lambda: registrations.find_by_email("ada@example.com"),
            "list": registrations.list_page,
        }
        for name, call in calls.items():
            call()
            costs[name] = wire.round_trips()

    assert dict.fromkeys(costs, 1) == costs


def test_no_token_is_sent_that_cannot_be_one(wire: WireCounter, counted: Database) -> None:
    """What is malformed is unknown without asking the server."""
    with counted.session(autocommit=True) as session:
        RegistrationRepository(session).verify_by_token("nonsense")

    assert wire.round_trips() == 0
