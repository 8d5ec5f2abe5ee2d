"""`BoundedPool`: a connection pool whose checkout ends at the deadline; `UnpooledConnections` keeps none."""

import time
from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Any

from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, Pool, PoolProxiedConnection

from registration_persistence.clock import monotonic
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.database.pool_place import Place, PoolState, exhausted
from registration_persistence.database.waits import BLOCKING, Waits

MORE_CONNECTIONS = "raise APP_DATABASE_POOL_SIZE"
"""The fix for a pool with too few connections."""

ONE_PER_REQUEST = "set APP_DATABASE_POOL=service if requests run in parallel"
"""The fix for the pool `lambda`, which has one connection."""

_RETURNED_AT = "registration_persistence.returned_at"  # key of the `info` of a record: both clocks at its return


class UnpooledConnections(NullPool):
    """A pool that opens a connection for each checkout, and closes it afterwards."""

    def connect(self) -> PoolProxiedConnection:
        """Open a connection."""
        detect_fork()
        return super().connect()


class BoundedPool(Pool):
    """A pool with a maximum number of connections, whose checkout waits no longer than the deadline.

    It differs from SQLAlchemy's `QueuePool` in this: those who wait get a connection in the order in which they came, a
    failed attempt to connect gives its place to the next one, a connection that returns to a pool that was disposed of
    is closed, and a fork is noticed at the next checkout.

    Args:
        creator: Opens a connection; SQLAlchemy passes it.
        pool_size: Maximum number of connections.
        timeout: Maximum wait for a connection in seconds, in addition to the deadline; 0 means no wait.
        waits: How a checkout waits. Defaults to waits that block the thread.
        fix: The change that gives the pool more connections, for the error message. Defaults to a larger pool.
        options: The other arguments of SQLAlchemy's `Pool`.

    Attributes:
        check: Called at each checkout of an idle connection with its record, and the `time.time()` and `monotonic()`
            of its return; if it raises `DisconnectionError`, another is opened. Fewer calls than SQLAlchemy's events.
    """

    check: Callable[[ConnectionPoolEntry, float, float], None] | None = None

    def __init__(
        self,
        creator: Any,
        pool_size: int = 5,
        timeout: float = 30.0,
        waits: Waits = BLOCKING,
        fix: str = MORE_CONNECTIONS,
        **options: Any,
    ) -> None:
        super().__init__(creator, **options)
        self._size, self._max_wait_seconds, self._waits, self._fix = pool_size, timeout, waits, fix
        self._idle: deque[ConnectionPoolEntry] = deque()
        # The number of connections that are idle, checked out or being opened.
        self._places_taken = 0
        # Those who wait, in the order in which they came; empty unless all places are taken and none is idle.
        self._line: deque[Place] = deque()
        # Reentrant, because garbage collection can return a connection at any moment, also in a thread that holds it.
        self._lock = RLock()
        self._holder: object = None  # the thread or task that was the last to get a place
        # Whether the pool was disposed of, so that it closes each connection that returns.
        self._is_disposed = False
        # The pool that took the place of this one. `None`: this one is in use.
        self._successor: BoundedPool | None = None

    def connect(self) -> PoolProxiedConnection:
        """Check out a connection.

        Raises:
            PoolExhausted: All connections stayed checked out until the pool's timeout or the deadline.
        """
        detect_fork()
        self._waits.enter()  # it may dispose of this pool
        return super().connect() if self._successor is None else self._successor.connect()

    def recreate(self) -> "BoundedPool":
        """Return an empty pool with the same limits; from now on, this pool closes each connection that returns."""
        self._successor = BoundedPool(
            self._creator,
            pool_size=self._size,
            timeout=self._max_wait_seconds,
            waits=self._waits,
            fix=self._fix,
            pre_ping=self._pre_ping,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )
        self._successor.check = self.check
        return self._successor

    def dispose(self) -> None:
        """Close the idle connections."""
        detect_fork()  # these connections may be those of the parent process
        while True:
            with self._lock:
                self._is_disposed = True
                if not self._idle:
                    return
                record = self._idle.popleft()
                self._give(None)
            record.close()

    def size(self) -> int:
        """Return the maximum number of connections."""
        return self._size

    def state(self) -> PoolState:
        """Return the number of connections in each state; it waits for no lock, so the numbers may not add up."""
        idle = len(self._idle)
        return PoolState(self._size, idle, max(self._places_taken - idle, 0), len(self._line))

    def timeout(self) -> float:
        """Return the maximum wait for a connection in seconds, without the deadline."""
        return self._max_wait_seconds

    def checkedin(self) -> int:
        """Return the number of idle connections."""
        return len(self._idle)

    def checkedout(self) -> int:
        """Return the number of connections that are in use or being opened."""
        return self._places_taken - len(self._idle)

    def status(self) -> str:
        """Return a description of the pool's state."""
        return f"Pool size: {self._size}, idle: {self.checkedin()}, checked out: {self.checkedout()}"

    def _do_get(self) -> ConnectionPoolEntry:
        """Return an idle connection, or a new one if there is a free place; wait for either."""
        record = self._take_place()
        if record is not None:
            self._check(record)
            return record
        try:
            return self._create_connection()
        except BaseException:
            self._give(None)
            raise

    def _check(self, record: Any) -> None:
        """Close the connection of *record* if it cannot be used; SQLAlchemy opens another."""
        if self.check is None or record.dbapi_connection is None:
            return
        try:
            self.check(record, *record.info[_RETURNED_AT])
        except DisconnectionError as error:
            record.invalidate(error)
            if error.invalidate_pool and self._invalidate_time < record.starttime:
                self._invalidate_time = time.time()
        except BaseException as error:
            record.invalidate(error)
            self._give(record)
            raise

    def _take_place(self) -> ConnectionPoolEntry | None:
        """Take a place, and return its idle connection; `None` if it has none."""
        caller = self._waits.caller()
        with self._lock:
            if self._idle:
                self._holder = caller
                return self._idle.popleft()
            if self._places_taken < self._size:
                self._holder = caller
                self._places_taken += 1
                return None
            if self._is_nested(caller):
                raise exhausted(self._size, None, self._fix, is_nested=True)
            place = Place(self._waits.turn(), caller)
            self._line.append(place)
        return self._wait_for(place)

    def _wait_for(self, place: Place) -> ConnectionPoolEntry | None:
        wait = max(min(self._max_wait_seconds, remaining()), 0.0)
        is_interrupted = True
        try:
            if wait:
                place.turn.wait(wait)
            is_interrupted = False
        finally:
            with self._lock:
                if not place.is_given:
                    self._line.remove(place)
                elif is_interrupted and place.record is not None:
                    self._do_return_conn(place.record)
                elif is_interrupted:
                    self._give(None)
        if not place.is_given:
            raise exhausted(self._size, wait if self._max_wait_seconds else None, self._fix, is_nested=False)
        return place.record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED_AT] = (time.time(), monotonic())
        with self._lock:
            is_in_use = self._successor is None and not self._is_disposed
            if is_in_use and not self._line:
                self._idle.append(record)
                return
            self._give(record if is_in_use else None)
        if not is_in_use:
            record.close()

    def _give(self, record: ConnectionPoolEntry | None) -> None:
        """Give a place that was taken, with its idle connection if it has one, to the first who waits."""
        with self._lock:
            if self._line:
                place = self._line.popleft()
                self._holder = place.caller
                place.is_given, place.record = True, record
                place.turn.come()
            elif record is not None:
                self._idle.append(record)
            else:
                self._places_taken -= 1

    def _is_nested(self, caller: object) -> bool:
        """Return whether *caller* holds the only connection, so that nobody can return it while it waits."""
        return self._size == 1 and self._holder == caller
