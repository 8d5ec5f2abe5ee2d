"""`change_statement`: the statement of a method that changes one registration."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import BigInteger, TextualSelect
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.types import TypeEngine

from registration_persistence.domain.status import MOVES, EventType
from registration_persistence.repositories.sql.fragments import (
    EVENT_TYPES,
    NO_DATA,
    REGISTRATION_COLUMNS,
    STATUS_NOW,
    changed_or_found_columns,
    event_and_message_ctes,
    registration_columns,
    source_statuses,
)
from registration_persistence.repositories.sql.statement import statement


def change_statement(
    event: EventType,
    *,
    found_columns: Sequence[str] = (),
    allowed: str | None = None,
    assignments: Sequence[str] = (),
    ctes_before: Sequence[str] = (),
    ctes_after: Sequence[str] = (),
    event_data: str = NO_DATA,
    result_columns: Mapping[str, str] = MappingProxyType({}),
    types: Mapping[str, TypeEngine[Any]] = MappingProxyType({}),
) -> TextualSelect:
    """Return a statement that changes the registration `:id`, and that returns its state if it may not be changed.

    The statement locks the row as `found`, changes it as `moved` if that is allowed, and adds an event and a message.

    Args:
        event: The type of the event; if it is one of `MOVES`, the status changes too.
        found_columns: Further columns of `found`, computed from the row `r`.
        allowed: The condition on `found`; by default its status is a source of the move.
        assignments: Further assignments.
        ctes_before: CTEs before `found`.
        ctes_after: CTEs after `moved`, which may refer to it.
        event_data: The data of the event, as an expression of type jsonb.
        result_columns: Further columns of the result, as expressions by their names.
        types: The types of the parameters in these fragments.
    """
    move = MOVES.get(event)
    found = [registration_columns("r"), f"{STATUS_NOW} AS status_now", *found_columns]
    changes = ["version = r.version + 1", "updated_at = statement_timestamp()"]
    changes += [f"status = '{move.target}'"] if move else []
    changes += assignments
    ctes = [
        *ctes_before,
        f"""found AS (
  SELECT {", ".join(found)}
  FROM registrations r WHERE r.id = :id
  FOR NO KEY UPDATE
)""",
        f"""moved AS (
  UPDATE registrations r
  SET {", ".join(changes)}
  FROM found
  WHERE r.id = found.id AND {allowed or f"found.status_now IN ({source_statuses(event)})"}
    AND (:expected_version IS NULL OR found.version = :expected_version)
  RETURNING {registration_columns("r")}
)""",
        *ctes_after,
        event_and_message_ctes(event, of="moved", data=event_data),
    ]
    result = [
        "found.status_now",
        "found.version AS found_version",
        *(f"{expression} AS {name}" for name, expression in result_columns.items()),
        "moved.id IS NOT NULL AS changed",
        changed_or_found_columns("moved", "found"),
    ]
    return statement(
        f"""
WITH {", ".join(ctes)}
SELECT {", ".join(result)}
FROM found LEFT JOIN moved ON moved.id = found.id
""",
        ("status_now", "found_version", *result_columns, "changed", *REGISTRATION_COLUMNS),
        id=UUID(),
        expected_version=BigInteger(),
        **EVENT_TYPES,
        **types,
    )
