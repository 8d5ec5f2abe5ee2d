"""`BoundedConnection`: a psycopg connection whose waits end; `TracedConnection`: it reports a login's SQLSTATE."""

import math
import os
import re
import socket
import time
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import pq
from psycopg.abc import PQGen, PQGenConn
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from registration_persistence.database.deadlines import remaining

T = TypeVar("T")

# Interval at which a wait looks at the clock.
_POLL_INTERVAL_SECONDS = 0.05

# Time for the server to receive a cancellation, and again to confirm it; also for a ROLLBACK after the deadline.
_CANCEL_TIMEOUT_SECONDS = 0.2

# 28000: rejected by `pg_hba.conf`; after password authentication: the role has NOLOGIN (the previous user of a
# rotation).
_INVALID_AUTHORIZATION = "28000"

_INVALID_PASSWORD = "28P01"  # noqa: S105 it is a code of the SQL standard

_ACTIVE, _IN_TRANSACTION = pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INTRANS

# The SQLSTATE of an ErrorResponse in libpq's trace.
_TRACED_SQLSTATE = re.compile(rb'\tErrorResponse\t.*? C "([0-9A-Z]{5})"')


class _WaitEnded(Exception):
    """The wait reached its limit; the text is the reason."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that waits neither beyond the deadline nor for a silent server.

    Attributes:
        max_silence_seconds: The time that a statement waits without any reply. TCP notices a dead peer only while sent
            data is unacknowledged, so a statement that had arrived would wait for a long time.
    """

    max_silence_seconds: float = math.inf
    _rolling_back = False

    def rollback(self) -> None:
        """Roll back; after the deadline too, within the time of a cancellation."""
        self._rolling_back = True
        try:
            super().rollback()
        finally:
            self._rolling_back = False

    def wait(self, gen: PQGen[T], interval: float = _POLL_INTERVAL_SECONDS, timeout: float | None = None) -> T:
        """Wait for the reply to the command of *gen*; psycopg calls it for each statement, COMMIT and ROLLBACK.

        Raises:
            psycopg.errors.QueryCanceled: The command was not sent, or the server confirmed that it was cancelled.
            psycopg.OperationalError: The server confirmed nothing; the connection is closed.
        """
        left, status = remaining(), self.pgconn.transaction_status
        if left <= 0 and status == _ACTIVE:  # the rest of a result or of a COPY
            return self._cancel(gen, "the deadline has passed")
        if left <= 0 and status == _IN_TRANSACTION and not self._rolling_back:
            gen.close()
            raise psycopg.errors.QueryCanceled("the deadline had passed, so this was not sent")
        # The minimum is for a ROLLBACK, and for commands that only configure the next transaction.
        left = max(left, _CANCEL_TIMEOUT_SECONDS)
        try:
            return super().wait(self._limited(gen, time.monotonic() + left), interval, timeout)
        except _WaitEnded as ended:
            return self._cancel(gen, str(ended))

    def _limited(self, gen: PQGen[T], end: float) -> PQGen[T]:
        """Advance *gen* until *end*, or until the server has been silent for too long."""
        last_reply = time.monotonic()
        try:
            state = next(gen)
            while True:
                ready = yield state
                state = gen.send(ready)
                now = time.monotonic()
                if now >= end:
                    raise _WaitEnded("the deadline came before the answer")
                if ready:
                    last_reply = now
                elif now - last_reply >= self.max_silence_seconds and self._awaits_reply():
                    raise _WaitEnded(f"the server has been silent for {self.max_silence_seconds:g} s")
        except StopIteration as done:
            return cast(T, done.value)

    def _awaits_reply(self) -> bool:
        """Return whether a single statement is running; the replies of a pipeline (`executemany`) come together."""
        single = self.pgconn.pipeline_status == pq.PipelineStatus.OFF
        return single and self.pgconn.transaction_status == _ACTIVE

    def _cancel(self, gen: PQGen[T], reason: str) -> T:
        """Cancel the running statement; close the connection if the server does not confirm it."""
        try:
            self.cancel_safe(timeout=_CANCEL_TIMEOUT_SECONDS)
            answer = super().wait(gen, _POLL_INTERVAL_SECONDS, _CANCEL_TIMEOUT_SECONDS)
            if self.pgconn.transaction_status == _ACTIVE:
                raise psycopg.OperationalError("there is more to come")
            return answer  # noqa: TRY300 the one before is caught below
        except psycopg.errors.QueryCanceled:
            raise psycopg.errors.QueryCanceled(f"{reason}; the statement was cancelled") from None
        except psycopg.Error:
            self.close()
            raise psycopg.OperationalError(f"{reason}; the connection was closed") from None

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        return _limited_connect(cls._connect_steps(conninfo), time.monotonic() + remaining())

    @classmethod
    def _connect_steps(cls, conninfo: str) -> PQGenConn[Self]:
        return super()._connect_gen(conninfo)


class TracedConnection(BoundedConnection):
    """A connection whose failed login has a `sqlstate`, which libpq and psycopg do not report.

    It is read from libpq's trace, on Linux. libpq never frees about 5 kB of each trace, so this class is only for an
    attempt whose error text is unrecognised because the server's messages are not in English.
    """

    @classmethod
    def _connect_steps(cls, conninfo: str) -> PQGenConn[Self]:
        pgconn = pq.PGconn.connect_start(conninfo.encode())
        trace = os.memfd_create("connect")
        try:
            pgconn.trace(trace)
            try:
                yield from _poll(pgconn)
            finally:
                pgconn.untrace()
            codes = _TRACED_SQLSTATE.findall(os.pread(trace, os.fstat(trace).st_size, 0))
        finally:
            os.close(trace)
        if pgconn.status != pq.ConnStatus.OK:
            error = psycopg.OperationalError(pgconn.get_error_message())
            error.sqlstate = codes[-1].decode() if codes else None
            if error.sqlstate == _INVALID_AUTHORIZATION and pgconn.used_password:
                error.sqlstate = _INVALID_PASSWORD
            pgconn.finish()
            raise error
        pgconn.nonblocking = 1
        return cls(pgconn)


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


def _poll(pgconn: PGconn) -> PQGenConn[None]:
    """Wait until libpq has connected or failed."""
    waits = {pq.PollingStatus.READING: Wait.R, pq.PollingStatus.WRITING: Wait.W}
    while wait := waits.get(pq.PollingStatus(pgconn.connect_poll())):
        while not (yield pgconn.socket, wait):
            pass


def _limited_connect(connecting: PQGenConn[T], end: float) -> PQGenConn[T]:
    """Advance *connecting* until *end*."""
    try:
        state = next(connecting)
        while True:
            state = connecting.send((yield state))
            if time.monotonic() >= end:
                raise psycopg.errors.ConnectionTimeout("the deadline came before a connection was made")
    except StopIteration as done:
        return cast(T, done.value)
