"""`deadline`: every wait ends before it, and what was under way is cancelled or its connection closed."""

import dataclasses
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.pool import QueuePool
from support import ADD, Rows, added, slow_commits

from registration_persistence import Database, DatabaseSettings, deadline
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.errors import DatabaseUnavailable, PoolExhausted, StatementTimeout

Cursor = psycopg.Cursor[Any]


@pytest.fixture
def one(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database with one connection, as in a Lambda."""
    made = Database(dataclasses.replace(database_settings, pool="lambda"))
    yield made
    made.dispose()


def backend(database: Database) -> int:
    """Which process serves the connection."""
    with database.session() as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_statement_is_cancelled(one: Database, rows: Rows) -> None:
    """The server confirms it, so the connection stays, and nothing was kept."""
    first = backend(one)
    started = time.monotonic()
    with (
        pytest.raises(StatementTimeout, match="deadline came before the answer; the statement was cancelled") as raised,
        deadline(1),
        one.session() as session,
    ):
        session.execute(text(ADD))
        session.execute(text("SELECT pg_sleep(10)"))

    assert time.monotonic() - started < 5
    assert not raised.value.retryable
    assert first == backend(one)
    assert added(rows) == 0


def test_a_statement_in_autocommit_certainly_did_nothing(one: Database, rows: Rows) -> None:
    """The server said that it was cancelled, so its outcome is known."""
    with pytest.raises(StatementTimeout), deadline(1), one.session(autocommit=True) as session:
        session.execute(
            text(ADD.replace("VALUES (gen_random_uuid()", "VALUES ((SELECT gen_random_uuid() FROM pg_sleep(10))"))
        )

    assert added(rows) == 0


def test_a_commit_that_is_cancelled_kept_nothing(one: Database, rows: Rows) -> None:
    """COMMIT is cut short like any statement, and the server says which way it went."""
    slow_commits(one)
    with pytest.raises(StatementTimeout), deadline(1), one.session() as session:
        session.execute(text("INSERT INTO slow VALUES (1)"))

    assert rows("SELECT count(*) AS n FROM slow") == [{"n": 0}]


def test_nothing_is_sent_when_it_has_passed(one: Database, rows: Rows) -> None:
    """A statement for which no time is left is refused, and rolling back still works."""
    first = backend(one)
    with (
        pytest.raises(StatementTimeout, match="had passed, so the statement was not sent"),
        deadline(0.7),
        one.session() as session,
    ):
        session.execute(text(ADD))
        time.sleep(0.3)
        session.execute(text(ADD))

    assert first == backend(one)
    assert added(rows) == 0


def test_a_commit_is_not_sent_when_it_has_passed(one: Database, rows: Rows) -> None:
    """Where the block ends too late, nothing is kept, and that is certain."""
    with pytest.raises(StatementTimeout, match="not sent"), deadline(0.7), one.session() as session:
        session.execute(text(ADD))
        time.sleep(0.3)

    assert added(rows) == 0


def test_a_lock_is_not_awaited_any_longer(one: Database, database: Database) -> None:
    """Waiting for somebody else's lock is part of a statement."""
    with database.session() as holder:
        holder.execute(text("LOCK TABLE outbox"))
        with pytest.raises(StatementTimeout), deadline(1), one.session() as session:
            session.execute(text(ADD))


def test_a_place_in_the_pool_is_not_awaited_any_longer(database_settings: DatabaseSettings) -> None:
    """In `service` mode the wait for a connection ends with the deadline, and its limit is unchanged afterwards."""
    database = Database(dataclasses.replace(database_settings, pool_size=1, connect_timeout=2))
    with database.session() as first:
        first.execute(text("SELECT 1"))
        started = time.monotonic()
        with pytest.raises(PoolExhausted), deadline(0.7), database.session() as second:
            second.execute(text("SELECT 1"))
        assert time.monotonic() - started < 1.5
    with deadline(1):
        database.dispose()
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.timeout() == 2
    database.dispose()


def test_connecting_goes_on_for_as_long_as_the_deadline_allows(one: Database) -> None:
    """Nobody listens there: the attempts go on, further apart, until no time is left."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        database = Database(dataclasses.replace(one.settings, port=nobody.getsockname()[1]))
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="Connection refused"), deadline(2):
            database.ping()

    assert 0.4 < time.monotonic() - started < 2
    assert 3 <= database.events.count("wait", "not_ready") <= 12


def test_a_server_that_accepts_and_says_nothing_is_given_up(one: Database) -> None:
    """A listener that never answers is like a network that swallows everything."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(dataclasses.replace(one.settings, port=silent.getsockname()[1]))
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="deadline came before a connection"), deadline(1.5):
            database.ping()

    assert time.monotonic() - started < 1.5


def test_without_one_connecting_takes_the_connect_timeout(one: Database) -> None:
    """The setting is the budget of all attempts together."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        database = Database(dataclasses.replace(one.settings, port=nobody.getsockname()[1], connect_timeout=2))
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            database.ping()

    assert 0.8 < time.monotonic() - started < 3


def test_warming_up_opens_the_connection(one: Database) -> None:
    """The first request finds it open."""
    assert one.warm_up()
    assert one.events.count("connection_opened", "cold") == 1
    backend(one)
    assert one.events.count("connection_opened") == 1


def test_a_failed_warm_up_is_no_failed_initialisation(
    one: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and left to the first request."""
    monkeypatch.setattr("registration_persistence.database.database._WARM_UP_TIMEOUT_SECONDS", 0.5)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        database = Database(dataclasses.replace(one.settings, port=nobody.getsockname()[1]))

        assert not database.warm_up()

    assert "could not warm up, the first request will try again" in caplog.text


def test_many_statements_in_one_call_may_take_long(database_settings: DatabaseSettings) -> None:
    """Their answers come together, so that silence means nothing; of a single statement it does."""
    database = Database(dataclasses.replace(database_settings, pool="lambda", statement_timeout=5))
    with database.session(autocommit=True) as session:
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, BoundedConnection)
        driver.max_silence_seconds = 0.3
        with driver.cursor() as cursor:
            cursor.executemany("SELECT pg_sleep(%s)", [(0.15,)] * 6)
            with pytest.raises(psycopg.errors.QueryCanceled, match=r"silent for 0\.3 s"):
                cursor.execute("SELECT pg_sleep(3)")
    database.dispose()


def test_waiting_for_notifications_is_no_silence(database_settings: DatabaseSettings) -> None:
    """Nothing is asked of the server meanwhile."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    with database.session(autocommit=True) as session:
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, BoundedConnection)
        driver.max_silence_seconds = 0.1
        driver.execute("LISTEN news")
        assert [] == list(driver.notifies(timeout=0.5))
        driver.execute("UNLISTEN news")
    database.dispose()


def late_copy_in(cursor: Cursor) -> None:
    """Send rows for four seconds."""
    cursor.execute("CREATE TEMP TABLE texts (text text)")
    with cursor.copy("COPY texts FROM STDIN") as copy:
        for _ in range(200):
            copy.write_row(["x" * 40_000])  # psycopg collects smaller ones
            time.sleep(0.02)


def late_copy_out(cursor: Cursor) -> None:
    """Receive rows for four seconds."""
    with cursor.copy("COPY (SELECT repeat('x', 10000) FROM generate_series(1, 2000)) TO STDOUT") as copy:
        for _ in copy.rows():
            time.sleep(0.02)


def late_stream(cursor: Cursor) -> None:
    """The same, row by row."""
    for _ in cursor.stream("SELECT repeat('x', 10000) FROM generate_series(1, 2000)"):
        time.sleep(0.02)


def late_fetches(cursor: Cursor) -> None:
    """The same, in statements of their own."""
    cursor.execute("DECLARE numbers CURSOR FOR SELECT generate_series(1, 200)")
    for _ in range(200):
        cursor.execute("FETCH numbers")
        time.sleep(0.02)


@pytest.mark.parametrize("act", [late_copy_in, late_copy_out, late_stream, late_fetches])
def test_what_comes_in_pieces_ends_too(one: Database, act: Callable[[Cursor], None]) -> None:
    """A COPY or a result that is read bit by bit is cut where the deadline passes."""
    started = time.monotonic()
    with pytest.raises(psycopg.Error), deadline(1), one.session() as session:
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor() as cursor:
            act(cursor)

    assert time.monotonic() - started < 2.5
    assert one.ping().writable
