"""Lost connections: which errors are retryable, and which commits are unknown."""

import dataclasses
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from support import ADD, Rows, added, create_slow_table, terminate_backend, terminate_backend_in_commit

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.liveness import has_pending_input
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost, WriterMoved
from registration_persistence.sandbox import PostgresServer, TcpProxy, wait_until

NOTICE = b"SNOTICE\0VNOTICE\0C00000\0Mthe disk is almost full\0\0"
"""The fields of a NoticeResponse."""


def test_a_connection_lost_before_commit_kept_nothing(database: Database, rows: Rows) -> None:
    """The error is retryable, and the next session has another connection."""
    with pytest.raises(ConnectionLost) as raised, database.session() as session:
        session.execute(text(ADD))
        terminate_backend(session)
        session.execute(text(ADD))

    assert raised.value.retryable
    assert isinstance(raised.value.__cause__, psycopg.Error)
    assert added(rows) == 0


def test_a_session_recovers_from_a_lost_connection(database: Database, rows: Rows) -> None:
    """After a rollback, the same session continues with another connection."""
    with database.session() as session:
        terminate_backend(session)
        with pytest.raises(ConnectionLost):
            session.execute(text(ADD))
        session.rollback()
        session.execute(text(ADD))

    assert added(rows) == 1


def test_a_read_has_no_unknown_outcome(database_settings: DatabaseSettings, postgres_server: PostgresServer) -> None:
    """If the connection is lost, a ping or a read-only session can be repeated."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    with database.session() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    with postgres_server.connect() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert database.ping().writable, "it was replaced on checkout"
    with pytest.raises(ConnectionLost), database.session(read_only=True) as session:
        session.execute(text("SELECT 1"))
        terminate_backend(session)

    assert database.ping().writable
    database.dispose()


def test_a_connection_terminated_before_commit_is_retryable(database: Database, rows: Rows) -> None:
    """The termination is noticed before COMMIT is sent."""
    with pytest.raises(ConnectionLost) as raised, database.session() as session:
        session.execute(text(ADD))
        terminate_backend(session)

    assert raised.value.retryable
    assert database.ping().writable
    assert added(rows) == 0


def test_a_session_terminated_in_commit_kept_nothing(database: Database) -> None:
    """The id of its transaction shows that it was aborted, so the error is retryable."""
    create_slow_table(database)
    with (
        ThreadPoolExecutor(1) as threads,
        pytest.raises(ConnectionLost) as raised,
        database.session() as session,
    ):
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        session.execute(text("INSERT INTO slow VALUES (1)"))
        threads.submit(terminate_backend_in_commit, driver)

    assert raised.value.retryable
    assert database.ping().writable
    assert database.events.count("commit_resolved", "not_kept") == 1


def test_a_connection_lost_in_autocommit_has_an_unknown_outcome(database: Database) -> None:
    """The statement may have been committed before its answer was lost."""
    with pytest.raises(CommitOutcomeUnknown), database.session(autocommit=True) as session:
        session.execute(text("SELECT 1"))
        terminate_backend(session)
        session.execute(text(ADD))


@pytest.mark.parametrize("next_step", ["statement", "COMMIT"])
def test_an_idle_transaction_is_ended_by_the_server(database_settings: DatabaseSettings, next_step: str) -> None:
    """The session loses its connection and its locks, and it is certain that nothing was committed."""
    database = Database(dataclasses.replace(database_settings, idle_in_transaction_timeout=0.2))
    with pytest.raises(ConnectionLost), database.session() as session:
        session.execute(text(ADD))
        with database.engine.connect() as other:
            other.execute(text("SELECT pg_sleep(0.6)"))
        if next_step == "statement":
            session.execute(text(ADD))
    database.dispose()


def test_a_demoted_writer_is_replaced(database: Database, rows: Rows) -> None:
    """A write on a demoted server raises `WriterMoved`, and the connection is not used again."""
    with pytest.raises(WriterMoved) as raised, database.session(autocommit=True) as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        session.execute(text(ADD))

    assert raised.value.retryable
    with database.session() as session:
        assert first != session.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text(ADD))
    assert added(rows) == 1
    assert database.events.count("connection_opened", "writer_moved") == 1


def test_a_read_only_connection_is_replaced_at_checkout(database: Database, rows: Rows) -> None:
    """The server has reported the change with an earlier answer, so no round trip is needed."""
    with database.session() as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))

    with database.session() as session:
        session.execute(text(ADD))
        assert first != session.scalar(text("SELECT pg_backend_pid()"))
    assert added(rows) == 1


def test_a_read_only_transaction_keeps_its_connection(database: Database, rows: Rows) -> None:
    """If the service itself set the transaction to read-only, the connection is kept."""
    with database.session() as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
    with pytest.raises(InternalError, match="read-only transaction"), database.session() as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.execute(text(ADD))

    with database.session() as session:
        assert first == session.scalar(text("SELECT pg_backend_pid()"))
    assert added(rows) == 0


@pytest.mark.parametrize(
    ("autocommit", "statement", "error"),
    [(True, ADD, CommitOutcomeUnknown), (True, "SELECT 2", ConnectionLost), (False, ADD, ConnectionLost)],
)
def test_a_broken_socket_is_a_lost_connection(
    database: Database, *, autocommit: bool, statement: str, error: type[Exception]
) -> None:
    """This holds also if psycopg notices it before libpq, and reports the connection neither closed nor broken."""
    with pytest.raises(error), database.session(autocommit=autocommit) as session:
        session.execute(text("SELECT 1"))
        driver: Any = session.connection().connection.dbapi_connection
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, driver.fileno())
        os.close(writer)
        session.execute(text(statement))

    with database.session() as session:
        assert session.scalar(text("SELECT 3")) == 3


def test_a_ping_with_a_lost_answer_is_retryable(database_settings: DatabaseSettings) -> None:
    """A ping only reads, so it has no unknown outcome, although it is in autocommit."""
    with TcpProxy(database_settings.host, database_settings.port) as proxy:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable")
        database = Database(dataclasses.replace(here, pool="lambda"))
        with proxy.lose_replies(1.0), pytest.raises(ConnectionLost):
            database.ping()
        assert database.ping().writable
        database.dispose()


def test_a_notice_before_commit_loses_nothing(database_settings: DatabaseSettings, rows: Rows) -> None:
    """A notice makes the socket readable, so the server is asked inside the transaction, and COMMIT is sent."""
    with TcpProxy(database_settings.host, database_settings.port) as proxy:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable")
        database = Database(dataclasses.replace(here, pool="lambda"))
        with database.session() as session:
            session.execute(text(ADD))
            driver = session.connection().connection.dbapi_connection
            assert isinstance(driver, psycopg.Connection)
            assert not has_pending_input(driver)
            (connection,) = proxy._open_connections
            connection.ends[0].sendall(b"N" + struct.pack("!i", 4 + len(NOTICE)) + NOTICE)
            wait_until(lambda: has_pending_input(driver), "the socket is readable")

        assert added(rows) == 1
        assert database.events.count("connection_opened") == 1
        database.dispose()


def test_an_idle_session_timeout_is_retryable(database: Database, rows: Rows) -> None:
    """A statement that gets 57P05 was not executed, also in autocommit, and the one before stays."""
    with pytest.raises(ConnectionLost, match="57P05"), database.session(autocommit=True) as session:
        session.execute(text("SET idle_session_timeout = '100ms'"))
        session.execute(text(ADD))
        time.sleep(0.5)
        session.execute(text(ADD))

    assert added(rows) == 1


def test_abort_connections_ends_a_running_statement(database: Database, rows: Rows) -> None:
    """The statement in another thread raises `ConnectionLost`, and the next unit of work opens a new connection."""
    errors: list[Exception] = []

    def wait() -> None:
        try:
            with database.session() as session:
                session.execute(text(ADD))
                session.execute(text("SELECT pg_sleep(10)"))
        except RegistrationPersistenceError as error:
            errors.append(error)

    thread = Thread(target=wait)
    thread.start()
    sleeping = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(10)'"
    wait_until(lambda: rows(sleeping), "the statement is under way")
    database.abort_connections()
    thread.join(5)

    assert not thread.is_alive()
    assert [ConnectionLost] == [type(error) for error in errors]
    assert added(rows) == 0


def test_abort_connections_continues_after_a_dead_connection(
    database_settings: DatabaseSettings, postgres_server: PostgresServer
) -> None:
    """A connection whose peer has reset it while a statement is running raises nothing, and the others are closed."""
    database = Database(dataclasses.replace(database_settings, pool_size=4))
    connections = [database.engine.connect() for _ in range(4)]
    drivers = [driver_connection(connection) for connection in connections]
    dead = drivers[1]
    dead.pgconn.send_query(b"SELECT pg_sleep(10)")
    running = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
    with postgres_server.connect() as other:
        wait_until(lambda: other.execute(running, [dead.info.backend_pid]).fetchall(), "the statement is running")
        os.write(dead.fileno(), b"S\0\0\0\4")  # unread data, so that the end of the backend resets the connection
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [dead.info.backend_pid])
    database.abort_connections()

    assert [driver.closed for driver in drivers if driver is not dead] == [True] * 3
    for connection in connections:
        connection.invalidate()
        connection.close()
    database.dispose()
