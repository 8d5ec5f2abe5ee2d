"""`OpenConnections`: the connections of a database that are open, for the end of a process and for a fork."""

import os
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import psycopg
from sqlalchemy import Engine
from sqlalchemy.pool import Pool

from registration_persistence.database.connection import abort


class OpenConnections:
    """The open connections of *engines*."""

    def __init__(self, *engines: Engine) -> None:
        self._engines = engines
        self._connections: WeakSet[psycopg.Connection[Any]] = WeakSet()
        # Pools of the parent process. They are kept, because a pool that is collected warns about open connections,
        # and these are the parent's to close.
        self._inherited: list[Pool] = []

    def add(self, connection: psycopg.Connection[Any]) -> None:
        """Track *connection* while it is referenced elsewhere."""
        self._connections.add(connection)

    def abort(self) -> None:
        """Close every connection at once, including those in use."""
        for connection in list(self._connections):
            with suppress(OSError, psycopg.Error):  # it was closed meanwhile
                abort(connection)

    def after_fork_in_child(self) -> None:
        """Drop the parent's connections without closing them, and start with an empty pool."""
        # The parent's server would execute what the child sends on an inherited socket, for example the ROLLBACK of a
        # session that is unwound.
        null = os.open(os.devnull, os.O_RDWR)
        for connection in self._connections:
            if not connection.closed:
                os.dup2(null, connection.fileno())
        os.close(null)
        self._connections.clear()
        for engine in self._engines:
            self._inherited.append(engine.pool)
            engine.dispose(close=False)
