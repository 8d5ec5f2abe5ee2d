"""`LostCommit`: a COMMIT, or a statement in autocommit, whose reply was lost; and the session that sent it."""

from dataclasses import field, replace
from typing import Any

from registration_persistence.database.connection import BoundedConnection
from registration_persistence.evidence import Evidence
from registration_persistence.light_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class LostCommit:
    """A COMMIT, or a statement in autocommit, whose reply was lost.

    Args:
        process: The id of the server's process for the session.
        user: The user of the session.
        opened_at: The `monotonic()` at which this process had opened the connection.
        evidence: The evidence of a change; `None` if there is none.
        transaction_id: The id of the transaction; empty if it had none, because it wrote nothing. `None`: unknown.
    """

    process: int
    user: str
    opened_at: float
    evidence: Evidence | None = field(repr=False)
    transaction_id: str | None = None


def lost_transaction(connection: BoundedConnection[Any]) -> LostCommit:
    """Return the transaction whose COMMIT got no reply on *connection*."""
    evidence = connection.evidence
    if evidence is not None and connection.undid_changes:
        evidence = replace(evidence, absence_is_proof=False)
    return _lost_commit(connection, evidence, connection.transaction_id)


def lost_statement(connection: BoundedConnection[Any]) -> LostCommit:
    """Return the statement in autocommit that got no reply on *connection*."""
    return _lost_commit(connection, connection.expected_evidence, None)


def _lost_commit(
    connection: BoundedConnection[Any], evidence: Evidence | None, transaction_id: str | None
) -> LostCommit:
    return LostCommit(connection.server_process, connection.server_user, connection.opened_at, evidence, transaction_id)
