"""`PoolQueue`: the queue of a connection pool, whose wait ends also if a test freezes the time."""

from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.queue import Empty, Queue

from registration_persistence.clock import monotonic


class PoolQueue(Queue[ConnectionPoolEntry]):
    """SQLAlchemy's queue with another clock; SQLAlchemy's own also ends too late if the clock of the system is set."""

    def get(
        self,
        block: bool = True,  # noqa: FBT001, FBT002 as in SQLAlchemy
        timeout: float | None = None,
    ) -> ConnectionPoolEntry:
        """Return a connection; see SQLAlchemy's `Queue.get`.

        Raises:
            Empty: There is no connection after *timeout* seconds, or at once if *block* is false.
        """
        end = monotonic() + timeout if block and timeout is not None else None
        with self.not_empty:
            while end is not None and self.qsize() == 0:
                if (left := end - monotonic()) <= 0:
                    raise Empty
                self.not_empty.wait(left)
            return super().get(block and end is None)
