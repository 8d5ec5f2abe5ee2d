"""`SessionBlock`: a session for one block, which records the outcomes of its commits."""

from contextlib import AbstractContextManager
from types import TracebackType
from weakref import ref

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from registration_persistence.database.deadlines import Deadline, applies_here, current_deadline
from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.errors import (
    AttemptNotCounted,
    CommitOutcomeUnknown,
    RegistrationPersistenceError,
    TransactionAborted,
)
from registration_persistence.unit_of_work import KEPT, SESSION

_OUTCOME_UNKNOWN = "registration_persistence.outcome_unknown"
_DEADLINE = "registration_persistence.deadline"

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


@event.listens_for(OutcomeTrackingSession, "after_begin")
def _remember_session(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    setattr(connection.connection.dbapi_connection, SESSION, ref(session))


@event.listens_for(OutcomeTrackingSession, "after_commit")
def _record_commit(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info[KEPT] = True


@event.listens_for(OutcomeTrackingSession, "after_transaction_create")
def _require_deadline(session: Session, transaction: SessionTransaction) -> None:
    """Refuse a transaction in another thread or context, before a connection is checked out.

    Raises:
        RuntimeError: The deadline of the session does not apply here.
    """
    own: Deadline | None = session.info.get(_DEADLINE)
    if transaction.parent is None and not applies_here(own):
        raise RuntimeError(
            "the session was opened inside a deadline of another thread or context, which does not apply here, so "
            "nothing was sent: use `with deadline(...)` in the function that uses the session. In FastAPI, use it in "
            "the endpoint or in an `async def` dependency; for a thread, use contextvars.copy_context().run"
        )


class SessionBlock(AbstractContextManager[Session]):
    """The block of `Database.session`; a class, because a generator takes more calls for each unit of work.

    Args:
        engine: The engine of the session.
        autocommit: Whether its connections are in autocommit.
    """

    __slots__ = ("_autocommit", "_engine", "_session")

    def __init__(self, engine: Engine, *, autocommit: bool) -> None:
        self._engine = engine
        self._autocommit = autocommit

    def __enter__(self) -> Session:
        detect_fork()  # before the block creates ids
        self._session = OutcomeTrackingSession(self._engine, expire_on_commit=False, close_resets_only=False)
        self._session.info[_DEADLINE] = current_deadline()
        return self._session

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
            elif isinstance(error, PendingRollbackError):
                raise _swallowed_error(self._session, error, autocommit=self._autocommit) from error
            else:
                _roll_back(self._session, after=error)
        finally:
            self._session.close()

    def invalidate(self) -> None:
        """End the block without waiting for the server: the connection is closed, and the server rolls back."""
        self._session.invalidate()

    def _commit(self) -> None:
        try:
            self._session.commit()
        except PendingRollbackError as error:
            raise _swallowed_error(self._session, error, autocommit=self._autocommit) from error
        except BaseException as error:
            _roll_back(self._session, after=error)
            raise


def _swallowed_error(
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


def _roll_back(session: Session, *, after: BaseException) -> None:
    """Roll *session* back; the error of its block, *after*, is raised instead of a failure to do so."""
    try:
        session.rollback()
    except AttemptNotCounted:
        if not isinstance(after, CommitOutcomeUnknown):
            raise  # the error of the block could tell that a code was wrong
    except (SQLAlchemyError, RegistrationPersistenceError):
        pass
