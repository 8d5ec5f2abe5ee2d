"""`BoundedPipeline`: a psycopg pipeline that ends in time, and lets the server end a transaction that stays idle."""

from contextlib import nullcontext
from types import TracebackType
from typing import Any

import psycopg
from psycopg import Pipeline, pq
from psycopg.abc import PQGen

from registration_persistence.database.deadlines import at_least

# Time for the server to confirm the end of a pipeline after the deadline.
_END_TIMEOUT_SECONDS = 0.2


class BoundedPipeline(Pipeline):
    """A pipeline whose end is sent even after the deadline, without the Flush message that psycopg sends after it."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """End the pipeline; close the connection if the server does not confirm it."""
        busy = self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE  # then `wait` cancels at the deadline
        try:
            with nullcontext() if busy else at_least(_END_TIMEOUT_SECONDS):
                super().__exit__(exc_type, exc_val, exc_tb)
        except psycopg.Error as error:
            if error.__context__ is None or isinstance(error.__context__, Exception):
                raise
            raise error.__context__ from None  # an interrupt, because of which the pipeline could not end
        finally:
            if self.level == 0 and self.pgconn.pipeline_status != pq.PipelineStatus.OFF:
                self._conn.close()

    def _enqueue_sync(self) -> None:
        connection: Any = self._conn
        connection.has_sent = True
        super()._enqueue_sync()

    def _process_results(self, *reply: Any) -> None:
        connection: Any = self._conn
        connection.is_awaiting_reply = False
        super()._process_results(*reply)

    def _exit_gen(self) -> PQGen[None]:
        """Send Sync, and read the remaining replies.

        After Sync the server flushes by itself and starts `idle_in_transaction_session_timeout`. psycopg sends Flush
        as well, which stops that timeout. Flush is needed only if Sync could not be sent.
        """
        self._enqueue_sync()
        try:
            yield from self._communicate_gen()
        finally:
            yield from self._fetch_gen(flush=bool(self.command_queue))
