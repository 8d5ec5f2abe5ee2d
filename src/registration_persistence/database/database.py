"""`Database`: sessions that commit on a clean exit; `get_db()`: the one database of this process."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

import psycopg
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool

from registration_persistence.database.backoff import backoff
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.credentials.factory import credentials_for
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.deadlines import deadline, remaining
from registration_persistence.database.engine import READS_ONLY, create_database_engine
from registration_persistence.database.events import DatabaseEvent, Events
from registration_persistence.database.lifecycle import reset_in_forked_children
from registration_persistence.database.session import KEPT, OutcomeTrackingSession, swallowed_error
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    LockTimeout,
    RegistrationPersistenceError,
    TransactionConflict,
    WriterMoved,
)

T = TypeVar("T")

# What `run` repeats: nothing of the transaction was kept, and it can go better at once. Failures to connect are not
# among them, because connecting has waited them out already.
_REPEATABLE: Mapping[type[RegistrationPersistenceError], str] = {
    ConnectionLost: "connection_lost",
    WriterMoved: "writer_moved",
    TransactionConflict: "transaction_conflict",
    LockTimeout: "lock_timeout",
}

# Seconds before the first repetition, and at the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.5

# Seconds, of the 10 that Lambda gives an initialisation.
_WARM_UP = 6.0

_logger = logging.getLogger("registration_persistence.database")

_PING = text("SELECT current_setting('server_version'), current_setting('transaction_read_only') = 'off'")


@dataclass(frozen=True, slots=True)
class Health:
    """What `Database.ping` found.

    Args:
        server_version: As the server says it.
        writable: Whether the server accepts writes; false on a reader and on a writer that was demoted.
        encrypted: Whether the connection uses TLS.
        seconds: How long the question took, opening a connection included where there was none.
    """

    server_version: str
    writable: bool
    encrypted: bool
    seconds: float


class Database:
    """A database and this process's connections to it; opens the first one when it is first used.

    Args:
        settings: Where it is and how it may be reached.
        credentials: Where user and password come from; by default what *settings* name.

    Attributes:
        settings: As given.
        credentials: Where user and password come from.
        events: What happened between this process and the database; see `Events.subscribe`.
        engine: The SQLAlchemy engine, for code that wants plain SQLAlchemy.
    """

    def __init__(self, settings: DatabaseSettings, credentials: CredentialSource | None = None) -> None:
        self.settings = settings
        self.events = Events()
        self.credentials = credentials or credentials_for(settings, on_event=self._emit)
        self.engine: Engine = create_database_engine(settings, self.credentials, self.events)
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._read_only = self.engine.execution_options(postgresql_readonly=True)
        self._opened: WeakSet[psycopg.Connection[Any]] = WeakSet()
        self._inherited: list[Pool] = []
        event.listen(self.engine, "connect", lambda connection, _record: self._opened.add(connection))
        reset_in_forked_children(self)

    def __repr__(self) -> str:
        return f"<Database {self.settings.name} at {self.settings.host}:{self.settings.port}>"

    @contextmanager
    def session(self, *, autocommit: bool = False, read_only: bool = False) -> Iterator[Session]:
        """Open a session, commit when the block ends, roll back when it raises.

        Round trips, on a connection that is open: one for each statement, and two for BEGIN and COMMIT, which
        *autocommit* saves. Objects stay readable after the block.

        Args:
            autocommit: Every statement commits by itself. Right where the block makes one repository call; an ORM
                flush of several statements is not atomic then.
            read_only: The server refuses writes.

        Raises:
            PoolExhausted: The process's connections are all checked out.
            CommitOutcomeUnknown: The connection broke in COMMIT, or in a statement under *autocommit*.
            TransactionAborted: A statement failed, its error was swallowed, and the block ended as if all were well.
            RegistrationPersistenceError: What else connecting or a statement may meet; see `errors`.
            sqlalchemy.exc.SQLAlchemyError: A statement of the service's own is wrong, or breaks a constraint.
        """
        if autocommit and read_only:
            raise ValueError("autocommit and read_only exclude each other: a transaction is what is read-only")
        engine = self._autocommit if autocommit else self._read_only if read_only else self.engine
        session = OutcomeTrackingSession(engine, expire_on_commit=False, close_resets_only=False)
        try:
            yield session
            session.commit()
        except PendingRollbackError as error:
            raise swallowed_error(session, error, autocommit=autocommit) from error
        except BaseException:
            with suppress(SQLAlchemyError, RegistrationPersistenceError):
                session.rollback()
            raise
        finally:
            session.close()

    def run(
        self, work: Callable[[Session], T], *, attempts: int = 3, idempotent: bool = False, autocommit: bool = False
    ) -> T:
        """Call *work* with a session, commit, and return what it returned; do so again where that is known to be safe.

        It is repeated, on another connection if need be, after a lost connection, a writer that moved, a conflict or a
        lock that was not free, for in each case nothing was kept. Not after `CommitOutcomeUnknown`, unless it is
        *idempotent*; not where *work* has committed by itself before it failed, unless it is; and not where connecting
        failed, which has waited for as long as it may. What *work* does elsewhere, mail for example, it does at each
        attempt.

        Args:
            work: What to do in the transaction. It may be called several times, each time with a new session.
            attempts: How often at most, 1 or more.
            idempotent: Whether a repetition changes nothing if the first attempt was kept, as with a `register` that
                has an idempotency key.
            autocommit: As for `session`: one round trip for each statement. What is before a statement that fails was
                kept then, so *work* must be *idempotent*.

        Raises:
            CommitOutcomeUnknown: The connection broke in COMMIT, or it did in an earlier attempt and what followed
                failed, too.
            RegistrationPersistenceError: As for `session`, when the last attempt failed.
        """
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}: expected 1 or more")
        if autocommit and not idempotent:
            raise ValueError("work in autocommit can be repeated only where it is idempotent: say so, or use session()")
        unknown: CommitOutcomeUnknown | None = None
        kept = False
        for attempt in range(1, attempts + 1):
            try:
                with self.session(autocommit=autocommit) as session:
                    try:
                        return work(session)
                    finally:
                        kept = kept or KEPT in session.info
            except CommitOutcomeUnknown as error:
                unknown = error
                if not idempotent or not self._wait_to_repeat("commit_outcome_unknown", attempt, attempts):
                    raise
            except RegistrationPersistenceError as error:
                cause = next((cause for kind, cause in _REPEATABLE.items() if isinstance(error, kind)), None)
                if cause is None or (kept and not idempotent) or not self._wait_to_repeat(cause, attempt, attempts):
                    if unknown is None:
                        raise
                    message = f"an earlier attempt may have been kept ({unknown}), and the last one failed: {error}"
                    raise CommitOutcomeUnknown(message) from error
        raise AssertionError("unreachable")

    def _wait_to_repeat(self, cause: str, attempt: int, attempts: int) -> bool:
        """Wait, and tell whether there may be another attempt."""
        wait = backoff(attempt, _FIRST_WAIT, _LONGEST_WAIT)
        if attempt == attempts or wait >= remaining():
            return False
        self._emit("retry", cause, wait)
        time.sleep(wait)
        return True

    def warm_up(self) -> bool:
        """Read the secret and open the connection before the first request, where a Lambda is initialised.

        It takes 6 s at most, of the 10 that Lambda gives. Where it fails, that is logged, and the first request tries
        again.

        Returns:
            Whether the database answered.

        Raises:
            ConfigurationError: The settings are wrong.
        """
        try:
            with deadline(_WARM_UP, reserve=0):
                self.ping()
        except RegistrationPersistenceError as error:
            _logger.warning("could not warm up, the first request will try again: %s", error)
            return False
        return True

    def ping(self) -> Health:
        """Ask the server whether it is there and writable; one round trip on a connection that is open.

        Raises:
            RegistrationPersistenceError: As for `session`.
        """
        started = time.monotonic()
        with self._autocommit.connect().execution_options(**{READS_ONLY: True}) as connection:
            version, writable = connection.execute(_PING).one()
            encrypted = driver_connection(connection).pgconn.ssl_in_use
        return Health(version, writable, encrypted, time.monotonic() - started)

    def dispose(self) -> None:
        """Close the connections that are not checked out; the next use opens a new one."""
        self.engine.dispose()

    def after_fork_in_child(self) -> None:
        """Start without connections, leaving the parent's open; called in a forked child."""
        # What the child would send on an inherited socket, a ROLLBACK of a session it unwinds say, the parent's server
        # would obey.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for connection in self._opened:
            if not connection.closed:
                os.dup2(nowhere, connection.fileno())
        os.close(nowhere)
        self._opened.clear()
        # A pool that is collected warns about its open connections, and they are the parent's to close.
        self._inherited.append(self.engine.pool)
        self.events.after_fork_in_child()
        self.credentials.after_fork_in_child()
        self.engine.dispose(close=False)

    def after_restore(self) -> None:
        """Check the secret after a SnapStart snapshot was restored, which may be weeks old; `get_db` sees to it."""
        with deadline(_WARM_UP, reserve=0):
            self.credentials.refresh()

    def abort_connections(self) -> None:
        """Close every connection at once, also those in use, because the process ends."""
        for connection in list(self._opened):
            with suppress(OSError, psycopg.Error):  # it went away by itself
                _end(connection)

    def _emit(self, name: str, cause: str, seconds: float) -> None:
        self.events.emit(DatabaseEvent(name, cause, seconds))


def _end(connection: psycopg.Connection[Any]) -> None:
    """Close *connection*, or hang up where it is in use: whoever waits in it must not find its memory freed."""
    if connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
        with socket.socket(fileno=os.dup(connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
    else:
        connection.close()
