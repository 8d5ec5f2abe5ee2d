"""The outbox as the tests of the worker see it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from registration_persistence import Database, ImportRow, bulk_import
from registration_persistence.outcomes import OutboxMessage

TIMEOUT_SECONDS = 60
"""After this time a test fails instead of hanging."""


class Queue:
    """The outbox as stored on the server, read and changed through connections that the worker does not use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, number: int) -> list[UUID]:
        """Store *number* messages, and return the event ids of all messages in order."""
        with self._database.session() as session:
            bulk_import(session, [ImportRow("ada@example.com", "pending")] * number, announce=True)
        return [row["event_id"] for row in self.rows()]

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows, with the column `due`."""
        with self._database.session() as session:
            found = session.execute(text("SELECT *, available_at <= now() AS due FROM outbox ORDER BY event_id"))
            return [dict(row) for row in found.mappings()]

    def change(self, sql: str) -> None:
        """Execute SQL on the outbox without the worker."""
        with self._database.session() as session:
            session.execute(text(sql))

    def has_client(self, pid: int) -> bool:
        """Return whether the backend *pid* still exists."""
        with self._database.session() as session:
            return bool(session.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")))

    def end_leases(self) -> None:
        """Make every message due."""
        self.change("UPDATE outbox SET available_at = now()")

    def now(self) -> datetime:
        """Return the time of the server's clock."""
        with self._database.session() as session:
            moment = session.scalar(text("SELECT clock_timestamp()"))
        assert isinstance(moment, datetime)
        return moment


def failing(error: BaseException) -> Callable[[OutboxMessage], None]:
    """Return a `deliver` function that always raises *error*."""

    def deliver(_message: OutboxMessage) -> None:
        raise error

    return deliver
