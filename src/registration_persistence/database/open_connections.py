"""`OpenConnections`: the connections of an engine that are open, for the end of a process and for a fork."""

import os
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import psycopg
from sqlalchemy import Engine
from sqlalchemy.pool import Pool

from registration_persistence.database.connection import abort


class OpenConnections:
    """The open connections of *engine*."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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
        self._inherited.append(self._engine.pool)
        self._engine.dispose(close=False)
