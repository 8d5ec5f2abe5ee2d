"""`BoundedPool`: a connection pool whose checkout ends at the deadline."""

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from registration_persistence.database.deadlines import remaining
from registration_persistence.database.pool_queue import PoolQueue
from registration_persistence.errors import PoolExhausted


class BoundedPool(QueuePool):
    """A `QueuePool` whose checkout waits no longer than the deadline, with an error that explains the fix."""

    _queue_class = PoolQueue

    @property
    def _timeout(self) -> float:  # overrides the attribute that QueuePool reads at each checkout
        return max(min(self._max_wait_seconds, remaining()), 0.0)

    @_timeout.setter
    def _timeout(self, seconds: float) -> None:
        self._max_wait_seconds = seconds

    def connect(self) -> PoolProxiedConnection:
        """Check out a connection.

        Raises:
            PoolExhausted: All connections stayed checked out until the pool's timeout or the deadline.
        """
        waited = self._timeout
        try:
            return super().connect()
        except PoolTimeoutError as error:
            if self.size() == 1:
                message = (
                    "this process's one connection is already checked out: use the session that is open instead of "
                    "opening another inside it, or set APP_DATABASE_POOL=service if requests run in parallel"
                )
            else:
                message = (
                    f"all {self.size()} connections of this process stayed checked out for {waited:g} s: "
                    "close sessions sooner, or raise APP_DATABASE_POOL_SIZE"
                )
            raise PoolExhausted(message) from error

    def recreate(self) -> "BoundedPool":
        """Return an empty pool with the same limits; the current deadline does not become its timeout."""
        pool = super().recreate()
        assert isinstance(pool, BoundedPool)
        pool._timeout = self._max_wait_seconds  # noqa: SLF001 of this class
        return pool
