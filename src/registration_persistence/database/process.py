"""The one `Database` of this process: `get_db`, `session_scope` and `get_engine`."""

from contextlib import AbstractContextManager
from threading import Lock

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from registration_persistence.database.database import Database
from registration_persistence.database.lifecycle import (
    around_snapshots,
    in_lambda,
    on_sigterm,
    reset_in_forked_children,
)
from registration_persistence.database.settings import DatabaseSettings


class _ThisProcess:
    """Holds the one `Database` that `get_db` gives."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._database: Database | None = None
        reset_in_forked_children(self)

    def database(self) -> Database:
        if self._database is None:
            with self._lock:
                if self._database is None:
                    self._database = Database(DatabaseSettings.from_env())
                    if in_lambda():
                        around_snapshots(before=self._database.dispose, after=self._database.after_restore)
                        on_sigterm(self._database.abort_connections)
        return self._database

    def forget(self) -> None:
        """Dispose of the database; the next one is made from the environment of then."""
        with self._lock:
            if self._database is not None:
                self._database.dispose()
            self._database = None

    def after_fork_in_child(self) -> None:
        self._lock = Lock()  # another thread of the parent may have held it


_this_process = _ThisProcess()


def get_db() -> Database:
    """Return this process's database, made from the environment at first use; always the same object.

    Safe to call from any thread, and after a fork: the child gets connections of its own.

    Raises:
        ConfigurationError: The environment is wrong; the next call reads it again.
    """
    return _this_process.database()


def forget_db() -> None:
    """Let the next `get_db()` read the environment again; for tests, each of which has a database of its own."""
    _this_process.forget()


def session_scope(*, autocommit: bool = False, read_only: bool = False) -> AbstractContextManager[Session]:
    """Return `get_db().session(...)`: a session that commits when the block ends."""
    return get_db().session(autocommit=autocommit, read_only=read_only)


def get_engine() -> Engine:
    """Return the engine of `get_db()`, for code that wants plain SQLAlchemy."""
    return get_db().engine
