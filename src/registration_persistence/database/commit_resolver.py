"""`CommitResolver`: finds out whether a change was kept, if the reply to its COMMIT was lost.

A session whose client is gone may still commit later, so it is ended first. Then the evidence is looked for, in a
statement of its own, because a snapshot from before the end would not show it.
"""

import math
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, SQLAlchemyError

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import backoff
from registration_persistence.database.deadlines import deadline, remaining
from registration_persistence.database.events import CommitCause, EventCallback
from registration_persistence.database.lost_commit import LostCommit
from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.evidence import Evidence, Finding

# The wait before the next attempt to look for evidence: at first, and at most.
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.05, 0.25

# The time for the server to end a session, in one call.
_TERMINATION_MILLISECONDS = 2000

# The age of a session is measured by two clocks. A session that is younger than ours by more than this is another one.
_CLOCK_TOLERANCE_SECONDS = 1.0

_LOST_SESSION = text("""
SELECT pg_backend_pid() AS own_process, a.pid IS NOT NULL AS is_there
FROM (SELECT) AS one
LEFT JOIN pg_stat_activity a
  ON a.pid = :process AND a.usename = :user AND a.pid <> pg_backend_pid()
  -- The start is hidden in a session of another role.
  AND (a.backend_start IS NULL OR a.backend_start <= clock_timestamp() - make_interval(secs => :age))
""")

_END_SESSION = text("SELECT pg_terminate_backend(:process, :milliseconds)")

_TRANSACTION_STATUS = text("SELECT pg_xact_status(CAST(:id AS xid8))")

_INVALID_PARAMETER = "22023"

_BEHIND_A_POOLER = "a pooler is between this process and the server, so the old session cannot be ended"

_CAUSES: dict[bool | None, CommitCause] = {True: "kept", False: "not_kept", None: "unknown"}


class CommitResolver:
    """Finds out whether changes were kept, on new connections to the writer.

    Args:
        new_engine: Returns an engine in autocommit without a pool; called at the first use. `None`: the sessions are
            those of a pooler, so nothing can be found out.
        on_event: Called with `commit_resolved`, its cause and its duration in seconds.
        limit: The time in seconds to look for evidence if there is no deadline.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        new_engine: Callable[[], Engine] | None,
        on_event: EventCallback,
        *,
        limit: float,
        sleep: Callable[[float], None],
    ) -> None:
        self._new_engine, self._on_event, self._limit, self._sleep = new_engine, on_event, limit, sleep
        self._engine: Engine | None = None

    def find(self, lost: LostCommit) -> Finding:
        """End the session of *lost*, and look for its evidence, until the deadline.

        Raises:
            BaseException: The thread was interrupted, or the task was cancelled; what became of it stays unknown.
        """
        started = monotonic()
        try:
            with deadline(self._limit if remaining() == math.inf else remaining(), reserve=0):
                finding = self._find_in_time(lost)
        except BaseException as error:
            error.add_note("the reply to COMMIT was lost, and it is unknown whether that was kept")
            self._on_event("commit_resolved", "unknown", monotonic() - started)
            raise
        self._on_event("commit_resolved", _CAUSES[finding.kept], monotonic() - started)
        return finding

    def report(self, cause: CommitCause) -> None:
        """Report what became of a change of which no evidence is looked for."""
        self._on_event("commit_resolved", cause, 0.0)

    def _find_in_time(self, lost: LostCommit) -> Finding:
        if self._new_engine is None:
            return Finding(kept=None, reason=_BEHIND_A_POOLER)
        self._engine = self._engine or self._new_engine()
        attempts = 0
        while True:
            try:
                with self._engine.connect() as connection:
                    return _find(connection, lost)
            except (RegistrationPersistenceError, SQLAlchemyError) as error:
                wait = backoff(attempts, _FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS)
                if not getattr(error, "retryable", False) or wait >= remaining():
                    return Finding(kept=None, reason=f"its evidence could not be looked for: {error}")
            attempts += 1
            self._sleep(wait)


def _find(connection: Connection, lost: LostCommit) -> Finding:
    """Return the finding about *lost*.

    Raises:
        RegistrationPersistenceError, SQLAlchemyError: The server did not answer, or refused a statement.
    """
    if reason := _reason_not_ended(connection, lost):
        return Finding(kept=None, reason=reason)
    evidence = lost.evidence
    if evidence is not None:
        row = connection.execute(evidence.query, evidence.parameters).one_or_none()
        if row is not None:
            return Finding(kept=True, row=row)
        if evidence.absence_is_proof and _is_absence_proof(connection, evidence):
            return Finding(kept=False)
    return _finding_by_id(connection, lost.transaction_id)


def _is_absence_proof(connection: Connection, evidence: Evidence) -> bool:
    """Return whether what the query of *evidence* did not find cannot have been deleted meanwhile."""
    query = evidence.absence_query
    return query is None or connection.execute(query, evidence.parameters).one_or_none() is not None


def _reason_not_ended(connection: Connection, lost: LostCommit) -> str | None:
    """End the session of *lost*; return why that did not work, or `None` if it has ended."""
    driver: Any = connection.connection.dbapi_connection
    while True:
        age = max(monotonic() - lost.opened_at - _CLOCK_TOLERANCE_SECONDS, 0.0)
        session = {"process": lost.process, "user": lost.user, "age": age}
        own_process, is_there = connection.execute(_LOST_SESSION, session).one()
        if own_process != driver.info.backend_pid:
            return _BEHIND_A_POOLER
        if not is_there:
            return None
        end = {"process": lost.process, "milliseconds": _TERMINATION_MILLISECONDS}
        connection.execute(_END_SESSION, end)


def _finding_by_id(connection: Connection, transaction_id: str | None) -> Finding:
    """Return what the id of a transaction proves.

    After a failover or a crash the server may give a lost id to another transaction, so `committed` proves nothing.
    """
    if transaction_id is None:
        return Finding(kept=None, reason="it contains no change that leaves evidence")
    if not transaction_id:
        return Finding(kept=False)
    try:
        status = connection.execute(_TRANSACTION_STATUS, {"id": transaction_id}).scalar_one()
    except DataError as error:
        if isinstance(error.orig, psycopg.Error) and error.orig.sqlstate == _INVALID_PARAMETER:
            return Finding(kept=False)  # the id is in the future
        raise
    if status == "aborted":
        return Finding(kept=False)
    return Finding(
        kept=None, reason="its id may belong to another transaction, and it contains no change of this package"
    )
