"""`AwaitedConnection`: a connection whose waits let the other tasks of the event loop run."""

import asyncio
from collections.abc import Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import pq
from psycopg.abc import PQGen, PQGenConn
from psycopg.pq.abc import PGconn
from psycopg.rows import Row, RowFactory
from psycopg.waiting import wait_async, wait_conn_async
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.util.concurrency import await_, in_greenlet

from registration_persistence.database.bounded_server_cursor import BoundedServerCursor
from registration_persistence.database.connection import BoundedConnection, WaitEnded, abort
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.error_translation import is_lost
from registration_persistence.database.events import CommitCause
from registration_persistence.database.evident_connection import EvidentCursor
from registration_persistence.database.traced_connection import TracedConnection

T = TypeVar("T")

# The time for the reply to a COMMIT in which the task was cancelled.
_COMMIT_REPLY_SECONDS = 1.0

_INTERVAL_SECONDS = 0.05

_ACTIVE = pq.TransactionStatus.ACTIVE


def require_await() -> None:
    """Check that a wait can let the other tasks run.

    Raises:
        MissingGreenlet: It is not called in a unit of work of `AsyncDatabase`.
    """
    if not in_greenlet():
        raise MissingGreenlet(
            "the asynchronous database was used without await, so nothing was sent: use it in the function that "
            "AsyncDatabase.run() calls, or in that of `await session.run_sync(...)`"
        )


class AwaitedWait(psycopg.Connection[Row]):
    """The wait of psycopg, awaited; it takes the place of psycopg's own at the end of the line of base classes."""

    def wait(self, gen: PQGen[T], interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> T:
        """Wait for the reply to the command of *gen*.

        Raises:
            MissingGreenlet: It is not called in a unit of work of `AsyncDatabase`; nothing was sent.
        """
        require_await()
        socket = self.pgconn.socket  # raises if the connection is closed, before the command begins
        # A command that needs no reply must not let other tasks run, because the task could be cancelled there.
        try:
            state = next(gen)
        except StopIteration as done:
            return cast(T, done.value)
        return await_(wait_async(_resumed(gen, state), socket, interval, timeout))


class AwaitedConnection(BoundedConnection[Row], AwaitedWait[Row]):
    """A connection whose waits are awaited in SQLAlchemy's greenlet.

    Attributes:
        cancelled_outcome: How the last command ended in which the task was cancelled: `kept` if the server executed it,
            `not_kept` if it did not, `unknown` if it did not answer, so that the connection is closed. `None`: there is
            none, or it was reported.
    """

    def __init__(self, pgconn: PGconn, *row_factory: RowFactory[Row]) -> None:
        super().__init__(pgconn, *row_factory)
        self.cancelled_outcome: CommitCause | None = None
        self.lock: Any = _OneTask()  # psycopg's would block the event loop for good
        self.cursor_factory = AwaitedCursor
        self.server_cursor_factory = AwaitedServerCursor

    @classmethod
    def own_cursor_class(cls) -> type[psycopg.Cursor[Any]]:
        """Return the class of the cursors."""
        return AwaitedCursor

    def close(self) -> None:
        """Close the connection; if another task waits for it, end the wait, and leave the rest to that task.

        The event loop would watch a socket that is closed, and that may soon be the socket of another connection.
        """
        if self.lock.is_held_by_another_task() and not self.closed:
            with suppress(OSError):
                abort(self)
        else:
            super().close()

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        return _without_steps(super()._connect_gen(conninfo))

    def _wait_for_cancellation(self, sending: PQGenConn[None]) -> None:
        await_(wait_conn_async(sending, _INTERVAL_SECONDS))

    def _cancel(self, gen: PQGen[T], reason: str) -> T:
        """Cancel the running statement; close the connection also if the task is cancelled meanwhile."""
        try:
            return super()._cancel(gen, reason)
        except psycopg.Error:
            raise
        except BaseException:
            self._abandon(gen)
            raise

    def _after_interrupt(self, gen: PQGen[Any], error: BaseException) -> None:
        """Settle the running command, if the task was cancelled in it; close the connection if nobody can wait."""
        if isinstance(error, Exception) or self.pgconn.transaction_status != _ACTIVE:
            super()._after_interrupt(gen, error)
            return
        self.cancelled_outcome = "unknown"
        if not isinstance(error, asyncio.CancelledError):  # GeneratorExit: the loop was closed, and nobody can wait
            self._abandon(gen)
            return
        try:
            self.cancelled_outcome = self._reply_to_commit(gen) if self.is_committing else self._cancelled_outcome(gen)
        except BaseException as second:
            self._abandon(gen)
            if not isinstance(second, asyncio.CancelledError):
                raise
        super()._after_interrupt(gen, error)

    def drop_stale_statements(self) -> None:
        """Drop all prepared statements; if the task is cancelled meanwhile, the next statement was not sent."""
        try:
            super().drop_stale_statements()
        except asyncio.CancelledError:
            self.cancelled_outcome = "not_kept"
            raise

    def _cancelled_outcome(self, gen: PQGen[Any]) -> CommitCause:
        """Cancel the running statement, and return how it ended."""
        try:
            self._cancel(gen, "the task was cancelled")
        except psycopg.Error:
            return "unknown" if self.closed else "not_kept"
        return "kept"

    def _reply_to_commit(self, gen: PQGen[Any]) -> CommitCause:
        """Return how COMMIT ended, which is not cancelled on the server: the task did not ask to undo its work."""
        seconds = min(max(remaining(), 0.0), _COMMIT_REPLY_SECONDS)
        try:
            AwaitedWait.wait(self, self._limited(gen, seconds))
        except WaitEnded:
            self._abandon(gen)
            return "unknown"
        except psycopg.Error as error:
            return "unknown" if is_lost(error, self) else "not_kept"
        return "kept"


class AwaitedTracedConnection(AwaitedConnection[Row], TracedConnection[Row]):
    """A connection whose failed login has a `sqlstate`."""


class _ClosedWithoutWait:
    async def _async_soft_close(self) -> None:
        """Release the cursor, whose result has been fetched; SQLAlchemy's AsyncSession calls it."""


class AwaitedCursor(_ClosedWithoutWait, EvidentCursor[Row]):
    """A cursor of `AwaitedConnection`."""


class AwaitedServerCursor(_ClosedWithoutWait, BoundedServerCursor[Row]):
    """A server-side cursor of `AwaitedConnection`."""


class _OneTask:
    """The lock of a connection, which refuses a second task instead of waiting for the first one."""

    def __init__(self) -> None:
        self._is_held = False
        self._holder: asyncio.Task[Any] | None = None

    def __enter__(self) -> None:
        if self._is_held:
            raise RuntimeError(
                "a session was used by two tasks at once, so the second statement was not sent: open a session in "
                "each task"
            )
        self._is_held, self._holder = True, _running_task()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._is_held, self._holder = False, None

    def is_held_by_another_task(self) -> bool:
        """Return whether a task of the running event loop waits for a reply, and it is not this one."""
        holder = self._holder
        return holder is not None and holder.get_loop().is_running() and holder is not _running_task()


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop is running in this thread
        return None


def _resumed(gen: Generator[Any, Any, T], state: Any) -> Generator[Any, Any, T]:
    """Go on with *gen*, which has yielded *state* already."""
    try:
        while True:
            state = gen.send((yield state))
    except StopIteration as done:
        return cast(T, done.value)


def _without_steps(connecting: PQGenConn[T]) -> PQGenConn[T]:
    """Await *connecting*, and return its result as a generator that yields nothing, so that psycopg does not wait."""
    return await_(wait_conn_async(connecting, _INTERVAL_SECONDS))
    yield
