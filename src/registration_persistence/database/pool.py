"""`BoundedPool`: a connection pool whose checkout ends at the deadline."""

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from registration_persistence.database.deadlines import remaining
from registration_persistence.errors import PoolExhausted


class BoundedPool(QueuePool):
    """A `QueuePool` that waits no longer than the deadline, and says what to do when all is checked out."""

    @property
    def _timeout(self) -> float:  # QueuePool has an attribute of this name, which it reads at each checkout
        return max(min(self._longest_wait, remaining()), 0.0)

    @_timeout.setter
    def _timeout(self, seconds: float) -> None:
        self._longest_wait = seconds

    def connect(self) -> PoolProxiedConnection:
        """Check a connection out.

        Raises:
            PoolExhausted: Every connection is checked out, and stayed so for the pool's timeout.
        """
        waited = self._timeout
        try:
            return super().connect()
        except PoolTimeoutError as error:
            if self.size() == 1:
                message = (
                    "this process's one connection is already checked out: use the session that is open instead of "
                    "opening another inside it, or set APP_DATABASE_POOL=service where requests run side by side"
                )
            else:
                message = (
                    f"all {self.size()} connections of this process stayed checked out for {waited:g} s: "
                    "close sessions sooner, or raise APP_DATABASE_POOL_SIZE"
                )
            raise PoolExhausted(message) from error

    def recreate(self) -> "BoundedPool":
        """Return an empty pool with the same limits, whatever the deadline of the moment."""
        pool = super().recreate()
        assert isinstance(pool, BoundedPool)
        pool._timeout = self._longest_wait  # noqa: SLF001 of this class
        return pool
