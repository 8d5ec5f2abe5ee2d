"""The fragments that several statements share.

- Each writer locks the row of the registration before the row of its token. In the other order, a verification that
  loses against a cancellation would use up the token.
- `statement_timestamp()` is the only clock.
- Lists of statuses are literals, because PostgreSQL uses a partial index only if it can prove that the query implies
  the predicate of the index.
- Columns are named one by one, because a prepared `SELECT *` fails after a migration adds a column.
"""

from sqlalchemy import Text
from sqlalchemy.dialects.postgresql import UUID

from registration_persistence.domain.status import MOVES, EventType
from registration_persistence.repositories.sql.statement import Types

REGISTRATION_COLUMNS = (
    "id", "status", "version", "email", "email_key", "profile", "created_at", "updated_at", "expires_at",
    "verified_at", "activated_at", "closed_at", "close_reason",
)  # fmt: skip
"""The columns that a `Registration` is built from."""

STATUS_NOW = """CASE WHEN r.status IN ('pending', 'verified') AND r.expires_at <= statement_timestamp()
                THEN 'expired' ELSE r.status END"""
"""The status of `r`; a lapsed registration counts as expired before the sweep has changed its row."""

TOKEN_IS_USABLE = "t.used_at IS NULL AND t.replaced_at IS NULL AND t.expires_at > statement_timestamp()"  # noqa: S105 a condition
"""The condition that the token `t` can still be used."""

CONSENTS_GIVEN = """json_to_recordset(CAST(:consents AS json))
         AS given (id uuid, purpose text, document_version text, granted boolean, source text)"""
"""The consents that the caller passed, as rows. One text of JSON costs the client less than an array per column."""

CONSENT_TYPES: Types = {"consents": Text()}
"""The types of the parameters of `CONSENTS_GIVEN`."""

EVENT_TYPES: Types = {"event_id": UUID(), "actor": Text(), "correlation_id": Text()}
"""The types of the parameters of `event_and_message_ctes`."""

NO_DATA = "CAST('{}' AS jsonb)"
"""The data of an event that has none."""


def registration_columns(table: str) -> str:
    """Return `REGISTRATION_COLUMNS` of *table*."""
    return ", ".join(f"{table}.{column}" for column in REGISTRATION_COLUMNS)


def changed_or_found_columns(changed: str, found: str) -> str:
    """Return `REGISTRATION_COLUMNS` of *changed*, or of *found* if nothing changed."""
    return ", ".join(
        f"CASE WHEN {changed}.id IS NULL THEN {found}.{column} ELSE {changed}.{column} END AS {column}"
        for column in REGISTRATION_COLUMNS
    )


def is_current_registration(table: str) -> str:
    """Return the condition that a row of *table* is verified or active and has not lapsed."""
    return (
        f"{table}.status IN ('verified', 'active')"
        f" AND ({table}.expires_at IS NULL OR {table}.expires_at > statement_timestamp())"
    )


def source_statuses(event: EventType) -> str:
    """Return the statuses from which *event* may move a registration, as a list of literals."""
    return ", ".join(f"'{source}'" for source in MOVES[event].sources)


def event_and_message_ctes(event: EventType, *, of: str, data: str = NO_DATA, condition: str = "true") -> str:
    """Return the CTEs that add an event and its outbox message for the row of the CTE *of*, if *condition* holds."""
    return f"""event AS (
  INSERT INTO registration_events (registration_id, seq, id, type, data, actor, correlation_id)
  SELECT id, version, :event_id, '{event}', {data}, :actor, :correlation_id FROM {of} WHERE {condition}
), message AS (
  INSERT INTO outbox (event_id, registration_id, type, payload)
  SELECT :event_id, id, 'registration.{event}', jsonb_build_object('seq', version) FROM {of} WHERE {condition}
)"""
