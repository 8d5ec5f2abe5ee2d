"""Is the pooled connection still good? Asked without a round trip where that is possible."""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from registration_persistence.database.deadlines import deadline

REOPENING = "registration_persistence.reopening"
"""The key of a pool record's `record_info` that says why its next connection is opened."""

SUSPECT = "registration_persistence.suspect"
"""The key of a `record_info` that says that its connection must be asked at the next checkout."""

# Seconds without use after which a connection is asked whether it is alive. Dead sockets are seen after some minutes.
_IDLE = 30.0
# Seconds that it has to answer.
_PATIENCE = 1.0
_IDLE_SINCE = "registration_persistence.idle_since"
_QUESTION = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"


def check_on_checkout(engine: Engine) -> None:
    """Replace a pooled connection of *engine* that is dead, or no longer the writer's, before anybody gets it.

    Every checkout looks at the socket, which costs no round trip: it is readable where the server has said or closed
    something. Only then, and where the connection idled for more than half a minute, is the server asked.
    """
    event.listen(engine, "checkin", _note_time)
    event.listen(engine, "checkout", _check)


def said_something(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the server has sent anything to an idle *connection*, such as why it closed it; no round trip."""
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
    except psycopg.OperationalError:  # it has no socket any more
        return True
    return bool(poll.poll(0))


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Ask the server, which takes one round trip and at most a second."""
    return _answer(connection) is not None


def is_demoted(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the server said, with its last answer, that its transactions are read-only by default.

    PostgreSQL 14 and newer report it without being asked; from an older one, or a pooler, this is false.
    """
    reported = (b"default_transaction_read_only", b"in_hot_standby")
    return any(connection.pgconn.parameter_status(name) == b"on" for name in reported)


def made_read_only_by_itself(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether a transaction that is read-only must have been made so by the service: the server is a writer."""
    return connection.pgconn.parameter_status(b"in_hot_standby") == b"off" and not is_demoted(connection)


def _now() -> tuple[float, float]:
    # A frozen process may find either clock where it was.
    return time.time(), time.monotonic()


def _note_time(connection: Any, record: ConnectionPoolEntry) -> None:
    if connection is not None:
        record.info[_IDLE_SINCE] = _now()


def _check(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    since = record.info.pop(_IDLE_SINCE, None)
    if since is None:
        return  # it was opened a moment ago
    assert record.record_info is not None
    suspect = record.record_info.pop(SUSPECT, None)
    idle = max(now - then for now, then in zip(_now(), since, strict=True))
    demoted = None if connection.closed else is_demoted(connection)
    if demoted is False and (suspect or idle > _IDLE or said_something(connection)):
        demoted = _answer(connection)
    if demoted:
        record.record_info[REOPENING] = "writer_moved"
        raise InvalidatePoolError("the server is read-only now")
    if demoted is None:
        record.record_info[REOPENING] = "thaw"
        raise DisconnectionError("the connection did not survive its idle time")


def _answer(connection: psycopg.Connection[Any]) -> bool | None:
    """Return whether the server is read-only; `None` where it does not answer."""
    try:
        with deadline(_PATIENCE, reserve=0), _own_statement(connection):
            row = connection.execute(_QUESTION, prepare=False).fetchone()
    except psycopg.Error:
        return None
    return bool(row and row[0])


@contextmanager
def _own_statement(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Let a statement begin no transaction where there is none."""
    idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    if not idle or connection.autocommit:
        yield
        return
    connection.autocommit = True
    try:
        yield
    finally:
        if not connection.closed:
            connection.autocommit = False
