"""What became of a session's commits, for the error of a block that swallows one and goes on."""

from sqlalchemy import event
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.orm import Session

from registration_persistence.errors import CommitOutcomeUnknown, TransactionAborted

KEPT = "registration_persistence.kept"
"""The key of a session's `info` that says that it has committed."""

_UNKNOWN = "registration_persistence.unknown"

# SQLAlchemy's code of a `PendingRollbackError` after a lost connection; after a failed flush it is another.
_CONNECTION_INVALIDATED = "8s2b"


class OutcomeTrackingSession(Session):
    """A session that remembers what became of the commits of whoever uses it."""

    def commit(self) -> None:
        """Commit, and note where the outcome is unknown."""
        try:
            super().commit()
        except CommitOutcomeUnknown:
            self.info[_UNKNOWN] = True
            raise


@event.listens_for(OutcomeTrackingSession, "after_commit")
def _note_commit(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info[KEPT] = True


def swallowed_error(
    session: Session, error: PendingRollbackError, *, autocommit: bool
) -> CommitOutcomeUnknown | TransactionAborted:
    """Return what it means that a block went on after an error that had ended its transaction."""
    if autocommit and error.code == _CONNECTION_INVALIDATED:
        return CommitOutcomeUnknown(
            "the connection was lost in a statement of this session, which may or may not have been kept; "
            "the statements before it were"
        )
    if _UNKNOWN in session.info:
        return CommitOutcomeUnknown("the connection was lost in a COMMIT of this session, whose error was swallowed")
    before = "; what it had committed before was kept" if autocommit or KEPT in session.info else ""
    return TransactionAborted(
        f"an error earlier in this session ended its transaction, of which nothing was kept{before}: "
        "let the error out of the session, or roll back and repeat the work"
    )
