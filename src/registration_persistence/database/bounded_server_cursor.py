"""`BoundedServerCursor`: a server-side cursor that is closed even after the deadline."""

from typing import Any

import psycopg
from psycopg._queries import PostgresQuery
from psycopg.abc import PQGen
from psycopg.rows import Row

from registration_persistence.database.deadlines import at_least

CANCEL_TIMEOUT_SECONDS = 0.2
"""Time for the server to receive a cancellation, and again to confirm it; also for a ROLLBACK after the deadline."""


class BoundedServerCursor(psycopg.ServerCursor[Row]):
    """A server-side cursor that is closed even after the deadline, within the time of a cancellation."""

    def close(self) -> None:
        """Close the cursor on the server and here."""
        try:
            with at_least(CANCEL_TIMEOUT_SECONDS):
                super().close()
        except psycopg.OperationalError:
            super().close()  # the connection is closed, so this sends nothing
        except BaseException:
            self._close()  # an interrupt; the cursor ends with the transaction, which is rolled back
            raise

    def _execute_send(self, query: PostgresQuery, *, force_extended: bool = False, binary: bool | None = None) -> None:
        connection: Any = self._conn
        connection.has_sent = True
        super()._execute_send(query, force_extended=force_extended, binary=binary)

    def _describe_gen(self) -> PQGen[None]:
        connection: Any = self._conn
        connection.has_sent = True
        return super()._describe_gen()

    def __del__(self, *arguments: Any) -> None:
        """Warn as psycopg does, unless the cursor ended with its connection."""
        if not self._conn.closed:
            super().__del__(*arguments)
