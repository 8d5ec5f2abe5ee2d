"""`AwaitedConnection`: a connection whose waits let the other tasks of the event loop run."""

import asyncio
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar, cast

import psycopg
from psycopg import pq
from psycopg.abc import PQGen, PQGenConn
from psycopg.pq.abc import PGconn
from psycopg.rows import Row, RowFactory
from psycopg.waiting import wait_async, wait_conn_async
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.util.concurrency import await_, in_greenlet

from registration_persistence.database.connection import BoundedConnection, BoundedServerCursor, WaitEnded
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.evident_connection import EvidentCursor
from registration_persistence.database.traced_connection import TracedConnection

T = TypeVar("T")

Outcome: TypeAlias = Literal["kept", "not_kept", "unknown"]
"""The outcome of a COMMIT, or of a statement in autocommit, in which a task was cancelled."""

# The time for the reply to a COMMIT in which the task was cancelled.
_COMMIT_REPLY_SECONDS = 1.0

_INTERVAL_SECONDS = 0.05

_ACTIVE = pq.TransactionStatus.ACTIVE


class AwaitedWait(psycopg.Connection[Row]):
    """The wait of psycopg, awaited; it takes the place of psycopg's own at the end of the line of base classes."""

    def wait(self, gen: PQGen[T], interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> T:
        """Wait for the reply to the command of *gen*.

        Raises:
            MissingGreenlet: It is not called in a unit of work of `AsyncDatabase`; nothing was sent.
        """
        if not in_greenlet():
            gen.close()
            raise MissingGreenlet(
                "the asynchronous database was used without await, so nothing was sent: use it in the function that "
                "AsyncDatabase.run() calls, or in that of `await session.run_sync(...)`"
            )
        # A command that needs no reply must not let other tasks run, because the task could be cancelled there.
        try:
            state = next(gen)
        except StopIteration as done:
            return cast(T, done.value)
        return await_(wait_async(_resumed(gen, state), self.pgconn.socket, interval, timeout))


class AwaitedConnection(BoundedConnection[Row], AwaitedWait[Row]):
    """A connection whose waits are awaited in SQLAlchemy's greenlet.

    Attributes:
        cancelled_outcome: The outcome of the last COMMIT, or statement in autocommit, in which the task was cancelled.
            `None`: the task was cancelled in none.
    """

    def __init__(self, pgconn: PGconn, *row_factory: RowFactory[Row]) -> None:
        super().__init__(pgconn, *row_factory)
        self.cancelled_outcome: Outcome | None = None
        self.lock: Any = _OneTask()  # psycopg's would block the event loop for good
        self.cursor_factory = AwaitedCursor
        self.server_cursor_factory = AwaitedServerCursor

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        connecting = super()._connect_gen(conninfo)
        return _without_steps(lambda: await_(wait_conn_async(connecting, _INTERVAL_SECONDS)))

    def _wait_for_cancellation(self, sending: PQGenConn[None]) -> None:
        await_(wait_conn_async(sending, _INTERVAL_SECONDS))

    def _after_interrupt(self, gen: PQGen[Any], error: BaseException) -> None:
        """Settle the running statement, if the task was cancelled in it; close the connection if nobody can wait."""
        if isinstance(error, asyncio.CancelledError) and self.pgconn.transaction_status == _ACTIVE:
            try:
                self._settle(gen, error)
            except asyncio.CancelledError:  # a second time, in which nobody waits any more
                self.close()
        elif isinstance(error, GeneratorExit):  # the event loop was closed, and did not cancel the task
            self.close()
        super()._after_interrupt(gen, error)

    def _settle(self, gen: PQGen[Any], error: BaseException) -> None:
        self.cancelled_outcome = None
        if self.is_committing:
            self.cancelled_outcome = "unknown"
            self.cancelled_outcome = self._outcome_of_commit(gen)
            error.add_note(f"the task was cancelled in COMMIT, {_MEANING[self.cancelled_outcome]}")
            return
        in_autocommit = self.autocommit
        if in_autocommit:
            self.cancelled_outcome = "unknown"
        try:
            self._cancel(gen, "the task was cancelled")
            outcome: Outcome = "kept"
        except psycopg.errors.QueryCanceled:
            outcome = "not_kept"
        except psycopg.OperationalError:
            outcome = "unknown"
        except psycopg.Error:  # the statement had failed
            outcome = "not_kept"
        if in_autocommit:
            self.cancelled_outcome = outcome
            error.add_note(f"the task was cancelled in a statement in autocommit, {_MEANING[outcome]}")

    def _outcome_of_commit(self, gen: PQGen[Any]) -> Outcome:
        """Wait for the reply to COMMIT, which is not cancelled on the server, because that would be a race."""
        seconds = min(max(remaining(), 0.0), _COMMIT_REPLY_SECONDS)
        try:
            AwaitedWait.wait(self, self._limited(gen, seconds))
        except (WaitEnded, psycopg.OperationalError):
            self.close()
            return "unknown"
        except psycopg.Error:  # the server refused it
            return "not_kept"
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


_MEANING = {
    "kept": "which was kept",
    "not_kept": "which was not kept",
    "unknown": "and it is unknown whether that was kept",
}


class _OneTask:
    """The lock of a connection, which refuses a second task instead of waiting for the first one."""

    def __init__(self) -> None:
        self._is_held = False

    def __enter__(self) -> None:
        if self._is_held:
            raise RuntimeError(
                "a session was used by two tasks at once, so the second statement was not sent: open a session in "
                "each task"
            )
        self._is_held = True

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._is_held = False


def _resumed(gen: Generator[Any, Any, T], state: Any) -> Generator[Any, Any, T]:
    """Go on with *gen*, which has yielded *state* already."""
    try:
        while True:
            state = gen.send((yield state))
    except StopIteration as done:
        return cast(T, done.value)


def _without_steps(get_result: Callable[[], T]) -> Generator[Any, Any, T]:
    """Return the result as a generator that yields nothing, so that psycopg does not wait for it."""
    return get_result()
    yield
