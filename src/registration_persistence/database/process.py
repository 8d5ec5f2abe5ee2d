"""The one `Database` and the one `AsyncDatabase` of this process: `get_db`, `get_async_db` and their shortcuts."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from threading import RLock
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from registration_persistence.database.database import Database
from registration_persistence.database.lifecycle import (
    around_snapshots,
    detect_fork,
    in_lambda,
    on_sigterm,
    reset_in_forked_children,
)
from registration_persistence.database.settings import DatabaseSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from registration_persistence.database.async_database import AsyncDatabase


class _ThisProcess:
    """Holds the one `Database` that `get_db` returns, and the one `AsyncDatabase` of `get_async_db`."""

    def __init__(self) -> None:
        # It is reentrant, because the asynchronous database takes its credentials from the other one.
        self._lock = RLock()
        self._database: Database | None = None
        self._async_database: AsyncDatabase | None = None
        reset_in_forked_children(self)

    def database(self) -> Database:
        detect_fork()  # another thread of the parent may have held the lock
        if self._database is None:
            with self._lock:
                if self._database is None:
                    self._database = Database(DatabaseSettings.from_env())
                    if in_lambda():
                        around_snapshots(before=self._database.dispose, after=self._database.after_restore)
                        on_sigterm(self._database.abort_connections)
        return self._database

    def async_database(self) -> "AsyncDatabase":
        detect_fork()
        if self._async_database is None:
            with self._lock:
                if self._async_database is None:
                    from registration_persistence.database.async_database import async_database_beside

                    created = async_database_beside(self.database())
                    if in_lambda():
                        around_snapshots(before=created.close_idle, after=created.close_idle)
                        on_sigterm(created.abort_connections)
                    self._async_database = created
        return self._async_database

    def forget(self) -> None:
        """Dispose of the databases; the next use creates new ones from the environment at that time."""
        with self._lock:
            if self._async_database is not None:
                self._async_database.close_idle()
            if self._database is not None:
                self._database.dispose()
            self._database = self._async_database = None

    def after_fork_in_child(self) -> None:
        self._lock = RLock()  # another thread of the parent may have held it during the fork


_this_process = _ThisProcess()


def get_db() -> Database:
    """Return the database of this process, always the same object; the first call creates it from the environment.

    It may be called from any thread, and after a fork: the child opens its own connections. On AWS Lambda, the first
    call also registers hooks for SnapStart and SIGTERM.

    Raises:
        ConfigurationError: The environment is wrong; the next call reads it again.
    """
    return _this_process.database()


def get_async_db() -> "AsyncDatabase":
    """Return the asynchronous database of this process, always the same object.

    It shares the settings and the secret with `get_db()`, which reads the environment, and has connections of its own.
    It may be called from any thread, with or without an event loop, and after a fork; one event loop at a time can use
    the database. On AWS Lambda, the first call also registers hooks for SnapStart and SIGTERM. It needs the extra
    `async`.

    Raises:
        ConfigurationError: The environment is wrong; the next call reads it again.
        ImportError: The package greenlet is not installed.
    """
    return _this_process.async_database()


def async_session_scope(
    *, autocommit: bool = False, read_only: bool = False
) -> AbstractAsyncContextManager["AsyncSession"]:
    """Return a session of `get_async_db()`, which commits when its `async with` block ends, or rolls back if it raises.

    A repository is called with `await session.run_sync(lambda s: RegistrationRepository(s).get(id))`. Only one task at
    a time can use the session.

    Args:
        autocommit: Whether each statement commits in its own transaction. Defaults to false.
        read_only: Whether the server rejects writes. If APP_DATABASE_READER_HOST is set, the session uses the reader
            endpoint: its reads may be stale, and it has a connection of its own. Defaults to false.

    Raises:
        ConfigurationError: The environment is wrong.
        ImportError: The package greenlet is not installed.
        ValueError: *autocommit* and *read_only* are both true.
        RegistrationPersistenceError: One of the errors of `AsyncDatabase.session`, in the block or at its end.
        asyncio.CancelledError: The task was cancelled. If it was cancelled in COMMIT, the work may have been kept.
        RuntimeError: Another event loop, which is running in another thread, uses the database; or two tasks used the
            session at once.
    """
    return get_async_db().session(autocommit=autocommit, read_only=read_only)


def forget_db() -> None:
    """Dispose of the databases, so that the next `get_db()` reads the environment again; for tests."""
    _this_process.forget()


def session_scope(*, autocommit: bool = False, read_only: bool = False) -> AbstractContextManager["Session"]:
    """Return a session of `get_db()`: a context manager that commits when its block ends, and rolls back if it raises.

    Args:
        autocommit: Whether each statement commits in its own transaction. Defaults to false.
        read_only: Whether the server rejects writes. If APP_DATABASE_READER_HOST is set, the session uses the reader
            endpoint: its reads may be stale, and it has a connection of its own. Defaults to false.

    Raises:
        ConfigurationError: The environment is wrong.
        RegistrationPersistenceError: One of the errors of `Database.session`, when the block begins or ends.
    """
    return get_db().session(autocommit=autocommit, read_only=read_only)


def get_engine() -> Engine:
    """Return the engine of `get_db()`, for code that uses SQLAlchemy directly; its connections lead to the writer.

    Raises:
        ConfigurationError: The environment is wrong.
    """
    return get_db().engine
