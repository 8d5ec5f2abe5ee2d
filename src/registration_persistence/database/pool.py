"""`BoundedPool`: a connection pool whose checkout ends at the deadline; `UnpooledConnections` keeps none."""

from collections import deque
from threading import Condition, RLock, get_ident
from typing import Any

from sqlalchemy.pool import ConnectionPoolEntry, NullPool, Pool, PoolProxiedConnection

from registration_persistence.clock import monotonic
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.errors import PoolExhausted


class UnpooledConnections(NullPool):
    """A pool that opens a connection for each checkout, and closes it afterwards."""

    def connect(self) -> PoolProxiedConnection:
        """Open a connection."""
        detect_fork()
        return super().connect()


class BoundedPool(Pool):
    """A pool with a maximum number of connections, whose checkout waits no longer than the deadline.

    It differs from SQLAlchemy's `QueuePool` in this: a failed attempt to connect wakes a thread that waits, a
    connection that returns to a pool that was disposed of is closed, and a fork is noticed at the next checkout.

    Args:
        creator: Opens a connection; SQLAlchemy passes it.
        pool_size: Maximum number of connections.
        timeout: Maximum wait for a connection in seconds, in addition to the deadline; 0 means no wait.
        options: The other arguments of SQLAlchemy's `Pool`.
    """

    def __init__(self, creator: Any, pool_size: int = 5, timeout: float = 30.0, **options: Any) -> None:
        super().__init__(creator, **options)
        self._size, self._max_wait_seconds = pool_size, timeout
        self._idle: deque[ConnectionPoolEntry] = deque()
        # The number of connections that are idle, checked out or being opened.
        self._places_taken = 0
        # Notified when a connection is idle or a place is free. Its lock is reentrant, because garbage collection can
        # return a connection at any moment, also in a thread that holds the lock.
        self._changed = Condition(RLock())
        # The thread that checked out the last connection.
        self._holder: int | None = None
        # The pool that took the place of this one. `None`: this one is in use.
        self._successor: BoundedPool | None = None

    def connect(self) -> PoolProxiedConnection:
        """Check out a connection.

        Raises:
            PoolExhausted: All connections stayed checked out until the pool's timeout or the deadline.
        """
        detect_fork()
        return super().connect() if self._successor is None else self._successor.connect()

    def recreate(self) -> "BoundedPool":
        """Return an empty pool with the same limits; from now on, this pool closes each connection that returns."""
        self._successor = BoundedPool(
            self._creator,
            pool_size=self._size,
            timeout=self._max_wait_seconds,
            pre_ping=self._pre_ping,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )
        return self._successor

    def dispose(self) -> None:
        """Close the idle connections."""
        detect_fork()  # these connections may be those of the parent process
        while True:
            with self._changed:
                if not self._idle:
                    return
                record = self._idle.popleft()
                self._free_place()
            record.close()

    def size(self) -> int:
        """Return the maximum number of connections."""
        return self._size

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
        return f"Pool size: {self.size()}, idle: {self.checkedin()}, checked out: {self.checkedout()}"

    def _do_get(self) -> ConnectionPoolEntry:
        """Return an idle connection, or a new one if there is a free place; wait for either."""
        with self._changed:
            if not self._idle and self._places_taken >= self._size:
                self._wait_for_place()
            self._holder = get_ident()
            if self._idle:
                return self._idle.popleft()
            self._places_taken += 1
        try:
            return self._create_connection()
        except BaseException:
            self._free_place()
            raise

    def _wait_for_place(self) -> None:
        wait = max(min(self._max_wait_seconds, remaining()), 0.0)
        end = monotonic() + wait
        while not self._idle and self._places_taken >= self._size:
            if not self._changed.wait(end - monotonic()):
                raise self._exhausted(wait)

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        with self._changed:
            if self._successor is None:
                self._idle.append(record)
                self._changed.notify()
                return
            self._free_place()
        record.close()

    def _free_place(self) -> None:
        with self._changed:
            self._places_taken -= 1
            self._changed.notify()

    def _exhausted(self, waited: float) -> PoolExhausted:
        """Return an error that names the fix, and is retryable unless the connection is held by this thread itself."""
        nested = self._size == 1 and self._holder == get_ident()
        if nested:
            message = (
                "this process's one connection is already checked out: use the session that is open instead of "
                "opening another inside it, or set APP_DATABASE_POOL=service if requests run in parallel"
            )
        elif not self._max_wait_seconds:
            message = (
                "this process's one connection is checked out in another thread: set APP_DATABASE_POOL=service if "
                "requests run in parallel"
            )
        else:
            message = (
                f"all {self._size} connections of this process stayed checked out for {waited:g} s: "
                "close sessions sooner, or raise APP_DATABASE_POOL_SIZE"
            )
        return PoolExhausted(message, retryable=not nested)
