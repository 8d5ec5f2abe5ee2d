"""`OutcomeTrackingSession`: a session that records the outcomes of its commits."""

from typing import Any
from weakref import ref

from sqlalchemy import Connection, event
from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from registration_persistence.database.reading_statements import only_reads
from registration_persistence.errors import (
    AttemptNotCounted,
    CommitOutcomeUnknown,
    RegistrationPersistenceError,
    TransactionAborted,
)
from registration_persistence.unit_of_work import KEPT, SESSION, unit_info

_OUTCOME_UNKNOWN = "registration_persistence.outcome_unknown"

# SQLAlchemy's code of the `PendingRollbackError` after a lost connection; after a failed flush it is another.
_CONNECTION_INVALIDATED = "8s2b"


class OutcomeTrackingSession(Session):
    """A session that records in its `info` whether a commit succeeded or has an unknown outcome."""

    def commit(self) -> None:
        """Commit, and record an unknown outcome."""
        try:
            super().commit()
        except CommitOutcomeUnknown:
            self.info[_OUTCOME_UNKNOWN] = True
            raise


def record_statement(connection: Connection, driver: Any, statement: str) -> None:
    """Record in the session of *connection*, which is in autocommit, that a statement was kept.

    A repository records its own changes, and knows whether a statement changed anything.
    """
    if getattr(driver, "expected_evidence", None) is None and not only_reads(statement):
        unit_info(connection)[KEPT] = True


@event.listens_for(OutcomeTrackingSession, "after_begin")
def _remember_session(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    setattr(connection.connection.dbapi_connection, SESSION, ref(session))


@event.listens_for(OutcomeTrackingSession, "after_commit")
def _record_commit(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info[KEPT] = True


def swallowed_error(
    session: Session, error: PendingRollbackError, *, autocommit: bool
) -> CommitOutcomeUnknown | TransactionAborted:
    """Return the error for a block that swallowed an error which had ended its transaction.

    Args:
        session: The session of the block.
        error: SQLAlchemy's refusal of the final commit.
        autocommit: Whether each statement of the session committed in its own transaction.
    """
    if autocommit and error.code == _CONNECTION_INVALIDATED:
        return CommitOutcomeUnknown(
            "the connection was lost in a statement of this session, which may or may not have been kept; "
            "the statements before it were kept"
        )
    if _OUTCOME_UNKNOWN in session.info:
        return CommitOutcomeUnknown("the connection was lost in a COMMIT of this session, whose error was swallowed")
    before = "; what it had committed before was kept" if autocommit or KEPT in session.info else ""
    return TransactionAborted(
        f"an error earlier in this session ended its transaction, of which nothing was kept{before}: "
        "let the error out of the session, or roll back and repeat the work"
    )


def roll_back(session: Session, *, after: BaseException) -> None:
    """Roll *session* back; the error of its block, *after*, is raised instead of a failure to do so."""
    try:
        session.rollback()
    except AttemptNotCounted:
        if not isinstance(after, CommitOutcomeUnknown):
            raise  # the error of the block could tell that a code was wrong
    except (SQLAlchemyError, RegistrationPersistenceError):
        pass
