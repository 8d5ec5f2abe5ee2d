"""`Database.session`: when it commits, what it refuses, and what a lost connection means."""

import dataclasses
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, InternalError, InvalidRequestError
from support import ADD, Rows, added, create_slow_table, terminate_backend, terminate_backend_in_commit

from registration_persistence import (
    Database,
    DatabaseSettings,
    RegistrationPersistenceError,
    RegistrationRepository,
    deadline,
)
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    LockTimeout,
    PoolExhausted,
    SchemaOutdated,
    StatementTimeout,
    TransactionAborted,
    TransactionConflict,
    WriterMoved,
)
from registration_persistence.models import OutboxRow
from registration_persistence.sandbox import PostgresServer, TcpProxy


def test_commits_on_a_clean_exit(database: Database, rows: Rows) -> None:
    """What the block wrote is there afterwards."""
    with database.session() as session:
        session.execute(text(ADD))
        assert added(rows) == 0

    assert added(rows) == 1


def test_rolls_back_when_the_block_raises(database: Database, rows: Rows) -> None:
    """The block's own exception comes out as it is, and nothing was written."""
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as raised, database.session() as session:
        session.execute(text(ADD))
        raise error

    assert error is raised.value
    assert added(rows) == 0


def test_does_not_mask_the_error_of_the_block(database: Database) -> None:
    """Where rolling back fails too, the first error is the one that comes out."""
    with pytest.raises(ZeroDivisionError), database.session() as session:
        terminate_backend(session)
        _ = 1 / 0


def test_autocommit_commits_each_statement(database: Database, rows: Rows) -> None:
    """A later error takes nothing back."""
    with pytest.raises(ZeroDivisionError), database.session(autocommit=True) as session:
        session.execute(text(ADD))
        _ = 1 / 0

    assert added(rows) == 1


def test_modes_do_not_stay_with_the_connection(database_settings: DatabaseSettings, rows: Rows) -> None:
    """On the one connection of a Lambda, an autocommit or read-only session leaves no trace on the next."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    for options in ({"autocommit": True}, {"read_only": True}):
        with database.session(**options) as session:
            session.execute(text("SELECT 1"))
        with pytest.raises(ZeroDivisionError), database.session() as session:
            session.execute(text(ADD))
            _ = 1 / 0
    database.dispose()

    assert added(rows) == 0


def test_a_read_only_session_cannot_write(database: Database, rows: Rows) -> None:
    """The server refuses, and the refusal is not mistaken for a writer that has moved."""
    with pytest.raises(InternalError, match="read-only transaction"), database.session(read_only=True) as session:
        session.execute(text(ADD))

    assert added(rows) == 0


def test_autocommit_and_read_only_exclude_each_other(database: Database) -> None:
    """Asking for both is refused with the reason."""
    with pytest.raises(ValueError, match="exclude each other"), database.session(autocommit=True, read_only=True):
        pass


def test_a_swallowed_error_does_not_pass_for_a_commit(database: Database, rows: Rows) -> None:
    """PostgreSQL turns COMMIT into ROLLBACK after a failed statement; that is said instead of losing the work."""
    with pytest.raises(TransactionAborted, match="nothing was kept"), database.session() as session:
        session.execute(text(ADD))
        with pytest.raises(Exception, match="division by zero"):
            session.execute(text("SELECT 1 / 0"))

    assert added(rows) == 0


def test_plain_sqlalchemy_is_told_too(database: Database) -> None:
    """The engine itself refuses to commit an aborted transaction."""
    with database.engine.connect() as connection:
        with pytest.raises(Exception, match="division by zero"):
            connection.execute(text("SELECT 1 / 0"))
        with pytest.raises(TransactionAborted):
            connection.commit()


def test_objects_stay_readable_after_the_session(database: Database, rows: Rows) -> None:
    """Models loaded in a session can be read when it has closed."""
    with database.session() as session:
        session.execute(text(ADD))
        message = session.query(OutboxRow).one()

    assert message.type == "test"
    assert repr(message) == f"<OutboxRow {message.event_id!r}>"
    assert added(rows) == 1


def test_a_connection_lost_before_commit_wrote_nothing(database: Database, rows: Rows) -> None:
    """The error says that the work can be repeated, and the next session has another connection."""
    with pytest.raises(ConnectionLost) as raised, database.session() as session:
        session.execute(text(ADD))
        terminate_backend(session)
        session.execute(text(ADD))

    assert raised.value.retryable
    assert isinstance(raised.value.__cause__, psycopg.Error)
    assert added(rows) == 0


def test_a_session_recovers_from_a_lost_connection(database: Database, rows: Rows) -> None:
    """After rolling back, the same session goes on with another connection."""
    with database.session() as session:
        terminate_backend(session)
        with pytest.raises(ConnectionLost):
            session.execute(text(ADD))
        session.rollback()
        session.execute(text(ADD))

    assert added(rows) == 1


def test_a_swallowed_loss_does_not_pass_for_a_commit(database: Database, rows: Rows) -> None:
    """A block that goes on after its connection was lost is told that nothing was kept."""
    with pytest.raises(TransactionAborted, match="nothing was kept"), database.session() as session:
        session.execute(text(ADD))
        terminate_backend(session)
        with pytest.raises(ConnectionLost):
            session.execute(text(ADD))

    assert added(rows) == 0


def test_a_swallowed_loss_in_autocommit_does_not_claim_that_nothing_was_kept(database: Database, rows: Rows) -> None:
    """The statements before the one that was lost are there, and the error says so."""
    with pytest.raises(CommitOutcomeUnknown, match="before it were"), database.session(autocommit=True) as session:
        session.execute(text(ADD))
        terminate_backend(session)
        with pytest.raises(CommitOutcomeUnknown):
            session.execute(text(ADD))

    assert added(rows) == 1


def test_a_swallowed_flush_error_is_told(database: Database, rows: Rows) -> None:
    """The ORM's own roll-back after a failed flush does not pass for a commit either."""
    message = {"event_id": uuid4(), "registration_id": uuid4(), "type": "test", "attempts": -1}
    with pytest.raises(TransactionAborted, match="nothing was kept"), database.session() as session:
        session.execute(text(ADD))
        session.add(OutboxRow(**message))
        with pytest.raises(IntegrityError):
            session.flush()

    assert added(rows) == 0


def test_a_database_that_was_not_migrated_says_what_to_run(database: Database, postgres_server: PostgresServer) -> None:
    """A missing table or column is an error of its own."""
    empty = f"empty_{uuid4().hex}"
    postgres_server.create_database(empty, owner=database.settings.user)
    stranger = Database(dataclasses.replace(database.settings, name=empty))
    with pytest.raises(SchemaOutdated, match="does not exist"), stranger.session() as session:
        RegistrationRepository(session).register("ada@example.com")
    stranger.dispose()
    postgres_server.drop_database(empty)


def test_a_swallowed_error_in_a_savepoint_is_told(database: Database, rows: Rows) -> None:
    """The statement after it is refused as one of a transaction that has ended."""
    with pytest.raises(TransactionAborted), database.session() as session, session.begin_nested():
        with pytest.raises(Exception, match="division by zero"):
            session.execute(text("SELECT 1 / 0"))
        session.execute(text(ADD))

    assert added(rows) == 0


def test_what_only_reads_has_no_unknown_outcome(
    database_settings: DatabaseSettings, postgres_server: PostgresServer
) -> None:
    """A ping, and a read-only session, that lose their connection may be repeated."""
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


def test_a_session_that_has_ended_stays_so(database: Database) -> None:
    """Using it after its block is an error, not a transaction that nobody will commit."""
    with database.session() as session:
        session.execute(text(ADD))

    with pytest.raises(InvalidRequestError, match="closed"):
        session.execute(text(ADD))


def test_the_servers_habits_do_not_matter(
    database: Database, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dates are read, and text is sent, whatever the role's date format and libpq's environment say."""
    role, name = database.settings.user, database.settings.name
    with postgres_server.connect() as connection:
        connection.execute(f"ALTER ROLE {role} IN DATABASE {name} SET datestyle = 'German'")
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")

    with database.session(autocommit=True) as session:
        registrations = RegistrationRepository(session)
        made = registrations.register("zo\u00eb@example.com").registration
        assert made == registrations.get(made.id)


def test_a_connection_that_is_lost_while_commit_waits_kept_nothing(database: Database, rows: Rows) -> None:
    """The server's goodbye is seen before COMMIT is sent, so the work may be repeated."""
    with pytest.raises(ConnectionLost) as raised, database.session() as session:
        session.execute(text(ADD))
        terminate_backend(session)

    assert raised.value.retryable
    assert database.ping().writable
    assert added(rows) == 0


def test_a_connection_lost_in_commit_leaves_it_open(database: Database) -> None:
    """Nobody can know whether the commit was kept, so the error does not invite to repeat it."""
    create_slow_table(database)
    with (
        ThreadPoolExecutor(1) as threads,
        pytest.raises(CommitOutcomeUnknown) as raised,
        database.session() as session,
    ):
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        session.execute(text("INSERT INTO slow VALUES (1)"))
        threads.submit(terminate_backend_in_commit, driver)

    assert not raised.value.retryable
    assert database.ping().writable


def test_a_connection_lost_in_autocommit_leaves_it_open(database: Database) -> None:
    """A statement that commits by itself may have done so before the answer was lost."""
    with pytest.raises(CommitOutcomeUnknown), database.session(autocommit=True) as session:
        session.execute(text("SELECT 1"))
        terminate_backend(session)
        session.execute(text(ADD))


def test_a_failed_commit_is_no_unknown_outcome(database: Database) -> None:
    """A constraint that is checked at COMMIT refuses it; that is certain, and comes out as what it is."""
    with database.session() as session:
        session.execute(text("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    with pytest.raises(IntegrityError, match="duplicate key"), database.session() as session:
        session.execute(text("INSERT INTO late VALUES (1), (1)"))

    assert database.ping().writable


@pytest.fixture
def hasty(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database whose limits are short."""
    made = Database(dataclasses.replace(database_settings, statement_timeout=0.4, lock_timeout=0.2))
    yield made
    made.dispose()


def test_a_statement_that_takes_too_long_is_ended(hasty: Database) -> None:
    """The limit of the settings is the server's."""
    with pytest.raises(StatementTimeout) as raised, hasty.session() as session:
        session.execute(text("SELECT pg_sleep(20)"))

    assert not raised.value.retryable


def test_a_lock_that_is_not_given_up_is_not_awaited_for_ever(hasty: Database, database: Database) -> None:
    """The wait ends with an error that invites to try again."""
    with database.session() as holder:
        holder.execute(text("LOCK TABLE outbox"))
        with pytest.raises(LockTimeout) as raised, hasty.session() as session:
            session.execute(text(ADD))

    assert raised.value.retryable


@pytest.mark.parametrize("next_step", ["statement", "COMMIT"])
def test_a_forgotten_transaction_is_ended_by_the_server(database_settings: DatabaseSettings, next_step: str) -> None:
    """A session that stays idle in a transaction loses its connection and locks, and certainly wrote nothing."""
    database = Database(dataclasses.replace(database_settings, idle_in_transaction_timeout=0.2))
    with pytest.raises(ConnectionLost), database.session() as session:
        session.execute(text(ADD))
        with database.engine.connect() as other:
            other.execute(text("SELECT pg_sleep(0.6)"))
        if next_step == "statement":
            session.execute(text(ADD))
    database.dispose()


def test_a_deadlock_can_be_retried(database: Database) -> None:
    """The transaction that the server sacrifices hears so."""
    with database.session() as session:
        session.execute(text("CREATE TABLE pair (n int PRIMARY KEY, v int)"))
        session.execute(text("INSERT INTO pair VALUES (1, 0), (2, 0)"))
    outcomes: list[type[Exception] | None] = []

    def cross(first: int, second: int) -> None:
        try:
            with database.session() as session:
                session.execute(text(f"UPDATE pair SET v = v + 1 WHERE n = {first}"))
                session.execute(text("SELECT pg_sleep(0.3)"))
                session.execute(text(f"UPDATE pair SET v = v + 1 WHERE n = {second}"))
            outcomes.append(None)
        except RegistrationPersistenceError as error:
            outcomes.append(type(error))

    threads = [Thread(target=cross, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {None, TransactionConflict} == set(outcomes)


def test_a_writer_that_became_a_reader_is_left(database: Database, rows: Rows) -> None:
    """A refused write on a demoted server says so, and the connection is not used again."""
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


def test_a_read_only_connection_is_not_handed_out(database: Database, rows: Rows) -> None:
    """What the server said of itself is known at the next checkout, without a round trip."""
    with database.session() as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))

    with database.session() as session:
        session.execute(text(ADD))
        assert first != session.scalar(text("SELECT pg_backend_pid()"))
    assert added(rows) == 1


def test_a_transaction_that_made_itself_read_only_is_left_alone(database: Database, rows: Rows) -> None:
    """Its refused write is the service's own doing, and the connection stays."""
    with database.session() as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
    with pytest.raises(InternalError, match="read-only transaction"), database.session() as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.execute(text(ADD))

    with database.session() as session:
        assert first == session.scalar(text("SELECT pg_backend_pid()"))
    assert added(rows) == 0


def test_one_connection_is_not_handed_out_twice(database_settings: DatabaseSettings) -> None:
    """In `lambda` mode a session inside a session is refused at once, with what to do instead."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    with database.session() as outer:
        outer.execute(text("SELECT 1"))
        with pytest.raises(PoolExhausted, match="use the session that is open"), database.session() as inner:
            inner.execute(text("SELECT 1"))
        assert outer.scalar(text("SELECT 2")) == 2
    database.dispose()


def test_a_pool_that_is_exhausted_says_so(database_settings: DatabaseSettings) -> None:
    """In `service` mode the error names the pool's size and the setting."""
    database = Database(dataclasses.replace(database_settings, pool_size=2, connect_timeout=2))
    with database.session() as first, database.session() as second:
        first.execute(text("SELECT 1"))
        second.execute(text("SELECT 1"))
        with (
            pytest.raises(PoolExhausted, match=r"all 2 connections .* APP_DATABASE_POOL_SIZE"),
            database.session() as third,
        ):
            third.execute(text("SELECT 1"))
    database.dispose()


def test_a_lambda_keeps_its_connection(database_settings: DatabaseSettings) -> None:
    """Invocation after invocation, the backend is the same."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    backends = set()
    for _ in range(5):
        with database.session() as session:
            backends.add(session.scalar(text("SELECT pg_backend_pid()")))
    database.dispose()

    assert len(backends) == 1


def test_behind_a_pooler_nothing_is_kept(database_settings: DatabaseSettings) -> None:
    """In `proxy` mode each session connects anew, prepares nothing, and sends no startup options."""
    database = Database(dataclasses.replace(database_settings, pool="proxy", statement_timeout=1))
    backends = set()
    for _ in range(3):
        with database.session() as session:
            for _ in range(8):
                backends.add(session.scalar(text("SELECT pg_backend_pid()")))
            assert session.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
            assert session.scalar(text("SHOW statement_timeout")) == "0"

    assert len(backends) == 3


SETTINGS: list[tuple[str, Callable[[DatabaseSettings], Any]]] = [
    ("application_name", lambda settings: settings.application_name),
    ("statement_timeout", lambda settings: f"{settings.statement_timeout:g}s"),
    ("lock_timeout", lambda settings: f"{settings.lock_timeout:g}s"),
    ("idle_in_transaction_session_timeout", lambda settings: f"{settings.idle_in_transaction_timeout:g}s"),
]


def test_the_server_knows_the_settings(database_settings: DatabaseSettings) -> None:
    """Name and time limits reach every connection with its first packet."""
    settings = dataclasses.replace(
        database_settings,
        application_name="sign-up:7",
        statement_timeout=7,
        lock_timeout=3,
        idle_in_transaction_timeout=9,
    )
    database = Database(settings)
    with database.session() as session:
        assert [value(settings) for _, value in SETTINGS] == [
            session.scalar(text(f"SHOW {name}")) for name, _ in SETTINGS
        ]
    database.dispose()


def test_libpq_watches_over_the_network(database: Database) -> None:
    """A dead peer is noticed: keepalives while idle, `tcp_user_timeout` while something is under way."""
    with database.session() as session:
        session.execute(text("SELECT 1"))
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        given = driver.info.get_parameters()

    expected = {
        "keepalives_idle": "30",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "5000",
    }
    assert expected == {name: given.get(name) for name in expected}
    assert given["target_session_attrs"] == "read-write"


def test_ping_says_what_it_found(database: Database) -> None:
    """The server's version, that it accepts writes, and whether TLS is in use."""
    health = database.ping()

    assert health.writable
    assert not health.encrypted
    assert re.match(r"\d+\.\d+", health.server_version)


def test_repr_names_the_database_and_nothing_else(database: Database) -> None:
    """No user and no password."""
    settings = database.settings
    assert f"<Database {settings.name} at {settings.host}:{settings.port}>" == repr(database)
    assert str(settings.password) not in f"{database.engine.url!r} {settings!r} {database.credentials!r}"


def test_a_broken_constraint_does_not_quote_the_row(database: Database) -> None:
    """The server's DETAIL holds the row, so the error's text goes without it; `diag` still has it."""
    email = "ada@example.com"
    with database.session() as session:
        made = RegistrationRepository(session).register(email).registration
    with pytest.raises(IntegrityError) as raised, database.session() as session:
        session.execute(text("UPDATE registrations SET email_key = upper(email_key) WHERE id = :id"), {"id": made.id})

    assert "ck_registrations_email_key_lower" in str(raised.value)
    assert email not in str(raised.value).lower()
    assert isinstance(raised.value.orig, psycopg.Error)
    assert email.upper() in str(raised.value.orig.diag.message_detail)


@pytest.mark.parametrize(("autocommit", "error"), [(True, CommitOutcomeUnknown), (False, ConnectionLost)])
def test_a_socket_that_breaks_is_a_lost_connection(
    database: Database, *, autocommit: bool, error: type[Exception]
) -> None:
    """Also where the driver sees it before libpq does and calls the connection neither closed nor broken."""
    with pytest.raises(error), database.session(autocommit=autocommit) as session:
        session.execute(text("SELECT 1"))
        driver: Any = session.connection().connection.dbapi_connection
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, driver.fileno())
        os.close(writer)
        session.execute(text("SELECT 2"))

    with database.session() as session:
        assert session.scalar(text("SELECT 3")) == 3


@pytest.mark.parametrize("refusal", ["late", "aborted"])
def test_a_commit_that_was_refused_is_not_made_by_the_next(
    database_settings: DatabaseSettings, rows: Rows, refusal: str
) -> None:
    """On plain SQLAlchemy, too, the connection goes back to the pool without a transaction."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    with database.engine.connect() as connection:
        connection.execute(text(ADD))
        if refusal == "aborted":
            with pytest.raises(DataError):
                connection.execute(text("SELECT 1 / 0"))
        with pytest.raises((StatementTimeout, TransactionAborted)), deadline(0 if refusal == "late" else 60):
            connection.commit()
    with database.session() as session:
        session.execute(text("SELECT 1"))
    database.dispose()

    assert added(rows) == 0


def test_what_was_committed_before_is_not_denied(database: Database, rows: Rows) -> None:
    """A block that commits by itself and then swallows an error is told about the rest alone."""
    with pytest.raises(TransactionAborted, match="what it had committed before was"), database.session() as session:
        session.execute(text(ADD))
        session.commit()
        session.execute(text("SELECT 1"))
        terminate_backend(session)
        with pytest.raises(ConnectionLost):
            session.execute(text(ADD))

    assert added(rows) == 1


def test_a_swallowed_commit_of_unknown_outcome_stays_one(database_settings: DatabaseSettings) -> None:
    """Nothing that follows makes it known."""
    with TcpProxy(database_settings.host, database_settings.port) as proxy:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable")
        database = Database(dataclasses.replace(here, pool="lambda"))
        with pytest.raises(CommitOutcomeUnknown), database.session() as session:
            session.execute(text(ADD))
            with proxy.lose_replies(1.0), pytest.raises(CommitOutcomeUnknown):
                session.commit()
        database.dispose()


def test_a_swallowed_flush_error_in_autocommit_is_no_lost_connection(database: Database, rows: Rows) -> None:
    """What the flush had stored before stays, and the error says so."""
    message = {"event_id": uuid4(), "registration_id": uuid4(), "type": "test", "attempts": -1}
    with (
        pytest.raises(TransactionAborted, match="what it had committed before was"),
        database.session(autocommit=True) as session,
    ):
        session.execute(text(ADD))
        session.add(OutboxRow(**message))
        with pytest.raises(IntegrityError):
            session.flush()

    assert added(rows) == 1


def test_a_ping_whose_answer_is_lost_may_be_repeated(database_settings: DatabaseSettings) -> None:
    """It reads only, so there is no unknown outcome, although it is in autocommit."""
    with TcpProxy(database_settings.host, database_settings.port) as proxy:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable")
        database = Database(dataclasses.replace(here, pool="lambda"))
        with proxy.lose_replies(1.0), pytest.raises(ConnectionLost):
            database.ping()
        assert database.ping().writable
        database.dispose()


def test_what_the_server_says_before_a_commit_is_no_end(database: Database, rows: Rows) -> None:
    """A notification makes the socket readable: the server is asked, answers, and the commit is made."""
    with database.session(autocommit=True) as session:
        session.execute(text("LISTEN news"))
        backend = session.scalar(text("SELECT pg_backend_pid()"))
    with database.session() as session:
        assert backend == session.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text(ADD))
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        with psycopg.connect(driver.info.dsn, password=driver.info.password, autocommit=True) as other:
            other.execute("NOTIFY news")
        time.sleep(0.2)

    assert added(rows) == 1
    assert database.events.count("connection_opened", "lost") == 0


def test_a_session_that_was_ended_for_idling_did_nothing_more(database: Database, rows: Rows) -> None:
    """Also in autocommit: the statement that meets 57P05 was never looked at, and the one before stays."""
    with pytest.raises(ConnectionLost, match="57P05"), database.session(autocommit=True) as session:
        session.execute(text("SET idle_session_timeout = '100ms'"))
        session.execute(text(ADD))
        time.sleep(0.5)
        session.execute(text(ADD))

    assert added(rows) == 1


def test_closing_hangs_up_on_who_waits(database: Database, rows: Rows) -> None:
    """A statement in another thread ends as a lost connection, and the next unit of work opens another."""
    met: list[Exception] = []

    def wait() -> None:
        try:
            with database.session() as session:
                session.execute(text(ADD))
                session.execute(text("SELECT pg_sleep(10)"))
        except RegistrationPersistenceError as error:
            met.append(error)

    thread = Thread(target=wait)
    thread.start()
    while not rows("SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(10)'"):
        time.sleep(0.02)
    database.abort_connections()
    thread.join(5)

    assert not thread.is_alive()
    assert [ConnectionLost] == [type(error) for error in met]
    assert added(rows) == 0
