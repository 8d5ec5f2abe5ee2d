"""Tests of the check at checkout: a recently used connection costs no round trip, an idle one costs one."""

import dataclasses
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text
from support import terminate_backend, wait_for_end

from registration_persistence import Database, DatabaseSettings
from registration_persistence.testing import RoundTripCounter


@pytest.fixture
def one(database_settings: DatabaseSettings, wire: RoundTripCounter) -> Iterator[Database]:
    """A database with one connection, as in a Lambda, whose round trips are counted from now on."""
    here = dataclasses.replace(database_settings, host="127.0.0.1", port=wire.port, sslmode="disable")
    made = Database(dataclasses.replace(here, pool="lambda"))
    use(made)
    wire.round_trips()
    yield made
    made.dispose()


def use(database: Database) -> int:
    """Execute one statement, and return the pid of the backend."""
    with database.session(autocommit=True) as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_checkout_costs_no_round_trip(one: Database, wire: RoundTripCounter) -> None:
    """Each unit of work with one statement is one round trip."""
    for _ in range(3):
        use(one)

    assert wire.round_trips() == 3


@pytest.mark.parametrize(
    ("clocks", "questions"),
    [((0, 0), 0), ((29, 29), 0), ((31, 0), 1), ((0, 31), 1), ((31, 31), 1), ((-3600, 0), 0), ((-3600, 31), 1)],
)
def test_an_idle_connection_is_checked_with_a_round_trip(
    one: Database, wire: RoundTripCounter, monkeypatch: pytest.MonkeyPatch, clocks: tuple[float, float], questions: int
) -> None:
    """Half a minute by either clock counts, as a freeze may stop one; a clock that is set back does not matter."""
    first, (wall, monotonic) = use(one), clocks
    monkeypatch.setattr(
        "registration_persistence.database.liveness._now",
        lambda: (time.time() + wall, time.monotonic() + monotonic),
    )
    wire.round_trips()

    assert first == use(one)
    assert wire.round_trips() == 1 + questions


def test_a_closed_connection_is_replaced_at_checkout(one: Database) -> None:
    """The statement is sent once, on the new connection, and the event has the cause of the replacement."""
    first = use(one)
    with one.session(autocommit=True) as session:
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        session.execute(text("SET application_name = 'victim'"))
    with psycopg.connect(driver.info.dsn, password=driver.info.password, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    wait_for_end(driver)

    assert first != use(one)
    assert one.events.count("connection_opened", "thaw") == 1
    assert one.events.count("connection_opened") == 2


def test_a_notification_does_not_replace_the_connection(one: Database, wire: RoundTripCounter) -> None:
    """A notification makes the socket readable, so the server is asked; it answers, and the connection is kept."""
    with one.session(autocommit=True) as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text("LISTEN news"))
    with psycopg.connect(
        host=one.settings.host,
        port=one.settings.port,
        dbname=one.settings.name,
        user=one.settings.user,
        password=one.settings.password,
        autocommit=True,
    ) as other:
        other.execute("NOTIFY news")
    time.sleep(0.2)
    wire.round_trips()

    assert first == use(one)
    assert wire.round_trips() == 2


def test_the_check_leaves_no_open_transaction(one: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session in a transaction sends its own BEGIN after the check."""
    monkeypatch.setattr("registration_persistence.database.liveness._MAX_UNPROBED_IDLE_SECONDS", 0.0)
    for _ in range(3):
        with one.session() as session:
            session.execute(text("SELECT 1"))
            driver = session.connection().connection.dbapi_connection
            assert isinstance(driver, psycopg.Connection)
            assert driver.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        with one.session(read_only=True) as session:
            assert session.scalar(text("SHOW transaction_read_only")) == "on"


def test_a_failed_replacement_is_repeated_at_the_next_checkout(one: Database) -> None:
    """A failed attempt to connect does not break the pool."""
    with pytest.raises(ZeroDivisionError), one.session() as session:
        terminate_backend(session)
        _ = 1 / 0
    for _ in range(3):
        use(one)

    assert one.events.count("connection_opened") == 2
