"""The retry rule of `Database.run`: which failures are repeated, how often, and after which wait."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, TypeVar

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import backoff, fitting_wait
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.events import RetryCause
from registration_persistence.errors import (
    AttemptNotCounted,
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseUnavailable,
    LockTimeout,
    PoolExhausted,
    RegistrationPersistenceError,
    SecretUnavailable,
    StatementTimeout,
    TooManyConnections,
    TransactionConflict,
    WriterMoved,
)
from registration_persistence.plain_function import UNIT_OF_WORK_ADVICE, plain_result
from registration_persistence.unit_of_work import EARLIER_TRIES, KEPT, SessionOrConnection, unit_info

T = TypeVar("T")
Target = TypeVar("Target", bound=SessionOrConnection)

# The failures after which nothing of the transaction was kept and a repetition can succeed: those that are `retryable`.
_RETRY_CAUSES: Mapping[type[RegistrationPersistenceError], RetryCause] = {
    ConnectionLost: "connection_lost",
    WriterMoved: "writer_moved",
    TransactionConflict: "transaction_conflict",
    LockTimeout: "lock_timeout",
    AttemptNotCounted: "attempt_not_counted",
    DatabaseUnavailable: "not_connected",
    TooManyConnections: "not_connected",
    SecretUnavailable: "not_connected",
    PoolExhausted: "not_connected",
}

_MAX_ATTEMPTS = 1000

# The wait before the next attempt doubles from the first value up to the second.
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.02, 0.25


def retry_cause(error: RegistrationPersistenceError, *, kept: bool, idempotent: bool) -> RetryCause | None:
    """Return why a unit of work that failed with *error* may be repeated; `None` if it may not.

    Args:
        error: The failure.
        kept: Whether the unit of work committed something explicitly before it failed.
        idempotent: Whether a repetition changes nothing if an earlier attempt was kept.
    """
    if isinstance(error, CommitOutcomeUnknown):
        return "commit_outcome_unknown" if idempotent else None
    if not error.retryable or (kept and not idempotent):
        return None
    return next((cause for kind, cause in _RETRY_CAUSES.items() if isinstance(error, kind)), None)


def require_attempts(attempts: int | None) -> None:
    """Check the maximum number of attempts.

    Raises:
        TypeError: *attempts* is not a whole number or `None`.
        ValueError: *attempts* is not from 1 to 1000.
    """
    if attempts is not None and type(attempts) is not int:
        raise TypeError(f"attempts is a {type(attempts).__name__}: expected a whole number or None")
    if attempts is not None and not 1 <= attempts <= _MAX_ATTEMPTS:
        raise ValueError(f"attempts is out of range: expected 1 or more, at most {_MAX_ATTEMPTS}")


def run_with_retries(
    open_target: Callable[[], AbstractContextManager[Target]],
    work: Callable[[Target], T],
    *,
    attempts: int | None,
    seconds_without_deadline: float,
    idempotent: bool,
    on_retry: Callable[[RetryCause, float], None],
    sleep: Callable[[float], None],
) -> T:
    """Call *work* with a new session or connection until it succeeds, and return its result.

    Args:
        open_target: Opens the session of one attempt, which commits on a clean exit, or its connection in autocommit.
        work: The unit of work.
        attempts: Maximum number of attempts, 1 or more; `None` for no limit but the time.
        seconds_without_deadline: Time for repetitions after the first failure if there is no deadline.
        idempotent: Whether a repetition changes nothing if an earlier attempt was kept.
        on_retry: Called with the cause and the seconds of each wait before it begins.
        sleep: Waits for a number of seconds.

    Raises:
        CommitOutcomeUnknown: An attempt has an unknown outcome, and no later one succeeded.
        RegistrationPersistenceError: The failure of the last attempt, or of the one before it if the deadline ended the
            last one.
    """
    unknown: CommitOutcomeUnknown | None = None
    earlier: RegistrationPersistenceError | None = None
    kept = False
    tries: list[dict[Any, Any]] = []
    pause = _Pause(seconds_without_deadline, on_retry, sleep)
    for attempt in count(1):
        began = monotonic()
        try:
            with open_target() as target:
                info = unit_info(target)
                info[EARLIER_TRIES] = tuple(tries)
                tries.append(info)
                return plain_result(work(target), "the unit of work", UNIT_OF_WORK_ADVICE)
        except RegistrationPersistenceError as error:
            # Also by the last flush of the session, which comes after the work.
            kept = kept or any(KEPT in info for info in tries)
            unknown = error if isinstance(error, CommitOutcomeUnknown) else unknown
            cause = retry_cause(error, kept=kept, idempotent=idempotent)
            if cause is not None and attempt != attempts and pause.wait(cause, attempt, began):
                earlier = error
                continue
            if unknown is None and earlier is not None and _is_cut_short(error):
                raise earlier from error
            if unknown is None or unknown is error:
                raise
            message = f"an earlier attempt may have been kept ({unknown}), and the last one failed: {error}"
            raise CommitOutcomeUnknown(message) from error
    raise AssertionError("unreachable: an attempt returns or raises")


def _is_cut_short(error: RegistrationPersistenceError) -> bool:
    """Return whether the deadline ended the attempt that failed with *error*; the failure before it says more."""
    return isinstance(error, StatementTimeout) and remaining() <= 0


class _Pause:
    """The waits between the attempts of one unit of work.

    Args:
        seconds_without_deadline: Time for repetitions if there is no deadline. It begins with the first failure, or if
            that is a failure to connect, with its attempt, because connecting has waited already.
        on_retry: Called with the cause and the seconds of each wait before it begins.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        seconds_without_deadline: float,
        on_retry: Callable[[RetryCause, float], None],
        sleep: Callable[[float], None],
    ) -> None:
        self._seconds, self._on_retry, self._sleep = seconds_without_deadline, on_retry, sleep
        # `monotonic()` at which repetitions end without a deadline. `None`: no attempt has failed.
        self._end: float | None = None

    def wait(self, cause: RetryCause, attempt: int, began: float) -> bool:
        """Wait before the next attempt; return false at once if no time is left for one.

        A wait that would leave no time for an attempt is shortened.

        Args:
            cause: Why the unit of work is repeated.
            attempt: The number of attempts so far.
            began: `monotonic()` at the beginning of the last attempt.
        """
        if self._end is None:
            self._end = self._seconds + (began if cause == "not_connected" else monotonic())
        left = remaining() if remaining() < math.inf else self._end - monotonic()
        wait = fitting_wait(backoff(attempt, _FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS), left)
        if wait is None:
            return False
        self._on_retry(cause, wait)
        self._sleep(wait)
        return True
