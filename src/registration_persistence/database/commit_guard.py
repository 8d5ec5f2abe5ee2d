"""Refuse a COMMIT that would keep nothing, before it is sent."""

from typing import Any

import psycopg
from sqlalchemy import Connection

from registration_persistence.database.deadlines import remaining
from registration_persistence.database.error_translation import transaction_is_aborted
from registration_persistence.database.liveness import REOPENING, is_alive, said_something
from registration_persistence.errors import ConnectionLost, StatementTimeout, TransactionAborted

COMMITTING = "registration_persistence.committing"


def refuse_late_statement(*_arguments: object) -> None:
    """Raise `StatementTimeout` if the deadline has passed; called before each statement."""
    if remaining() <= 0:
        raise StatementTimeout("the deadline had passed, so the statement was not sent")


def forget_commit(connection: Connection) -> None:
    """Note that no COMMIT is under way on *connection* any more."""
    if not connection.invalidated:
        connection.info.pop(COMMITTING, None)


def prepare_commit(connection: Connection) -> None:
    """Refuse a COMMIT that would keep nothing, and one on a connection that is known to be lost already.

    PostgreSQL answers COMMIT with ROLLBACK in an aborted transaction, and neither driver nor SQLAlchemy says so. Where
    it ended the session while waiting for COMMIT, it has said so on the socket, and certainly kept nothing.
    """
    driver = driver_connection(connection)
    if transaction_is_aborted(driver):
        _roll_back(connection, driver)
        raise TransactionAborted(
            "a statement failed earlier in this transaction, so it cannot be committed and nothing was kept: "
            "let the error out of the session, or repeat the work without that statement"
        )
    if not driver.autocommit and remaining() <= 0:
        _roll_back(connection, driver)
        raise StatementTimeout("the deadline had passed, so COMMIT was not sent and nothing was kept")
    if not driver.autocommit and said_something(driver) and not is_alive(driver):
        note(connection, REOPENING, "lost")
        connection.invalidate()
        raise ConnectionLost("the server ended the session before COMMIT was sent, so nothing was kept")
    connection.info[COMMITTING] = True


def _roll_back(connection: Connection, driver: psycopg.Connection[Any]) -> None:
    """Leave no transaction open: SQLAlchemy takes one whose COMMIT was refused for ended, and sends nothing."""
    try:
        driver.rollback()
    except psycopg.Error:
        connection.invalidate()


def note(connection: Connection, key: str, value: object) -> None:
    """Leave a word for whoever gets *connection*'s place in the pool next."""
    record = connection.connection.record_info
    if record is not None:
        record[key] = value


def driver_connection(connection: Connection) -> psycopg.Connection[Any]:
    """Return the psycopg connection under *connection*."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
