"""Tests of `deadline`: each wait ends before the deadline, by cancelling the statement or closing the connection."""

import dataclasses
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Thread
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from support import ADD, Rows, added, create_slow_table

from registration_persistence import Database, DatabaseSettings, deadline
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.database.pool import BoundedPool
from registration_persistence.errors import DatabaseUnavailable, PoolExhausted, StatementTimeout

Cursor = psycopg.Cursor[Any]


@pytest.fixture
def one(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database with one connection, as in a Lambda."""
    made = Database(dataclasses.replace(database_settings, pool="lambda"))
    yield made
    made.dispose()


def backend(database: Database) -> int:
    """Return the pid of the backend."""
    with database.session() as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_statement_is_cancelled(one: Database, rows: Rows) -> None:
    """The server confirms the cancellation, so the connection is kept, and nothing is committed."""
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


def test_a_cancelled_statement_in_autocommit_has_a_known_outcome(one: Database, rows: Rows) -> None:
    """The server confirmed the cancellation, so the statement certainly committed nothing."""
    with pytest.raises(StatementTimeout), deadline(1), one.session(autocommit=True) as session:
        session.execute(
            text(ADD.replace("VALUES (gen_random_uuid()", "VALUES ((SELECT gen_random_uuid() FROM pg_sleep(10))"))
        )

    assert added(rows) == 0


def test_a_cancelled_commit_kept_nothing(one: Database, rows: Rows) -> None:
    """COMMIT is cancelled like any statement, and the server reports the outcome."""
    create_slow_table(one)
    with pytest.raises(StatementTimeout), deadline(1), one.session() as session:
        session.execute(text("INSERT INTO slow VALUES (1)"))

    assert rows("SELECT count(*) AS n FROM slow") == [{"n": 0}]


def test_no_statement_is_sent_after_the_deadline(one: Database, rows: Rows) -> None:
    """The statement raises an error, and a rollback is still possible."""
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


def test_no_commit_is_sent_after_the_deadline(one: Database, rows: Rows) -> None:
    """If the block ends too late, it is certain that nothing is committed."""
    with pytest.raises(StatementTimeout, match="not sent"), deadline(0.7), one.session() as session:
        session.execute(text(ADD))
        time.sleep(0.3)

    assert added(rows) == 0


def test_a_wait_for_a_lock_ends_at_the_deadline(one: Database, database: Database) -> None:
    """The wait for a lock of another transaction is part of the statement."""
    with database.session() as holder:
        holder.execute(text("LOCK TABLE outbox"))
        with pytest.raises(StatementTimeout), deadline(1), one.session() as session:
            session.execute(text(ADD))


def test_a_wait_for_the_pool_ends_at_the_deadline(database_settings: DatabaseSettings) -> None:
    """In `service` mode the checkout stops waiting at the deadline, and its own timeout is unchanged afterwards."""
    database = Database(dataclasses.replace(database_settings, pool_size=1, connect_timeout=5))
    with database.session() as first:
        first.execute(text("SELECT 1"))
        started = time.monotonic()
        with pytest.raises(PoolExhausted), deadline(0.7), database.session() as second:
            second.execute(text("SELECT 1"))
        assert time.monotonic() - started < 4
    with deadline(1):
        database.dispose()
    pool = database.engine.pool
    assert isinstance(pool, BoundedPool)
    assert pool.timeout() == 5
    database.dispose()


def test_connecting_is_repeated_until_the_deadline(one: Database) -> None:
    """If nothing listens there, the attempts are repeated at growing intervals until no time is left."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        database = Database(dataclasses.replace(one.settings, port=unused.getsockname()[1]))
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="Connection refused"), deadline(2):
            database.ping()

    assert 0.4 < time.monotonic() - started < 4
    assert 3 <= database.events.count("wait", "not_ready") <= 12


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every host name have *addresses*, in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: found)


def test_a_silent_address_leaves_time_for_the_others(one: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address of a host name has an equal share of the time that is left, also if the limit is short."""
    port = one.settings.port
    with (
        socket.create_server(("127.0.0.2", port)),  # accepts connections, and never answers
        socket.create_server(("127.0.0.3", port)),
    ):
        resolve_to(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.1")
        database = Database(dataclasses.replace(one.settings, host="three.example"))
        with deadline(1.5, reserve=0):
            assert database.ping().writable
        with_default_limit = Database(dataclasses.replace(one.settings, host="three.example", connect_timeout=2))
        assert with_default_limit.ping().writable
    assert [0, 0] == [made.events.count("wait") for made in (database, with_default_limit)]
    database.dispose()
    with_default_limit.dispose()


def test_an_error_names_the_failure_at_each_address(one: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no address answers, the error is retryable and has the reason of each."""
    with socket.create_server(("127.0.0.2", one.settings.port)):
        resolve_to(monkeypatch, "127.0.0.2", "127.0.0.4")
        database = Database(dataclasses.replace(one.settings, host="two.example"))
        with (
            pytest.raises(
                DatabaseUnavailable,
                match=r"the server accepted the connection and has not answered.*; .*127\.0\.0\.4.* Connection refused",
            ) as raised,
            deadline(0.4, reserve=0),
        ):
            database.ping()

    assert raised.value.retryable


def test_a_host_without_an_address_is_waited_for(one: Database) -> None:
    """The look-up of the name is repeated until the deadline, because DNS may be unavailable for a moment."""
    database = Database(dataclasses.replace(one.settings, host="nowhere.invalid"))
    with pytest.raises(DatabaseUnavailable, match=r"failed to resolve host 'nowhere\.invalid'"), deadline(1, reserve=0):
        database.ping()

    assert database.events.count("wait", "not_ready") > 0


def test_connecting_to_a_silent_server_ends_at_the_deadline(one: Database) -> None:
    """A listener that never answers behaves like a network that drops all packets."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(dataclasses.replace(one.settings, port=silent.getsockname()[1]))
        started = time.monotonic()
        with (
            pytest.raises(
                DatabaseUnavailable, match="timeout expired: the server accepted the connection and has not "
            ),
            deadline(1.5),
        ):
            database.ping()

        assert time.monotonic() - started < 4
        limited = Database(dataclasses.replace(database.settings, connect_timeout=2))
        with (  # the first attempt reaches its own limit
            pytest.raises(
                DatabaseUnavailable, match="timeout expired: the server accepted the connection and has not "
            ),
            deadline(2.5, reserve=0),
        ):
            limited.ping()


def test_a_login_that_takes_too_long_is_told_from_a_silent_server(one: Database) -> None:
    """The server has answered something, so it is neither unreachable nor paused."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as accepted:

        def answer_once() -> None:
            client = accepted.enter_context(listener.accept()[0])
            client.recv(8)
            client.sendall(b"N")  # no TLS

        server = Thread(target=answer_once)
        server.start()
        settings = dataclasses.replace(one.settings, port=listener.getsockname()[1], sslmode="prefer")
        with pytest.raises(DatabaseUnavailable, match="timeout expired during the login"), deadline(1, reserve=0):
            Database(settings).ping()
        server.join()


def test_without_a_deadline_the_connect_timeout_applies(one: Database) -> None:
    """The setting limits all attempts to connect together."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        database = Database(dataclasses.replace(one.settings, port=unused.getsockname()[1], connect_timeout=2))
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            database.ping()

    assert 0.8 < time.monotonic() - started < 4.5


def test_warming_up_opens_the_connection(one: Database) -> None:
    """The first request finds an open connection."""
    assert one.warm_up()
    assert one.events.count("connection_opened", "cold") == 1
    backend(one)
    assert one.events.count("connection_opened") == 1


def test_a_failed_warm_up_raises_no_error(
    one: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is logged, and the first request connects again."""
    monkeypatch.setattr("registration_persistence.database.health.WARM_UP_TIMEOUT_SECONDS", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        database = Database(dataclasses.replace(one.settings, port=unused.getsockname()[1]))

        assert not database.warm_up()

    assert "could not warm up, the first request will try again" in caplog.text


def test_executemany_may_exceed_the_statement_timeout(database_settings: DatabaseSettings) -> None:
    """Its answers arrive together, so a silent server is expected; for a single statement it is an error."""
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


def test_waiting_for_notifications_has_no_time_limit(database_settings: DatabaseSettings) -> None:
    """No answer of the server is pending meanwhile."""
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
    """Send rows by COPY for four seconds."""
    cursor.execute("CREATE TEMP TABLE texts (text text)")
    with cursor.copy("COPY texts FROM STDIN") as copy:
        for _ in range(200):
            copy.write_row(["x" * 40_000])  # psycopg buffers smaller rows
            time.sleep(0.02)


def late_copy_out(cursor: Cursor) -> None:
    """Receive rows by COPY for four seconds."""
    with cursor.copy("COPY (SELECT repeat('x', 10000) FROM generate_series(1, 2000)) TO STDOUT") as copy:
        for _ in copy.rows():
            time.sleep(0.02)


def late_stream(cursor: Cursor) -> None:
    """Receive rows one by one for four seconds."""
    for _ in cursor.stream("SELECT repeat('x', 10000) FROM generate_series(1, 2000)"):
        time.sleep(0.02)


def late_fetches(cursor: Cursor) -> None:
    """Receive rows for four seconds, with one FETCH statement for each."""
    cursor.execute("DECLARE numbers CURSOR FOR SELECT generate_series(1, 200)")
    for _ in range(200):
        cursor.execute("FETCH numbers")
        time.sleep(0.02)


@pytest.mark.parametrize("act", [late_copy_in, late_copy_out, late_stream, late_fetches])
def test_a_streamed_result_ends_at_the_deadline(one: Database, act: Callable[[Cursor], None]) -> None:
    """A COPY or a result that is read in pieces is ended when the deadline passes."""
    started = time.monotonic()
    with pytest.raises(psycopg.Error), deadline(1), one.session() as session:
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor() as cursor:
            act(cursor)

    assert time.monotonic() - started < 3.5
    assert one.ping().writable
