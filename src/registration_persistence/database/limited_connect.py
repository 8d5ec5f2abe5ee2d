"""`limited_connect`: an attempt to connect that ends in time, and whose error says whether a server was reached."""

from typing import TypeVar, cast

import psycopg
from psycopg.abc import PQGenConn
from psycopg.waiting import Ready, Wait

from registration_persistence.clock import monotonic

T = TypeVar("T")

_UNREACHABLE = "timeout expired before the server accepted the connection"
_SLOW_LOGIN = "timeout expired during the login"
_SILENT = (
    "timeout expired: the server accepted the connection and has not answered. If it is a paused Aurora cluster, it "
    "resumes in about 15 s, after a day in 30 s or more: raise the deadline or APP_DATABASE_CONNECT_TIMEOUT"
)


def limited_connect(connecting: PQGenConn[T], end: float) -> PQGenConn[T]:
    """Advance *connecting* until *end*.

    Args:
        connecting: psycopg's generator of an attempt to connect.
        end: The end on the clock of `monotonic`.

    Raises:
        psycopg.errors.ConnectionTimeout: No connection was made until *end*.
    """
    has_answered = False
    try:
        state = next(connecting)
        while True:
            ready = yield state
            has_answered = has_answered or bool(ready & Ready.R)
            state = connecting.send(ready)
            if monotonic() >= end:
                raise psycopg.errors.ConnectionTimeout(_progress(state[1], has_answered=has_answered))
    except StopIteration as done:
        return cast(T, done.value)


def _progress(awaited: Wait, *, has_answered: bool) -> str:
    """Return how far the attempt came: libpq waits to read after the server has accepted the connection."""
    if has_answered:
        return _SLOW_LOGIN
    return _SILENT if awaited == Wait.R else _UNREACHABLE
