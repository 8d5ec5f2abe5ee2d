"""`send_change`: sends a statement that changes something, and finds out what it did if its reply is lost."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Row

from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost
from registration_persistence.evidence import Evidence, Finding, driver_with_evidence
from registration_persistence.repositories.sql.evidence import (
    FIND_EVENT,
    FIND_EVENT_BY_TOKEN,
    FIND_TOKEN,
    TOKENS_ARE_KEPT,
)
from registration_persistence.unit_of_work import KEPT, SessionOrConnection, connection_of, unit_info


def event_evidence(registration_id: UUID, event_id: str) -> Evidence:
    """Return the evidence of a change that adds the event *event_id* to a registration."""
    return Evidence(FIND_EVENT, {"id": registration_id, "event_id": event_id})


def event_evidence_by_token(secret_hash: bytes, event_id: str) -> Evidence:
    """Return the evidence of a change that adds the event *event_id* to the registration of a token."""
    return Evidence(FIND_EVENT_BY_TOKEN, {"secret_hash": secret_hash, "event_id": event_id})


def token_evidence(registration_id: UUID, token_id: UUID, ttl: timedelta) -> Evidence:
    """Return the evidence of a change that adds the token or code *token_id* to a registration, for *ttl*."""
    parameters = {"id": registration_id, "token_id": token_id, "kept_until": datetime.now(UTC) + ttl}
    return Evidence(FIND_TOKEN, parameters, absence_query=TOKENS_ARE_KEPT)


def send_change(
    target: SessionOrConnection,
    statement: Executable,
    parameters: dict[str, Any],
    expected: Evidence,
    found_in: Callable[[Row[Any]], Evidence | None],
) -> Row[Any] | None:
    """Send *statement*, and return its row, or `None` if it returns none.

    If its reply is lost in autocommit and it was kept, the row of its evidence is returned instead.

    Args:
        target: The session or connection.
        statement: A statement that returns at most one row.
        parameters: Its parameters.
        expected: The evidence of the change, as far as it is known before the statement is sent.
        found_in: Returns the evidence of the change in the row of the result; `None` if nothing was changed.

    Raises:
        ConnectionLost: The reply was lost in autocommit, and nothing was changed.
        CommitOutcomeUnknown: The reply was lost in autocommit, and the outcome cannot be established.
    """
    driver, info = driver_with_evidence(connection_of(target)), unit_info(target)
    driver.expected_evidence = expected
    try:
        try:
            row = target.execute(statement, parameters).one_or_none()
        finally:
            driver.expected_evidence = None
    except CommitOutcomeUnknown as error:
        return _row_of_evidence(target, info, error)
    evidence = None if row is None else found_in(row)
    if evidence is not None:
        driver.evidence = evidence
        if driver.autocommit:
            info[KEPT] = True
    return row


def _row_of_evidence(target: SessionOrConnection, info: dict[Any, Any], error: CommitOutcomeUnknown) -> Row[Any]:
    """Return the row of the evidence of a statement that was lost in autocommit with *error*."""
    finding: Finding = error.find() if error.find else Finding(kept=None, reason="its engine is not of this package")
    if finding.kept is None:
        raise CommitOutcomeUnknown(f"{error}; {finding.reason}", find=error.find) from error
    if not finding.kept:
        raise ConnectionLost(f"nothing was changed, as the evidence shows: {error}") from error
    info[KEPT] = True
    row = finding.row
    if row is None or not row.is_current:
        raise CommitOutcomeUnknown(
            f"the change was kept, but its result was lost, and the registration has changed since: read it; {error}",
            find=error.find,
        ) from error
    target.rollback()  # of the connection that was lost; the statements before were kept
    return row
