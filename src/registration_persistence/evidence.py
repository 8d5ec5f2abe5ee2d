"""`Evidence`: the query that shows whether a change was kept, for the case that the reply to it is lost."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from sqlalchemy import Connection, Executable, Row

from registration_persistence.light_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """A query that returns a row if a change was kept, sent after the session that made the change has ended.

    Args:
        query: The query.
        parameters: Its parameters.
        absence_is_proof: Whether nothing at all was changed if the query returns no row. Defaults to true.
        absence_query: A query with the same parameters, sent after the first: a missing row is proof only if this one
            returns a row, because what the first looks for may have been deleted. Defaults to `None`: it is proof.
    """

    query: Executable
    parameters: Mapping[str, Any] = field(repr=False)
    absence_is_proof: bool = True
    absence_query: Executable | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of a change whose reply was lost.

    Args:
        kept: Whether it was kept; `None` if that cannot be established.
        row: The row of its evidence. Defaults to none.
        reason: Why nothing can be established. Defaults to no reason.
    """

    kept: bool | None
    row: Row[Any] | None = field(default=None, repr=False)
    reason: str = ""


def driver_with_evidence(connection: Connection) -> Any:
    """Return the connection of psycopg.

    Its `expected_evidence` is the evidence of the statement that is being sent, whose reply may be lost in autocommit.
    Its `evidence` is that of a change that the open transaction contains; it forgets it when the transaction ends.
    """
    return connection.connection.dbapi_connection
