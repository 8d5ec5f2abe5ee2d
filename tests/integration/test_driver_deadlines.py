"""Deadlines of plain psycopg on our connection: pipelines, blocks, two-phase commit, notifications and cursors."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, deadline
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.database.liveness import has_pending_input
from registration_persistence.sandbox import PostgresServer, TcpProxy, wait_until

Connection = BoundedConnection[Any]

# Far less than the limit of silence, after which everything would end.
MAX_SECONDS = 4.0


@pytest.fixture
def driver(database_settings: DatabaseSettings) -> Iterator[Connection]:
    """A connection of psycopg outside of a pool."""
    here = database_settings
    connection = BoundedConnection[Any].connect(
        host=here.host, port=here.port, dbname=here.name, user=here.user, password=here.password
    )
    connection.max_silence_seconds = 5
    yield connection
    connection.close()


def assert_usable_or_closed(driver: Connection) -> None:
    """Assert that the connection works after a rollback, or that it is closed."""
    started = time.monotonic()
    if not driver.closed:
        driver.rollback()
        assert driver.execute("SELECT 7").fetchone() == (7,)
        driver.rollback()
    assert time.monotonic() - started < MAX_SECONDS


def late_executemany(driver: Connection, **options: bool) -> None:
    """Execute statements that take longer than the deadline."""
    driver.cursor().executemany("SELECT pg_sleep(%s)", [(0.2,)] * 10, **options)


def late_pipeline(driver: Connection) -> None:
    """Read the replies of a pipeline beyond the deadline."""
    with driver.pipeline():
        cursors = [driver.execute("SELECT pg_sleep(0.2)") for _ in range(10)]
        for cursor in cursors:
            cursor.fetchone()


def slow_pipeline(driver: Connection) -> None:
    """Send the second statement of a pipeline after the deadline."""
    with driver.pipeline():
        driver.execute("SELECT 1").fetchone()
        time.sleep(0.5)
        driver.execute("SELECT 2").fetchone()


def slow_sync(driver: Connection) -> None:
    """End a pipeline after the deadline, while a statement is running."""
    with driver.pipeline() as pipeline:
        driver.execute("SELECT pg_sleep(10)")
        time.sleep(0.5)
        pipeline.sync()


def slow_transaction_in_pipeline(driver: Connection) -> None:
    """End a transaction in a pipeline after the deadline."""
    with driver.pipeline(), driver.transaction():
        driver.execute("SELECT 1")
        time.sleep(0.5)


LATE_PIPELINES: list[Callable[[Connection], None]] = [
    late_executemany,
    lambda driver: late_executemany(driver, returning=True),
    late_pipeline,
    slow_pipeline,
    slow_sync,
    slow_transaction_in_pipeline,
]


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_pipeline_ends_at_the_deadline(driver: Connection, *, autocommit: bool) -> None:
    """It ends within the grace period, and the next rollback does not wait for a reply that never comes."""
    for act in LATE_PIPELINES:
        if driver.closed:
            break
        driver.autocommit = autocommit
        started = time.monotonic()
        with pytest.raises(psycopg.Error), deadline(0.4, reserve=0):
            act(driver)
        assert time.monotonic() - started < MAX_SECONDS
        assert_usable_or_closed(driver)
    assert not driver.closed


def test_a_pipeline_that_ends_in_time_returns_its_rows(driver: Connection) -> None:
    """The deadline does not change what a pipeline does."""
    with deadline(5), driver.pipeline(), driver.pipeline():
        first, second = driver.execute("SELECT 1"), driver.execute("SELECT 2")
        assert (first.fetchone(), second.fetchone()) == ((1,), (2,))
    with pytest.raises(psycopg.errors.DivisionByZero), driver.pipeline():
        driver.execute("SELECT 1 / 0")
        driver.execute("SELECT 1")
    driver.rollback()
    cursor = driver.cursor()
    cursor.executemany("SELECT %s::int", [(1,), (2,)], returning=True)
    assert [result.fetchone() for result in cursor.results()] == [(1,), (2,)]
    cursor.executemany("SELECT %s::int", [(1,), (2,)])
    assert cursor.rowcount == 2
    assert_usable_or_closed(driver)


@pytest.mark.parametrize("force_rollback", [False, True])
def test_a_block_that_ends_too_late_is_rolled_back(driver: Connection, *, force_rollback: bool) -> None:
    """Its own exception is raised, or one that says that COMMIT was not sent; the connection is usable afterwards."""
    driver.autocommit = True
    driver.execute("CREATE TABLE things (n int)")
    for autocommit in (True, False):
        driver.autocommit = autocommit
        with (
            pytest.raises(ZeroDivisionError),
            deadline(0.2, reserve=0),
            driver.transaction(force_rollback=force_rollback),
        ):
            driver.execute("INSERT INTO things VALUES (1)")
            time.sleep(0.3)
            _ = 1 / 0
        assert_usable_or_closed(driver)
        with (
            suppress(psycopg.errors.QueryCanceled) if force_rollback else pytest.raises(psycopg.errors.QueryCanceled),
            deadline(0.2, reserve=0),
            driver.transaction(force_rollback=force_rollback),
        ):
            driver.execute("INSERT INTO things VALUES (2)")
            with driver.transaction():
                driver.execute("INSERT INTO things VALUES (3)")
            time.sleep(0.3)
        assert_usable_or_closed(driver)
        with pytest.raises(psycopg.errors.QueryCanceled), deadline(0.2, reserve=0), driver.transaction():
            driver.execute("SELECT pg_sleep(10)")
        assert_usable_or_closed(driver)
        with pytest.raises(psycopg.errors.QueryCanceled, match="not sent"), deadline(0), driver.transaction():
            pass
        assert_usable_or_closed(driver)
        assert not driver.closed
    with driver.transaction() as outer:
        driver.execute("INSERT INTO things VALUES (4)")
        raise psycopg.Rollback(outer)
    with driver.transaction(), driver.transaction("inner"):
        driver.execute("INSERT INTO things VALUES (5)")
    assert driver.execute("SELECT array_agg(n) FROM things").fetchone() == ([5],)


class StallingProxy(TcpProxy):
    """A proxy that keeps what the client sends back while it is stalled."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.free = Event()
        self.free.set()

    def before_forwarding(self, data: bytes, *, from_client: bool, is_turn: bool) -> None:  # noqa: ARG002 the proxy's signature
        """Wait until the proxy is free."""
        if from_client:
            self.free.wait(5)


def test_a_silent_server_ends_every_block_within_the_grace_period(database_settings: DatabaseSettings) -> None:
    """The exception of the block is raised, and the connection is closed."""
    here = database_settings

    def block(driver: Connection) -> None:
        with driver.transaction():
            driver.execute("SELECT 1")
            proxy.free.clear()
            time.sleep(0.3)
            _ = 1 / 0

    def pipeline(driver: Connection) -> None:
        with driver.pipeline():
            driver.execute("SELECT 1").fetchone()
            proxy.free.clear()
            driver.execute("SELECT 2").fetchone()

    def executemany(driver: Connection) -> None:
        driver.execute("SELECT 1")
        proxy.free.clear()
        driver.cursor().executemany("SELECT %s::int", [(1,), (2,)], returning=True)

    def named_cursor(driver: Connection) -> None:
        with driver.cursor("named") as cursor:
            cursor.execute("SELECT 1")
            proxy.free.clear()
            time.sleep(0.3)
            _ = 1 / 0

    for act, error in (
        (block, ZeroDivisionError),
        (pipeline, psycopg.OperationalError),
        (executemany, psycopg.OperationalError),
        (named_cursor, ZeroDivisionError),
    ):
        with StallingProxy(here.host, here.port) as proxy:
            driver: Connection = BoundedConnection.connect(
                host="127.0.0.1", port=proxy.port, dbname=here.name, user=here.user, password=here.password
            )
            started = time.monotonic()
            with pytest.raises(error), deadline(0.2, reserve=0):
                act(driver)
            with suppress(psycopg.Error):
                driver.rollback()
            assert driver.closed
            assert time.monotonic() - started < MAX_SECONDS
            proxy.free.set()


def test_a_two_phase_transaction_can_be_rolled_back_after_the_deadline(driver: Connection) -> None:
    """Neither PREPARE TRANSACTION nor COMMIT is sent then; the connection is usable."""
    for finish in (driver.tpc_prepare, driver.tpc_commit):
        driver.tpc_begin("one")
        with deadline(0):
            with pytest.raises(psycopg.errors.QueryCanceled, match="not sent"):
                finish()
            driver.tpc_rollback()
        assert_usable_or_closed(driver)
    with deadline(0), pytest.raises(psycopg.errors.QueryCanceled, match="not sent"):
        driver.tpc_begin("two")
    assert_usable_or_closed(driver)
    assert not driver.closed


def test_waiting_for_notifications_ends_at_the_deadline(driver: Connection) -> None:
    """The idle connection is kept, with and without a time limit, and a notification still arrives."""
    driver.autocommit = True
    driver.execute("LISTEN news")
    started = time.monotonic()
    with deadline(0.3, reserve=0):
        assert [] == list(driver.notifies(timeout=5))
        assert [] == list(driver.notifies(timeout=5))
    with deadline(0.3, reserve=0), pytest.raises(psycopg.errors.QueryCanceled, match="deadline"):
        list(driver.notifies())
    driver.autocommit = False
    driver.execute("SELECT 1")
    with deadline(0.3, reserve=0):
        assert [] == list(driver.notifies(timeout=5))
    driver.rollback()
    assert time.monotonic() - started < MAX_SECONDS

    driver.autocommit = True
    driver.execute("NOTIFY news")
    with deadline(5):
        assert [notice.channel for notice in driver.notifies(timeout=2, stop_after=1)] == ["news"]


@pytest.mark.parametrize("autocommit", [False, True])
def test_no_first_statement_is_sent_after_the_deadline(driver: Connection, *, autocommit: bool) -> None:
    """Each way to send a statement is refused; commands that send nothing are not, and the connection is usable."""
    driver.autocommit = True
    driver.execute("CREATE SEQUENCE sent")
    driver.autocommit = autocommit
    statement = "SELECT nextval('sent')"

    def copy() -> None:
        with driver.cursor().copy(f"COPY ({statement}) TO STDOUT") as out:
            list(out.rows())

    def declare() -> None:
        with driver.cursor("named", withhold=True) as cursor:
            cursor.execute(statement)

    ways: list[Callable[[], object]] = [
        lambda: driver.execute(statement),
        lambda: driver.cursor().executemany(statement, [(), ()]),
        lambda: list(driver.cursor().stream(statement)),
        declare,
        copy,
    ]
    with deadline(0):
        for way in ways:
            with pytest.raises(psycopg.errors.QueryCanceled, match="not sent"):
                way()
        driver.autocommit = not autocommit
        driver.autocommit = autocommit
        driver.read_only = None
        driver.commit()
        driver.rollback()
    assert driver.execute(statement).fetchone() == (1,)


def test_a_server_side_cursor_is_closed_after_the_deadline(driver: Connection) -> None:
    """Its block raises its own exception."""
    with pytest.raises(ZeroDivisionError), deadline(0.2, reserve=0), driver.cursor("named") as cursor:
        cursor.execute("SELECT generate_series(1, 10)")
        time.sleep(0.3)
        _ = 1 / 0
    assert cursor.closed
    assert_usable_or_closed(driver)


def test_a_statement_that_finishes_while_it_is_cancelled_returns_its_rows(driver: Connection) -> None:
    """The function ignores the cancellation, and its reply arrives within the grace period."""
    driver.autocommit = True
    driver.execute(
        "CREATE FUNCTION stubborn() RETURNS int LANGUAGE plpgsql AS $$ "
        "BEGIN PERFORM pg_sleep(10); RETURN 0; EXCEPTION WHEN query_canceled THEN RETURN 42; END $$"
    )
    with deadline(0.3, reserve=0):
        assert driver.execute("SELECT stubborn()").fetchone() == (42,)
    driver.autocommit = False
    with driver.cursor("named") as cursor:
        cursor.execute("SELECT stubborn()")
        with deadline(0.3, reserve=0):
            assert cursor.fetchone() == (42,)
    assert driver.execute("SELECT 7").fetchone() == (7,)


def test_a_pool_keeps_a_connection_that_is_checked_out_after_the_deadline(
    database_settings: DatabaseSettings, postgres_server: PostgresServer
) -> None:
    """Nothing can be asked of the server then, so the next checkout asks."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    with database.session(autocommit=True) as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text("LISTEN news"))
        driver = driver_connection(session.connection())
    with postgres_server.connect(database_settings.name) as other:
        other.execute("NOTIFY news")
    wait_until(lambda: has_pending_input(driver), "the socket is readable")
    with deadline(0), database.engine.connect():
        pass
    with database.session(autocommit=True) as session:
        assert first == session.scalar(text("SELECT pg_backend_pid()"))
        assert not has_pending_input(driver)
    database.dispose()


@pytest.mark.parametrize("way", ["executemany", "executemany returning", "pipeline", "transaction"])
def test_the_server_ends_a_transaction_that_stays_idle_after_a_pipeline(
    driver: Connection, postgres_server: PostgresServer, way: str
) -> None:
    """`idle_in_transaction_session_timeout` ends the session of a frozen process, so that its locks are released."""
    driver.execute("SET SESSION idle_in_transaction_session_timeout = '300ms'")
    driver.commit()
    match way:
        case "pipeline":
            driver.execute("SELECT 1")
            with driver.pipeline():
                driver.execute("SELECT 1").fetchone()
                driver.execute("SELECT 2")
        case "transaction":
            with driver.pipeline():
                driver.execute("SELECT 1")
        case _:
            driver.cursor().executemany("SELECT %s::int", [(1,), (2,)], returning=way.endswith("returning"))
    assert driver.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    with postgres_server.connect() as other:
        session = "SELECT FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: not other.execute(session, [driver.info.backend_pid]).fetchall(), "it ended", timeout=3)
