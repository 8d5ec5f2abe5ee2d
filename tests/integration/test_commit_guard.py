"""A failed transaction is never reported as committed, even if the block of the session swallows the error."""

import dataclasses
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError
from support import ADD, Rows, added, terminate_backend

from registration_persistence import Database, DatabaseSettings, deadline
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost, StatementTimeout, TransactionAborted
from registration_persistence.models import OutboxRow
from registration_persistence.sandbox import TcpProxy


def test_a_swallowed_error_is_not_committed(database: Database, rows: Rows) -> None:
    """PostgreSQL turns the COMMIT of a failed transaction into ROLLBACK, which raises an error."""
    with pytest.raises(TransactionAborted, match="nothing was kept"), database.session() as session:
        session.execute(text(ADD))
        with pytest.raises(Exception, match="division by zero"):
            session.execute(text("SELECT 1 / 0"))

    assert added(rows) == 0


def test_the_engine_rejects_the_commit_of_a_failed_transaction(database: Database) -> None:
    """Without `Database.session`, `commit` raises the same error."""
    with database.engine.connect() as connection:
        with pytest.raises(Exception, match="division by zero"):
            connection.execute(text("SELECT 1 / 0"))
        with pytest.raises(TransactionAborted):
            connection.commit()


def test_a_swallowed_loss_is_not_committed(database: Database, rows: Rows) -> None:
    """If the block continues after its connection was lost, the error says that nothing was kept."""
    with pytest.raises(TransactionAborted, match="nothing was kept"), database.session() as session:
        session.execute(text(ADD))
        terminate_backend(session)
        with pytest.raises(ConnectionLost):
            session.execute(text(ADD))

    assert added(rows) == 0


def test_a_swallowed_loss_in_autocommit_keeps_earlier_statements(database: Database, rows: Rows) -> None:
    """The statements before the lost one are committed, and the error says so."""
    with pytest.raises(CommitOutcomeUnknown, match="before it were"), database.session(autocommit=True) as session:
        session.execute(text(ADD))
        terminate_backend(session)
        with pytest.raises(CommitOutcomeUnknown):
            session.execute(text(ADD))

    assert added(rows) == 1


def test_a_swallowed_flush_error_is_not_committed(database: Database, rows: Rows) -> None:
    """The rollback of the ORM after a failed flush raises an error at the end of the block."""
    message = {"event_id": uuid4(), "registration_id": uuid4(), "type": "test", "attempts": -1}
    with pytest.raises(TransactionAborted, match="nothing was kept"), database.session() as session:
        session.execute(text(ADD))
        session.add(OutboxRow(**message))
        with pytest.raises(IntegrityError):
            session.flush()

    assert added(rows) == 0


def test_a_swallowed_error_in_a_savepoint_is_not_committed(database: Database, rows: Rows) -> None:
    """The next statement raises an error, because its transaction has failed."""
    with pytest.raises(TransactionAborted), database.session() as session, session.begin_nested():
        with pytest.raises(Exception, match="division by zero"):
            session.execute(text("SELECT 1 / 0"))
        session.execute(text(ADD))

    assert added(rows) == 0


@pytest.mark.parametrize("cause", ["late", "aborted"])
def test_a_rejected_commit_is_rolled_back(database_settings: DatabaseSettings, rows: Rows, cause: str) -> None:
    """Without `Database.session`, the connection also returns to the pool without an open transaction."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    with database.engine.connect() as connection:
        connection.execute(text(ADD))
        if cause == "aborted":
            with pytest.raises(DataError):
                connection.execute(text("SELECT 1 / 0"))
        with pytest.raises((StatementTimeout, TransactionAborted)), deadline(0 if cause == "late" else 60):
            connection.commit()
    with database.session() as session:
        session.execute(text("SELECT 1"))
    database.dispose()

    assert added(rows) == 0


def test_the_error_mentions_earlier_commits(database: Database, rows: Rows) -> None:
    """If a block commits and then swallows an error, the message says that the earlier commit was kept."""
    with pytest.raises(TransactionAborted, match="what it had committed before was"), database.session() as session:
        session.execute(text(ADD))
        session.commit()
        session.execute(text("SELECT 1"))
        terminate_backend(session)
        with pytest.raises(ConnectionLost):
            session.execute(text(ADD))

    assert added(rows) == 1


def test_a_swallowed_unknown_commit_is_raised_again(database_settings: DatabaseSettings) -> None:
    """The end of the block raises `CommitOutcomeUnknown` again."""
    with TcpProxy(database_settings.host, database_settings.port) as proxy:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable")
        database = Database(dataclasses.replace(here, pool="lambda", connect_timeout=2))
        with pytest.raises(CommitOutcomeUnknown), database.session() as session:
            session.execute(text(ADD))
            with proxy.lose_replies(1.0), pytest.raises(CommitOutcomeUnknown):
                session.commit()
        database.dispose()


def test_a_swallowed_flush_error_in_autocommit_is_no_lost_connection(database: Database, rows: Rows) -> None:
    """The rows before the failed one stay, and the error says so."""
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
