"""A session that was opened inside a deadline is refused where that deadline does not apply."""

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from registration_persistence.database.deadlines import Deadline, applies_here, current_deadline
from registration_persistence.database.session import OutcomeTrackingSession

_DEADLINE = "registration_persistence.deadline"


def remember_deadline(session: OutcomeTrackingSession) -> None:
    """Store the current deadline, which must apply whenever *session* begins a transaction."""
    session.info[_DEADLINE] = current_deadline()


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
