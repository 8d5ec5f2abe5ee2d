"""Tests of `Database.session`: commit, rollback, autocommit and read-only sessions."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError, InvalidRequestError
from sqlalchemy.orm import Session
from support import ADD, Rows, added, terminate_backend

from registration_persistence import Database, DatabaseSettings, deadline
from registration_persistence.models import OutboxRow


def test_commits_on_a_clean_exit(database: Database, rows: Rows) -> None:
    """The rows that the block has written are committed."""
    with database.session() as session:
        session.execute(text(ADD))
        assert added(rows) == 0

    assert added(rows) == 1


def test_rolls_back_when_the_block_raises(database: Database, rows: Rows) -> None:
    """The exception of the block is raised unchanged, and nothing is committed."""
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as raised, database.session() as session:
        session.execute(text(ADD))
        raise error

    assert error is raised.value
    assert added(rows) == 0


def test_does_not_mask_the_error_of_the_block(database: Database) -> None:
    """If the rollback fails too, the exception of the block is raised."""
    with pytest.raises(ZeroDivisionError), database.session() as session:
        terminate_backend(session)
        _ = 1 / 0


def test_a_rollback_that_psycopg_forbids_does_not_mask_the_error_of_the_block(database: Database, rows: Rows) -> None:
    """Psycopg rejects a rollback inside its own block; the exception of the session's block is raised."""
    with pytest.raises(ZeroDivisionError), database.session() as session:
        session.execute(text(ADD))
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        block = driver.transaction()
        block.__enter__()
        _ = 1 / 0

    assert added(rows) == 0
    assert database.ping().writable


def test_autocommit_commits_each_statement(database: Database, rows: Rows) -> None:
    """A later error does not undo earlier statements."""
    with pytest.raises(ZeroDivisionError), database.session(autocommit=True) as session:
        session.execute(text(ADD))
        _ = 1 / 0

    assert added(rows) == 1


def test_modes_do_not_stay_with_the_connection(database_settings: DatabaseSettings, rows: Rows) -> None:
    """With one connection, an autocommit or read-only session does not affect the next session."""
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
    """The server rejects the write, the error is not mistaken for a failover, and a note has the fix."""
    with (
        pytest.raises(InternalError, match="read-only transaction") as raised,
        database.session(read_only=True) as session,
    ):
        session.execute(text(ADD))

    assert ["The service made this transaction read-only: to write, open the session without read_only=True."] == (
        raised.value.__notes__
    )
    assert added(rows) == 0


def test_autocommit_and_read_only_exclude_each_other(database: Database) -> None:
    """The error has the reason."""
    with (
        pytest.raises(ValueError, match="are both true: expected one"),
        database.session(autocommit=True, read_only=True),
    ):
        pass


def test_objects_stay_readable_after_the_session(database: Database, rows: Rows) -> None:
    """ORM objects that were loaded in a session can be read after it has closed."""
    with database.session() as session:
        session.execute(text(ADD))
        message = session.query(OutboxRow).one()

    assert message.type == "test"
    assert repr(message) == f"<OutboxRow {message.event_id!r}>"
    assert added(rows) == 1


def test_a_session_cannot_be_used_after_its_block(database: Database) -> None:
    """A statement raises an error instead of starting a transaction that nobody would commit."""
    with database.session() as session:
        session.execute(text(ADD))

    with pytest.raises(InvalidRequestError, match="closed"):
        session.execute(text(ADD))


def test_a_deadline_of_another_context_is_rejected(database: Database) -> None:
    """The session refuses the first statement, and works where its deadline applies."""

    def dependency() -> Iterator[Session]:
        with deadline(5), database.session() as session:
            yield session

    generator = dependency()
    session = copy_context().run(next, generator)
    with pytest.raises(RuntimeError, match="inside a deadline of another thread or context"):
        session.execute(text("SELECT 1"))
    with pytest.raises(StopIteration):
        next(generator)
    assert database.events.count("connection_opened") == 0

    with deadline(5), database.session() as session, ThreadPoolExecutor(1) as threads:
        with pytest.raises(RuntimeError):
            threads.submit(session.scalar, text("SELECT 1")).result()
        session.rollback()
        read = partial(session.scalar, text("SELECT 1"))
        assert threads.submit(copy_context().run, read).result() == 1
        with deadline(3):
            assert session.scalar(text("SELECT 2")) == 2


def test_a_deadline_that_has_ended_does_not_matter(database: Database) -> None:
    """A session may outlive the block of a deadline, and may be used in another thread without one."""
    with ExitStack() as stack:
        with deadline(5):
            session = stack.enter_context(database.session())
        assert session.scalar(text("SELECT 1")) == 1
    with database.session() as session, ThreadPoolExecutor(1) as threads:
        assert threads.submit(session.scalar, text("SELECT 1")).result() == 1
