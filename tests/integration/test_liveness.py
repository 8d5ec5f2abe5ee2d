"""A pooled connection is checked before anybody gets it: without a round trip, or with one after it has idled."""

import dataclasses
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text
from support import kill

from registration_persistence import Database, DatabaseSettings
from registration_persistence.testing import RoundTripCounter


@pytest.fixture
def one(database_settings: DatabaseSettings, wire: RoundTripCounter) -> Iterator[Database]:
    """A database with one connection, as in a Lambda, whose round trips are counted from here."""
    here = dataclasses.replace(database_settings, host="127.0.0.1", port=wire.port, sslmode="disable")
    made = Database(dataclasses.replace(here, pool="lambda"))
    use(made)
    wire.round_trips()
    yield made
    made.dispose()


def use(database: Database) -> int:
    """Run one statement, and return the backend that did."""
    with database.session(autocommit=True) as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_checkout_costs_no_round_trip(one: Database, wire: RoundTripCounter) -> None:
    """Units of one statement are one round trip each."""
    for _ in range(3):
        use(one)

    assert wire.round_trips() == 3


@pytest.mark.parametrize(
    ("clocks", "questions"),
    [((0, 0), 0), ((29, 29), 0), ((31, 0), 1), ((0, 31), 1), ((31, 31), 1), ((-3600, 0), 0), ((-3600, 31), 1)],
)
def test_after_idling_the_server_is_asked(
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


def test_a_closed_connection_is_replaced_before_anybody_gets_it(one: Database) -> None:
    """The statement is sent once, on the new connection, and the event says why there is one."""
    first = use(one)
    with one.session(autocommit=True) as session:
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        session.execute(text("SET application_name = 'victim'"))
    with psycopg.connect(driver.info.dsn, password=driver.info.password, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])

    assert first != use(one)
    assert one.events.count("connection_opened", "thaw") == 1
    assert one.events.count("connection_opened") == 2


def test_what_the_server_says_between_units_is_no_end(one: Database, wire: RoundTripCounter) -> None:
    """A notification makes the socket readable: the server is asked, answers, and the connection stays."""
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


def test_the_question_leaves_no_transaction_behind(one: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session in a transaction begins it itself, after the question."""
    monkeypatch.setattr("registration_persistence.database.liveness._IDLE", 0.0)
    for _ in range(3):
        with one.session() as session:
            session.execute(text("SELECT 1"))
            driver = session.connection().connection.dbapi_connection
            assert isinstance(driver, psycopg.Connection)
            assert driver.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        with one.session(read_only=True) as session:
            assert session.scalar(text("SHOW transaction_read_only")) == "on"


def test_a_replacement_that_fails_is_tried_again_by_the_next(one: Database) -> None:
    """The pool is not poisoned by a failed attempt to connect."""
    with pytest.raises(ZeroDivisionError), one.session() as session:
        kill(session)
        _ = 1 / 0
    for _ in range(3):
        use(one)

    assert one.events.count("connection_opened") == 2
