"""Repeat DDL that gave up because a table was locked, or that ended a deadlock."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from registration_persistence.database.deadlines import remaining
from registration_persistence.durations import Duration, in_seconds
from registration_persistence.errors import LockTimeout, TransactionConflict

T = TypeVar("T")

_logger = logging.getLogger("registration_persistence.migrations")


def retry_on_lock_timeout(work: Callable[[], T], attempts: int, pause: Callable[[int], Duration]) -> T:
    """Call *work* until it raises neither `LockTimeout` nor `TransactionConflict`, and return its result.

    DDL that waits for a lock queues every other statement on the table behind it. It therefore gives up soon, and
    pauses before the next attempt, so that the other statements get through. DDL on several tables can also be in a
    deadlock with a transaction that uses them in another order.

    Args:
        work: The function to call. When it raises, it must not keep any lock.
        attempts: The maximum number of calls, 1 or more.
        pause: Called with the number of failed attempts; returns how long to wait before the next attempt, as a
            `timedelta` or in seconds.

    Raises:
        LockTimeout: The last attempt failed, or the deadline comes before the next one.
        TransactionConflict: The same, because of a deadlock.
    """
    for attempt in range(1, attempts):
        try:
            return work()
        except (LockTimeout, TransactionConflict):
            seconds = in_seconds(pause(attempt))
            if seconds >= remaining():
                raise
        _logger.info("a table is locked: attempt %d of %d failed, trying again in %g s", attempt, attempts, seconds)
        time.sleep(seconds)
    return work()
