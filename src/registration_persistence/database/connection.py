"""psycopg's connection, with an end to every wait, and the SQLSTATE of a refused login."""

import math
import os
import re
import time
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import pq
from psycopg.abc import PQGen, PQGenConn
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from registration_persistence.database.deadlines import remaining

T = TypeVar("T")

# Seconds between two looks at the clock.
_INTERVAL = 0.05

# Seconds that the server has to take a cancellation, and again to confirm it.
_GRACE = 0.2

# What a policy of `pg_hba.conf` refuses, and after the password a role that may not log in: a user of before.
_NO_AUTHORIZATION = "28000"

_WRONG_PASSWORD = "28P01"  # noqa: S105 it is a code of the SQL standard

_ACTIVE, _IN_TRANSACTION = pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INTRANS

_NO_PIPELINE = pq.PipelineStatus.OFF

_ERROR_CODE = re.compile(rb'\tErrorResponse\t.*? C "([0-9A-Z]{5})"')


class _Expired(Exception):
    """The wait has lasted long enough; the text says why."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that waits neither beyond the deadline nor for a server that has gone silent.

    Attributes:
        longest_silence: Seconds that the server may leave a statement without any answer. TCP notices a peer that is
            gone only while data to it is unacknowledged, so a statement that had arrived would wait for long.
    """

    longest_silence = math.inf
    _rolling_back = False

    def rollback(self) -> None:
        """Roll back, for which there is a moment after the deadline, too."""
        self._rolling_back = True
        try:
            super().rollback()
        finally:
            self._rolling_back = False

    def wait(self, gen: PQGen[T], interval: float = _INTERVAL, timeout: float | None = None) -> T:
        """Wait for the answer to what *gen* sends, as psycopg does for every statement, COMMIT and ROLLBACK.

        Raises:
            psycopg.errors.QueryCanceled: It was not sent any more, or the server confirmed that it was cancelled.
            psycopg.OperationalError: The server did not even confirm that; the connection is closed.
        """
        left, status = remaining(), self.pgconn.transaction_status
        if left <= 0 and status == _ACTIVE:  # the rest of a result or of a COPY
            return self._cut_short(gen, "the deadline has passed")
        if left <= 0 and status == _IN_TRANSACTION and not self._rolling_back:
            gen.close()
            raise psycopg.errors.QueryCanceled("the deadline had passed, so this was not sent")
        left = max(left, _GRACE)  # for a ROLLBACK, and for what only sets how the next transaction begins
        try:
            return super().wait(self._watched(gen, time.monotonic() + left), interval, timeout)
        except _Expired as expired:
            return self._cut_short(gen, str(expired))

    def _watched(self, gen: PQGen[T], end: float) -> PQGen[T]:
        """Go on with *gen* until *end*, or until a statement has been silent for too long."""
        heard = time.monotonic()
        try:
            state = next(gen)
            while True:
                ready = yield state
                state = gen.send(ready)
                now = time.monotonic()
                if now >= end:
                    raise _Expired("the deadline came before the answer")
                if ready:
                    heard = now
                elif now - heard >= self.longest_silence and self._owes_an_answer():
                    raise _Expired(f"the server has been silent for {self.longest_silence:g} s")
        except StopIteration as done:
            return cast(T, done.value)

    def _owes_an_answer(self) -> bool:
        """Tell whether one statement is under way: of a pipeline, as of `executemany`, the answers come together."""
        return self.pgconn.transaction_status == _ACTIVE and self.pgconn.pipeline_status == _NO_PIPELINE

    def _cut_short(self, gen: PQGen[T], reason: str) -> T:
        """Cancel what is under way; where the server does not confirm it, close the connection."""
        try:
            self.cancel_safe(timeout=_GRACE)
            answer = super().wait(gen, _INTERVAL, _GRACE)
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
        return _until(cls._opening(conninfo), time.monotonic() + remaining())

    @classmethod
    def _opening(cls, conninfo: str) -> PQGenConn[Self]:
        return super()._connect_gen(conninfo)


class TracedConnection(BoundedConnection):
    """Notes the SQLSTATE of a refused login, which neither libpq nor psycopg tells, in the error's `sqlstate`.

    libpq's trace has it, on Linux. Each trace keeps some 5 kB that libpq never frees, so it is for the attempts whose
    refusal cannot be understood otherwise: that of a server whose messages are not in English.
    """

    @classmethod
    def _opening(cls, conninfo: str) -> PQGenConn[Self]:
        pgconn = pq.PGconn.connect_start(conninfo.encode())
        trace = os.memfd_create("connect")
        try:
            pgconn.trace(trace)
            try:
                yield from _poll(pgconn)
            finally:
                pgconn.untrace()
            codes = _ERROR_CODE.findall(os.pread(trace, os.fstat(trace).st_size, 0))
        finally:
            os.close(trace)
        if pgconn.status != pq.ConnStatus.OK:
            error = psycopg.OperationalError(pgconn.get_error_message())
            error.sqlstate = codes[-1].decode() if codes else None
            if error.sqlstate == _NO_AUTHORIZATION and pgconn.used_password:
                error.sqlstate = _WRONG_PASSWORD
            pgconn.finish()
            raise error
        pgconn.nonblocking = 1
        return cls(pgconn)


def _poll(pgconn: PGconn) -> PQGenConn[None]:
    waits = {pq.PollingStatus.READING: Wait.R, pq.PollingStatus.WRITING: Wait.W}
    while wait := waits.get(pq.PollingStatus(pgconn.connect_poll())):
        while not (yield pgconn.socket, wait):
            pass


def _until(connecting: PQGenConn[T], end: float) -> PQGenConn[T]:
    try:
        state = next(connecting)
        while True:
            state = connecting.send((yield state))
            if time.monotonic() >= end:
                raise psycopg.errors.ConnectionTimeout("the deadline came before a connection was made")
    except StopIteration as done:
        return cast(T, done.value)
