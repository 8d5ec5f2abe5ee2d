"""The retry rule of `Database.run`: which failures are repeated, how often, and after which wait."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from registration_persistence.database.backoff import backoff
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.events import RetryCause
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    LockTimeout,
    RegistrationPersistenceError,
    TransactionConflict,
    WriterMoved,
)
from registration_persistence.plain_function import plain_result
from registration_persistence.session_keys import EARLIER_TRIES, KEPT

T = TypeVar("T")

# The failures after which nothing of the transaction was kept and a repetition can succeed at once. A failure to
# connect is not repeated, because the connector has waited as long as it may.
_RETRY_CAUSES: Mapping[type[RegistrationPersistenceError], RetryCause] = {
    ConnectionLost: "connection_lost",
    WriterMoved: "writer_moved",
    TransactionConflict: "transaction_conflict",
    LockTimeout: "lock_timeout",
}

# The wait before the next attempt doubles from the first value up to the second.
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.02, 0.5


def retry_cause(error: RegistrationPersistenceError, *, kept: bool, idempotent: bool) -> RetryCause | None:
    """Return why a unit of work that failed with *error* may be repeated; `None` if it may not.

    Args:
        error: The failure.
        kept: Whether the unit of work committed something explicitly before it failed.
        idempotent: Whether a repetition changes nothing if an earlier attempt was kept.
    """
    if isinstance(error, CommitOutcomeUnknown):
        return "commit_outcome_unknown" if idempotent else None
    if kept and not idempotent:
        return None
    return next((cause for kind, cause in _RETRY_CAUSES.items() if isinstance(error, kind)), None)


def run_with_retries(
    open_session: Callable[[], AbstractContextManager[Session]],
    work: Callable[[Session], T],
    *,
    attempts: int,
    idempotent: bool,
    on_retry: Callable[[RetryCause, float], None],
) -> T:
    """Call *work* with a new session, at most *attempts* times, and return its result.

    Args:
        open_session: Opens the session of one attempt, which commits on a clean exit.
        work: The unit of work.
        attempts: Maximum number of attempts, 1 or more.
        idempotent: Whether a repetition changes nothing if an earlier attempt was kept.
        on_retry: Called with the cause and the seconds of each wait before it begins.

    Raises:
        CommitOutcomeUnknown: An attempt has an unknown outcome, and no later one succeeded.
        RegistrationPersistenceError: The failure of the last attempt.
    """
    unknown: CommitOutcomeUnknown | None = None
    kept = False
    tries: list[dict[Any, Any]] = []
    for attempt in range(1, attempts + 1):
        try:
            with open_session() as session:
                session.info[EARLIER_TRIES] = tuple(tries)
                tries.append(session.info)
                try:
                    return plain_result(work(session), "the unit of work")
                finally:
                    kept = kept or KEPT in session.info
        except RegistrationPersistenceError as error:
            unknown = error if isinstance(error, CommitOutcomeUnknown) else unknown
            cause = retry_cause(error, kept=kept, idempotent=idempotent)
            if cause is not None and attempt < attempts and _wait(cause, attempt, on_retry):
                continue
            if unknown is None or unknown is error:
                raise
            message = f"an earlier attempt may have been kept ({unknown}), and the last one failed: {error}"
            raise CommitOutcomeUnknown(message) from error
    raise AssertionError("unreachable: the last attempt returns or raises")


def _wait(cause: RetryCause, attempt: int, on_retry: Callable[[RetryCause, float], None]) -> bool:
    """Wait before the next attempt; return false at once if the deadline comes before the end of the wait."""
    wait = backoff(attempt, _FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS)
    if wait >= remaining():
        return False
    on_retry(cause, wait)
    time.sleep(wait)
    return True
