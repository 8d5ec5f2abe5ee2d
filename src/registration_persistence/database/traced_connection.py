"""`TracedConnection`: a connection that reports the SQLSTATE of a failed login."""

import os
import re
from typing import Self

import psycopg
from psycopg import pq
from psycopg.abc import PQGenConn
from psycopg.pq.abc import PGconn
from psycopg.rows import Row
from psycopg.waiting import Wait

from registration_persistence.database.connection import BoundedConnection

# 28000: rejected by `pg_hba.conf`; after password authentication: the role has NOLOGIN (the previous user of a
# rotation).
_INVALID_AUTHORIZATION = "28000"

_INVALID_PASSWORD = "28P01"  # noqa: S105 it is a code of the SQL standard

# The SQLSTATE of an ErrorResponse in libpq's trace.
_TRACED_SQLSTATE = re.compile(rb'\tErrorResponse\t.*? C "([0-9A-Z]{5})"')


class TracedConnection(BoundedConnection[Row]):
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


def _poll(pgconn: PGconn) -> PQGenConn[None]:
    """Wait until libpq has connected or failed."""
    waits = {pq.PollingStatus.READING: Wait.R, pq.PollingStatus.WRITING: Wait.W}
    while wait := waits.get(pq.PollingStatus(pgconn.connect_poll())):
        while not (yield pgconn.socket, wait):
            pass
