"""Checks whether a pooled connection is still usable, without a round trip if possible."""

import select
import selectors
import time
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType
from typing import Any, Literal, TypeAlias, assert_never

import psycopg
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from registration_persistence.clock import monotonic
from registration_persistence.database.deadlines import deadline, remaining
from registration_persistence.database.recoverable_connection import outside_transaction

REOPEN_CAUSE = "registration_persistence.reopen_cause"
"""Key of a pool record's `record_info`: the cause with which the next connection of this record is opened."""

MUST_PROBE = "registration_persistence.must_probe"
"""Key of a pool record's `record_info`: the next checkout asks the server, however short the connection was idle."""

LAST_USED_AT = "registration_persistence.last_used_at"
"""Key of a pool record's `record_info`: the `monotonic()` of the last use of a connection that broke."""

# A connection that was idle for longer is probed, because a dead peer may have sent nothing that the socket shows.
_MAX_UNPROBED_IDLE_SECONDS = 30.0
_PROBE_TIMEOUT_SECONDS = 1.0

_CONNECTED = psycopg.pq.ConnStatus.OK

_IS_READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"

_ServerState: TypeAlias = Literal["writable", "read_only", "unreachable"]


def checkout_check(
    *, may_return_to_reader: Callable[[], bool] | None = None
) -> Callable[[ConnectionPoolEntry, float, float], None]:
    """Return the `check` of a pool, which finds a connection that is dead or whose server became read-only.

    Each checkout looks at the socket, without a round trip: it is readable if the server sent something or closed it.
    The server is asked only if the socket is readable, if a write was refused, or after 30 s without use.

    Args:
        may_return_to_reader: If the pool is that of the readers: returns whether a connection to a server that accepts
            writes is replaced, because there may be a reader again. A read-only server is accepted then.
    """
    return partial(_check, may_return_to_reader)


def has_pending_input(connection: psycopg.Connection[Any]) -> bool:
    """Return whether an idle *connection* has unread input, for example why the server closed it; no round trip."""
    driver: Any = connection
    poller = getattr(driver, "input_poller", None)
    if poller is not None and connection.pgconn.status == _CONNECTED:  # a connection keeps its socket
        return bool(poller.poll(0))
    try:
        socket = connection.fileno()
    except psycopg.OperationalError:  # the socket is closed
        return True
    if isinstance(getattr(select, "poll", None), BuiltinFunctionType):
        poller = driver.input_poller = select.poll()
        poller.register(socket, select.POLLIN)
        return bool(poller.poll(0))
    # Libraries that replace blocking calls, such as eventlet, remove `select.poll`, or replace it for each thread.
    with getattr(selectors, "PollSelector", selectors.DefaultSelector)() as selector:
        selector.register(socket, selectors.EVENT_READ)
        return bool(selector.select(0))


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the server answers within a second; one round trip."""
    return _probed_state(connection) != "unreachable"


def is_demoted(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the server has reported that its transactions are read-only by default; no round trip.

    PostgreSQL 14 and newer report it with their next answer. With an older server or a pooler the result is false.
    """
    reported = connection.pgconn.parameter_status
    return reported(b"default_transaction_read_only") == b"on" or reported(b"in_hot_standby") == b"on"


def is_reported_writable(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the server has reported that it accepts writes; no round trip.

    If a transaction is read-only nevertheless, the service made it so.
    """
    return connection.pgconn.parameter_status(b"in_hot_standby") == b"off" and not is_demoted(connection)


def _now() -> tuple[float, float]:
    # Both clocks: while a process is frozen, either may stand still.
    return time.time(), monotonic()


def _check(may_return_to_reader: Callable[[], bool] | None, record: Any, wall: float, before: float) -> None:
    """Raise an error if the idle connection of *record* is unusable; called at each checkout of one.

    Args:
        may_return_to_reader: The argument of `checkout_check`.
        record: The pool record.
        wall: The `time.time()` at which the connection was returned to the pool.
        before: The `monotonic()` at which it was returned.

    Raises:
        DisconnectionError: It is replaced.
        InvalidatePoolError: It is replaced, and so are the other connections that are as old.
    """
    connection, history = record.dbapi_connection, record.record_info
    if remaining() <= 0:
        history[MUST_PROBE] = True  # nothing is sent now, so the next checkout asks the server
        return
    wall_now, now = _now()
    was_idle_long = wall_now - wall > _MAX_UNPROBED_IDLE_SECONDS or now - before > _MAX_UNPROBED_IDLE_SECONDS
    must_probe = was_idle_long or MUST_PROBE in history
    if not (must_probe or may_return_to_reader or has_pending_input(connection) or is_demoted(connection)):
        return  # as nearly always
    history.pop(MUST_PROBE, None)
    state = _state(connection, must_probe=must_probe, must_write=may_return_to_reader is None)
    match state:
        case "writable":
            if may_return_to_reader and is_reported_writable(connection) and may_return_to_reader():
                raise DisconnectionError("the connection leads to the writer, and there may be a reader again")
        case "read_only":
            if may_return_to_reader is None:
                history[REOPEN_CAUSE] = "writer_moved"
                raise InvalidatePoolError("the server is read-only now")
        case "unreachable":
            history[REOPEN_CAUSE] = "thaw"
            history[LAST_USED_AT] = before
            raise DisconnectionError("the connection broke while it was idle")
        case _:
            assert_never(state)


def _state(connection: psycopg.Connection[Any], *, must_probe: bool, must_write: bool) -> _ServerState:
    """Return the state of *connection*'s server, with a round trip only if it is needed."""
    if connection.closed:
        return "unreachable"
    if must_write and is_demoted(connection):
        return "read_only"
    return _probed_state(connection) if must_probe or has_pending_input(connection) else "writable"


def _probed_state(connection: psycopg.Connection[Any]) -> _ServerState:
    """Return the state that the server answers; one round trip."""
    try:
        with deadline(_PROBE_TIMEOUT_SECONDS, reserve=0), outside_transaction(connection):
            row = connection.execute(_IS_READ_ONLY, prepare=False).fetchone()
    except psycopg.Error:
        return "unreachable"
    return "read_only" if row and row[0] else "writable"
