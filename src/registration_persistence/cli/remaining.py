"""The number of rows that a long command is about to process, for the time left of its progress bar."""

from datetime import datetime

from sqlalchemy import ColumnElement, func, select

from registration_persistence.database import session_scope
from registration_persistence.errors import StatementTimeout
from registration_persistence.models import Base, OutboxRow, RegistrationRow, VerificationTokenRow


def lapsed_registrations() -> int | None:
    """Return the number of registrations that `expire` changes; `None` if counting takes too long."""
    is_due = RegistrationRow.expires_at <= func.statement_timestamp()
    return _count(RegistrationRow, RegistrationRow.status.in_(("pending", "verified")), is_due)


def closed_registrations(before: datetime) -> int | None:
    """Return the number of registrations that `purge` deletes; `None` if counting takes too long."""
    is_closed = RegistrationRow.status.in_(("expired", "cancelled"))
    return _count(RegistrationRow, is_closed, RegistrationRow.closed_at < before)


def ended_tokens(before: datetime) -> int | None:
    """Return the number of tokens that `purge` deletes; `None` if counting takes too long."""
    has_ended = VerificationTokenRow.expires_at <= func.statement_timestamp()
    return _count(VerificationTokenRow, has_ended, VerificationTokenRow.expires_at < before)


def due_messages() -> int | None:
    """Return the number of messages that are due; `None` if counting takes too long."""
    return _count(OutboxRow, OutboxRow.dead_at.is_(None), OutboxRow.available_at <= func.statement_timestamp())


def _count(row: type[Base], *conditions: ColumnElement[bool]) -> int | None:
    statement = select(func.count()).select_from(row).where(*conditions)
    try:
        with session_scope(read_only=True) as session:
            number: int = session.execute(statement).scalar_one()
    except StatementTimeout:
        return None
    return number
