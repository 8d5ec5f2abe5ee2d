"""`AwaitedDatabase`: the part of `AsyncDatabase` that runs in SQLAlchemy's greenlet."""

import asyncio
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import psycopg
from sqlalchemy import event
from sqlalchemy.dialects import registry
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from registration_persistence.database.awaited_credentials import AwaitedCredentials
from registration_persistence.database.awaited_dialect import AwaitedAuroraDialect
from registration_persistence.database.awaited_waits import AWAITED, AWAITED_DRIVER_NAME, AwaitedWaits
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.database import Database
from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.database.pool import BoundedPool
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.database.waits import Waits

registry.register(AWAITED_DRIVER_NAME.replace("+", "."), AwaitedAuroraDialect.__module__, AwaitedAuroraDialect.__name__)


class AwaitedDatabase(Database):
    """A `Database` whose waits are awaited."""

    _waits: Waits = AWAITED

    def __init__(self, settings: DatabaseSettings, credentials: CredentialSource | None = None) -> None:
        self._records: WeakSet[ConnectionPoolEntry] = WeakSet()
        # The event loop that used the database last.
        self._loop: asyncio.AbstractEventLoop | None = None
        # Held while `_loop` changes.
        self._loop_lock = Lock()
        # The connections in use, by task, until the task is collected. If a loop is closed with pending tasks, they end
        # their sessions when they are collected; otherwise SQLAlchemy would warn that the connections come first.
        self._in_use: WeakKeyDictionary[asyncio.Task[Any], dict[ConnectionPoolEntry, PoolProxiedConnection]]
        self._in_use = WeakKeyDictionary()
        self._waits = AwaitedWaits(self.enter_loop)
        super().__init__(settings, credentials)
        for engine in self.engines:
            event.listen(engine, "checkout", self._hold)

    def enter_loop(self) -> None:
        """Let the running event loop use the connections.

        Raises:
            RuntimeError: Another event loop uses them in another thread.
        """
        detect_fork()  # the loop may be one of the parent process
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        with self._loop_lock:
            before = self._loop
            if before is not None and before.is_running():
                raise RuntimeError(
                    "this AsyncDatabase is used by another event loop, which is running in another thread: create an "
                    "AsyncDatabase for each event loop, or send the work there with asyncio.run_coroutine_threadsafe"
                )
            if before is not None and before.is_closed():
                self._abandon_connections_in_use()
            self._loop = loop

    def after_fork_in_child(self) -> None:
        """Drop the parent's connections, locks and event loop without closing them; called in a forked child."""
        self._loop, self._loop_lock = None, Lock()
        self._records.clear()
        self._in_use.clear()
        super().after_fork_in_child()

    def _abandon_connections_in_use(self) -> None:
        """Close the connections that tasks of an ended event loop hold, and free the places for which they wait."""
        for record in list(self._records):
            if record.in_use:
                record.invalidate()
        pools = [engine.pool for engine in self.engines]
        if any(isinstance(pool, BoundedPool) and pool.checkedout() for pool in pools):
            self.dispose()

    def _track(self, connection: psycopg.Connection[Any], record: ConnectionPoolEntry) -> None:
        super()._track(connection, record)
        self._records.add(record)

    def _hold(self, _connection: object, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        task = asyncio.current_task()
        if task is not None:
            # A task may live as long as the process, and without a pool each checkout has a record of its own.
            held = {other: its_proxy for other, its_proxy in self._in_use.get(task, {}).items() if other.in_use}
            self._in_use[task] = {**held, record: proxy}

    def _credentials_in_use(self) -> CredentialSource:
        return AwaitedCredentials(self.credentials, AWAITED)
