"""`BoundedConnection`: a psycopg connection whose waits end."""

import math
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import Pipeline, Transaction, Xid, pq
from psycopg.abc import PQGen, PQGenConn
from psycopg.pq.abc import PGconn
from psycopg.rows import Row, RowFactory
from psycopg.waiting import wait_conn

from registration_persistence.clock import monotonic
from registration_persistence.database.bounded_server_cursor import CANCEL_TIMEOUT_SECONDS, BoundedServerCursor
from registration_persistence.database.deadlines import at_least, remaining
from registration_persistence.database.evident_connection import EvidentConnection
from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.database.limited_connect import limited_connect

T = TypeVar("T")

# Interval at which a wait looks at the clock.
_POLL_INTERVAL_SECONDS = 0.05

_DISCARD_AT_CLOSE = struct.pack("ii", 1, 0)  # the option SO_LINGER: on, with 0 s

_ACTIVE, _IN_TRANSACTION = pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INTRANS
_ABORTED = pq.TransactionStatus.INERROR


class WaitEnded(Exception):
    """A wait reached its limit; the text is the reason."""


class BoundedConnection(EvidentConnection[Row]):
    """A connection that waits neither beyond the deadline nor for a silent server.

    Attributes:
        max_silence_seconds: The time that a statement waits without any reply. TCP notices a dead peer only while sent
            data is unacknowledged, so a statement that had arrived would wait for a long time.
    """

    max_silence_seconds: float = math.inf

    def __init__(self, pgconn: PGconn, *row_factory: RowFactory[Row]) -> None:
        super().__init__(pgconn, *row_factory)
        self.server_cursor_factory: type[psycopg.ServerCursor[Row]] = BoundedServerCursor

    def close(self) -> None:
        """Close the connection; if a reply is outstanding, what was sent is not transmitted again.

        Otherwise the kernel would transmit an unacknowledged COMMIT for minutes, and the server might obey it.
        """
        if not self.closed and self.pgconn.transaction_status == _ACTIVE:
            with suppress(OSError), socket.socket(fileno=os.dup(self.pgconn.socket)) as duplicate:
                duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD_AT_CLOSE)
        super().close()

    def rollback(self) -> None:
        """Roll back; after the deadline too, within the time of a cancellation."""
        if self._is_idle():
            return
        with at_least(CANCEL_TIMEOUT_SECONDS):
            super().rollback()

    def tpc_begin(self, xid: Xid | str) -> None:
        """Begin a two-phase transaction."""
        _refuse_after_deadline()
        before = self._tpc
        try:
            super().tpc_begin(xid)
        except BaseException:
            self._tpc = before  # it did not begin, and psycopg would refuse to roll it back
            raise

    def tpc_rollback(self, xid: Xid | str | None = None) -> None:
        """Roll back a two-phase transaction; after the deadline too, within the time of a cancellation."""
        with at_least(CANCEL_TIMEOUT_SECONDS):
            super().tpc_rollback(xid)

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Transaction]:  # noqa: FBT001, FBT002 psycopg's signature
        """Return a block that is a transaction or a savepoint; see `psycopg.Connection.transaction`.

        The end of the block updates psycopg's own state, so a COMMIT after the deadline becomes a ROLLBACK.
        """
        _refuse_after_deadline()
        block = super().transaction(savepoint_name, force_rollback)
        with at_least(CANCEL_TIMEOUT_SECONDS):
            transaction = block.__enter__()
        try:
            yield transaction
            if not force_rollback:
                _refuse_after_deadline()
        except BaseException:
            is_handled: bool | None = False
            with at_least(CANCEL_TIMEOUT_SECONDS), suppress(psycopg.OperationalError):  # the connection is closed then
                is_handled = block.__exit__(*sys.exc_info())
            if not is_handled:
                raise
        else:
            with at_least(CANCEL_TIMEOUT_SECONDS):
                block.__exit__(None, None, None)

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """Return a block in pipeline mode; see `psycopg.Connection.pipeline`."""
        with self.lock:
            self._check_connection_ok()
            if self._pipeline is None:
                from registration_persistence.database.bounded_pipeline import BoundedPipeline  # few services use it

                self._pipeline = BoundedPipeline(self)
        with super().pipeline() as pipeline:
            yield pipeline

    def _start_query(self) -> PQGen[None]:
        """Begin a transaction if needed; psycopg calls it before each statement of a cursor."""
        if remaining() <= 0 and self.pgconn.transaction_status != _ABORTED:
            _refuse_after_deadline()
        return super()._start_query()

    def wait(self, gen: PQGen[T], interval: float = _POLL_INTERVAL_SECONDS, timeout: float | None = None) -> T:
        """Wait for the reply to the command of *gen*; psycopg calls it for each statement, COMMIT and ROLLBACK.

        Raises:
            psycopg.errors.QueryCanceled: The command was not sent, or the server confirmed that it was cancelled.
            psycopg.OperationalError: The server confirmed nothing; the connection is closed.
        """
        detect_fork()  # a server-side cursor fetches without an event of SQLAlchemy
        left = remaining()
        if timeout is None and left < math.inf:
            status = self.pgconn.transaction_status
            if left <= 0 and status == _ACTIVE:  # the rest of a result, of a pipeline or of a COPY
                return self._cancel(gen, "the deadline has passed")
            if left <= 0 and status == _IN_TRANSACTION:
                gen.close()
                _refuse_after_deadline()
            left = max(left, CANCEL_TIMEOUT_SECONDS)  # for commands that only configure the next transaction
        try:
            if timeout is not None:  # `notifies` waits for the server to send something by itself
                return super().wait(gen, interval, max(min(timeout, left), 0.0))
            return super().wait(self._limited(gen, left), interval)
        except WaitEnded as ended:
            if self.pgconn.transaction_status == _ACTIVE:
                return self._cancel(gen, str(ended))
            gen.close()  # `notifies`: the server executes nothing
            raise psycopg.errors.QueryCanceled(str(ended)) from None
        except BaseException as error:
            if isinstance(error, psycopg.Error):
                self.note_failure(error)
            self._after_interrupt(gen, error)
            raise

    def _after_interrupt(self, _gen: PQGen[T], _error: BaseException) -> None:
        """Close the connection if the wait ended in pipeline mode, which nothing else would leave."""
        if self._pipeline is None and self.pgconn.pipeline_status != pq.PipelineStatus.OFF:
            self.close()

    def _limited(self, gen: PQGen[T], seconds: float) -> PQGen[T]:
        """Advance *gen* for *seconds*, or until the server has been silent for too long."""
        end = monotonic() + seconds if seconds < math.inf else math.inf
        silent_since: float | None = None  # a clock is read only if the server lets us wait
        try:
            state = next(gen)
            while True:
                if self.has_sent:
                    self.begin_round_trip()
                state = gen.send(ready := (yield state))
                if ready and end == math.inf:
                    silent_since = None
                    continue
                now = monotonic()
                if now >= end:
                    raise WaitEnded("the deadline came before the answer")
                if ready or silent_since is None:
                    silent_since = now
                elif (
                    now - silent_since >= self.max_silence_seconds
                    and self.pgconn.transaction_status == _ACTIVE
                    and self._pipeline is None  # its replies come together
                ):
                    raise WaitEnded(f"the server has been silent for {self.max_silence_seconds:g} s")
        except StopIteration as done:
            return cast("T", done.value)

    def _cancel(self, gen: PQGen[T], reason: str) -> T:
        """Cancel the running statement; close the connection if the server does not confirm it."""
        try:
            self._request_cancellation()
            answer = super().wait(self._limited(gen, CANCEL_TIMEOUT_SECONDS), _POLL_INTERVAL_SECONDS)
            if self.pgconn.transaction_status == _ACTIVE:
                raise psycopg.OperationalError("there is more to come")
            return answer  # noqa: TRY300 the one before is caught below
        except (psycopg.Error, WaitEnded) as error:
            if isinstance(error, psycopg.Error):
                self.note_failure(error)  # it stays in the chain of the one that is raised
            if isinstance(error, psycopg.errors.QueryCanceled):
                raise psycopg.errors.QueryCanceled(f"{reason}; the statement was cancelled") from None
            self._abandon(gen)
            raise psycopg.OperationalError(f"{reason}; the connection was closed") from None

    def _abandon(self, gen: PQGen[Any]) -> None:
        """Close the connection, and end *gen*, which would warn if the garbage collector ended it."""
        self.close()
        with suppress(psycopg.Error):  # the end of a pipeline reads from the connection
            gen.close()

    def _request_cancellation(self) -> None:
        """Do what `cancel_safe` does, but with a timeout that a test cannot freeze."""
        if psycopg.capabilities.has_cancel_safe():
            self._wait_for_cancellation(limited_connect(self._cancel_gen(), monotonic() + CANCEL_TIMEOUT_SECONDS))
        else:
            self.cancel()

    def _wait_for_cancellation(self, sending: PQGenConn[None]) -> None:
        wait_conn(sending, _POLL_INTERVAL_SECONDS)

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        return limited_connect(cls._connect_steps(conninfo), monotonic() + remaining())

    @classmethod
    def _connect_steps(cls, conninfo: str) -> PQGenConn[Self]:
        return super()._connect_gen(conninfo)


def abort(connection: psycopg.Connection[Any]) -> None:
    """Close *connection* at once.

    If another thread is using it, shut its socket down instead, because libpq would free memory that the thread still
    reads.
    """
    if connection.info.transaction_status == _ACTIVE:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    else:
        connection.close()


def _refuse_after_deadline() -> None:
    """Raise `QueryCanceled` if the deadline has passed."""
    if remaining() <= 0:
        raise psycopg.errors.QueryCanceled("the deadline had passed, so this was not sent")
