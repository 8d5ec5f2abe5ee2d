"""Refuses a COMMIT that would keep nothing, and a change that would be kept by itself, before it is sent."""

from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.pool import PoolProxiedConnection

from registration_persistence.database.commit_resolver import CommitResolver
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.database.deadlines import Deadline, applies_here, remaining
from registration_persistence.database.error_translation import is_lost, statement_failure
from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.database.liveness import REOPEN_CAUSE, has_pending_input, is_alive
from registration_persistence.database.lost_commit import LostCommit, lost_statement, lost_transaction
from registration_persistence.database.reading_statements import only_reads
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    RegistrationPersistenceError,
    StatementTimeout,
    TransactionAborted,
)
from registration_persistence.unit_of_work import KEPT, UNIT_INFO

_IDLE, _ABORTED = psycopg.pq.TransactionStatus.IDLE, psycopg.pq.TransactionStatus.INERROR

COMMIT = "COMMIT"
"""The statement with which a repository commits its own transaction."""

OWN_DEADLINE = "registration_persistence.deadline"
"""Key of the `unit_info` of a connection without a session: the deadline in which it was opened."""


def check_statement(connection: Connection, statement: str) -> None:
    """Refuse *statement* after the deadline, and the statement COMMIT if it would keep nothing.

    Raises:
        StatementTimeout: The deadline has passed.
        TransactionAborted, ConnectionLost: COMMIT would keep nothing.
    """
    if remaining() <= 0:
        raise StatementTimeout("the deadline had passed, so the statement was not sent")
    if statement == COMMIT:
        driver: Any = driver_connection(connection)
        try:
            _refuse_useless_commit(connection.connection, connection.invalidate)
        except BaseException:
            if getattr(driver, "cancelled_outcome", None) is not None:  # it is that of the check
                driver.cancelled_outcome = "not_kept"
            raise


def refuse_second_change(connection: Connection, statement: str) -> None:
    """Refuse a change after one that was kept, and a statement that would not commit, in `Database.run(single=True)`.

    Raises:
        RuntimeError: Something was kept already, the connection has left autocommit, or the deadline of the unit of
            work does not apply here.
    """
    if not driver_connection(connection).autocommit:
        raise RuntimeError(
            "the isolation level of this connection was changed, so the statement would be rolled back at the end, and "
            "was not sent: use run() without single=True, or the engine, for another isolation level"
        )
    info: dict[str, Any] = connection.get_execution_options()[UNIT_INFO]
    if KEPT in info and not only_reads(statement):
        raise RuntimeError(
            "a change of this unit of work was kept already, so this statement was not sent: single=True is for one "
            "repository call; use run() without single=True for several, which share a transaction"
        )
    own: Deadline | None = info[OWN_DEADLINE]
    if own is not None and not applies_here(own):
        raise RuntimeError(
            "the deadline of this unit of work is that of another thread or context, and does not apply here, so the "
            "statement was not sent: use the connection in the function that run() calls, in the same thread"
        )


def forget_commit(connection: PoolProxiedConnection) -> None:
    """Mark *connection* as not committing; called at BEGIN and ROLLBACK."""
    driver: Any = connection.dbapi_connection
    driver.is_committing = False


def is_committing(connection: Connection) -> bool:
    """Return whether COMMIT may have been sent on *connection*."""
    return bool(getattr(driver_connection(connection), "is_committing", False))


def prepare_commit(connection: PoolProxiedConnection) -> None:
    """Refuse a COMMIT that would keep nothing; called before SQLAlchemy commits a transaction."""
    driver: Any = connection.dbapi_connection
    if driver.pgconn.transaction_status != _IDLE:
        detect_fork()  # a child loses the parent's connection here; a lost COMMIT would end the session of the parent
        _refuse_useless_commit(connection, connection.invalidate)
        driver.is_committing = True


def prepare_second_phase(connection: Connection) -> None:
    """Mark *connection* as committing; called before SQLAlchemy commits a two-phase transaction.

    While it is only prepared, its event is missing, so a missing event proves nothing.
    """
    driver: Any = driver_connection(connection)
    driver.undid_changes = True
    driver.is_committing = True


def settle_failed_commit(
    connection: PoolProxiedConnection, error: psycopg.Error, resolver: CommitResolver | None
) -> None:
    """Return if the transaction was kept although its COMMIT failed with *error*.

    Args:
        connection: The connection, which is closed if it was lost.
        error: The error of psycopg.
        resolver: Finds out what became of the transaction; `None` for an engine that only reads.

    Raises:
        ConnectionLost: The reply was lost, and nothing was kept.
        CommitOutcomeUnknown: The reply was lost, and what became of the transaction cannot be established.
        psycopg.Error: Another failure.
    """
    driver: Any = connection.dbapi_connection
    meaning = statement_failure(error, lost=is_lost(error, driver), committing=True, read_only=False)
    if not isinstance(meaning, CommitOutcomeUnknown) or driver.read_only or resolver is None:
        raise error
    lost = lost_transaction(driver)
    if connection.record_info is not None:
        connection.record_info[REOPEN_CAUSE] = "lost"
    connection.invalidate(error)
    if failure := failure_after(meaning, resolver, lost):
        raise failure from error


def failure_after(
    meaning: CommitOutcomeUnknown, resolver: CommitResolver, lost: LostCommit
) -> RegistrationPersistenceError | None:
    """Return the error of a lost COMMIT after its evidence was looked for; `None` if the transaction was kept."""
    finding = resolver.find(lost)
    if finding.kept is None:
        return CommitOutcomeUnknown(f"{meaning}; {finding.reason}", find=lambda: resolver.find(lost))
    return None if finding.kept else ConnectionLost(f"nothing was kept, as its evidence shows: {meaning}")


def with_evidence(
    meaning: CommitOutcomeUnknown, connection: psycopg.Connection[Any], resolver: CommitResolver | None
) -> CommitOutcomeUnknown:
    """Return *meaning* for a statement that was lost on *connection*, so that its evidence can be looked for."""
    if resolver is None or not isinstance(connection, BoundedConnection):
        return meaning
    lost = lost_statement(connection) if connection.autocommit else lost_transaction(connection)
    if not connection.autocommit or lost.evidence is None:  # otherwise the repository looks for it
        resolver.report("unknown")
    return CommitOutcomeUnknown(*meaning.args, find=lambda: resolver.find(lost))


def _refuse_useless_commit(connection: PoolProxiedConnection, invalidate: Callable[[], None]) -> None:
    """Refuse a COMMIT that would keep nothing, and one on a connection that is already lost.

    PostgreSQL answers COMMIT in an aborted transaction with ROLLBACK, and neither psycopg nor SQLAlchemy reports that.
    If the server ended the session before COMMIT was sent, the socket has pending input, and nothing was kept.
    """
    driver: Any = connection.dbapi_connection
    if driver.pgconn.transaction_status == _ABORTED:
        _roll_back(driver, invalidate)
        raise TransactionAborted(
            "a statement failed earlier in this transaction, so it cannot be committed and nothing was kept: "
            "let the error out of the session, or repeat the work without that statement"
        )
    if driver.autocommit:
        return
    if remaining() <= 0:
        _roll_back(driver, invalidate)
        raise StatementTimeout("the deadline had passed, so COMMIT was not sent and nothing was kept")
    if has_pending_input(driver) and not is_alive(driver):
        if connection.record_info is not None:
            connection.record_info[REOPEN_CAUSE] = "lost"
        invalidate()
        raise ConnectionLost("the server ended the session before COMMIT was sent, so nothing was kept")


def _roll_back(driver: psycopg.Connection[Any], invalidate: Callable[[], None]) -> None:
    """Send ROLLBACK, because SQLAlchemy sends none after a refused COMMIT."""
    try:
        driver.rollback()
    except psycopg.Error:
        invalidate()


def set_record_info(connection: Connection, key: str, value: object) -> None:
    """Store *value* under *key* in the pool record of *connection*, for the next checkout."""
    record = connection.connection.record_info
    if record is not None:
        record[key] = value


def driver_connection(connection: Connection) -> psycopg.Connection[Any]:
    """Return the psycopg connection under *connection*."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
