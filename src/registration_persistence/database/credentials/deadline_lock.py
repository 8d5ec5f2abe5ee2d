"""`held_in_time`: holds a lock, and waits for it no longer than the deadline."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from registration_persistence.database.deadlines import remaining
from registration_persistence.errors import SecretUnavailable

# Limit for the wait while another thread holds the lock, without a deadline.
_MAX_WAIT_SECONDS = 60.0


@contextmanager
def held_in_time(lock: RLock, problem: str) -> Iterator[None]:
    """Hold *lock* in the block.

    Args:
        lock: The lock.
        problem: The message of the error.

    Raises:
        SecretUnavailable: Another thread holds it until the deadline, or without one for a minute.
    """
    if not lock.acquire(timeout=max(min(remaining(), _MAX_WAIT_SECONDS), 0)):
        raise SecretUnavailable(problem)
    try:
        yield
    finally:
        lock.release()
