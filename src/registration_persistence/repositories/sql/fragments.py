"""The pieces that the statements of the repositories are made of.

Each writer locks the registration's row before its token's: the other way round, a verification that loses against a
cancellation would use the token up. `statement_timestamp()` is the only clock. Lists of statuses are literals, because
PostgreSQL uses a partial index only where it can see that the query implies its predicate. Columns are named one by
one, because a prepared `SELECT *` fails once a migration adds a column.
"""

import re
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Interval,
    LargeBinary,
    SmallInteger,
    Text,
    TextClause,
    bindparam,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.types import TypeEngine

from registration_persistence.domain.ids import new_id
from registration_persistence.domain.records import Consent
from registration_persistence.domain.status import MOVES

_TYPES: dict[str, TypeEngine[Any]] = {
    "id": UUID(),
    "email": Text(),
    "email_key": Text(),
    "email_key_rev": SmallInteger(),
    "profile": JSONB(),
    "patch": JSONB(),
    "removed": ARRAY(Text()),
    "fields": ARRAY(Text()),
    "largest": BigInteger(),
    "submit_key": LargeBinary(),
    "submit_digest": LargeBinary(),
    "ttl": Interval(),
    "token_ttl": Interval(),
    "token_id": UUID(),
    "secret_hash": LargeBinary(),
    "hash_key_id": SmallInteger(),
    "min_gap": Interval(),
    "max_issued": BigInteger(),
    "code_key_ids": ARRAY(SmallInteger()),
    "code_hashes": ARRAY(LargeBinary()),
    "max_attempts": BigInteger(),
    "consent_ids": ARRAY(UUID()),
    "consent_purposes": ARRAY(Text()),
    "consent_versions": ARRAY(Text()),
    "consent_granted": ARRAY(Boolean()),
    "consent_sources": ARRAY(Text()),
    "event_id": UUID(),
    "event_ids": ARRAY(UUID()),
    "lapsed_event_id": UUID(),
    "actor": Text(),
    "correlation_id": Text(),
    "expected_version": BigInteger(),
    "reason": Text(),
    "after": UUID(),
    "after_seq": BigInteger(),
    "status": Text(),
    "limit": BigInteger(),
    "before": DateTime(timezone=True),
    "lease": Interval(),
    "delay": Interval(),
    "error": Text(),
    "ids": ARRAY(UUID()),
    "attempts_of": ARRAY(Integer()),
    "leased_until": ARRAY(DateTime(timezone=True)),
    "rows": Text(),
    "consents": Text(),
    "announce": Boolean(),
}

_PARAMETER = re.compile(r"(?<!:):(\w+)")

COLUMNS = (
    "id", "status", "version", "email", "email_key", "profile", "created_at", "updated_at", "expires_at",
    "verified_at", "activated_at", "closed_at", "close_reason",
)  # fmt: skip
"""What `outcomes.Registration` is read from."""


def statement(sql: str) -> TextClause:
    """Return *sql* with the types of its parameters."""
    names = set(_PARAMETER.findall(sql))
    return text(sql).bindparams(*(bindparam(name, type_=_TYPES[name]) for name in names))


def columns(table: str) -> str:
    """Return `COLUMNS` as those of *table*."""
    return ", ".join(f"{table}.{column}" for column in COLUMNS)


# What has passed its time counts as expired, whether or not the sweep has come by.
STATUS_NOW = """CASE WHEN r.status IN ('pending', 'verified') AND r.expires_at <= statement_timestamp()
                THEN 'expired' ELSE r.status END"""


def proven(table: str) -> str:
    """Return the condition that a row of *table* proves its mailbox: its time is not over."""
    return (
        f"{table}.status IN ('verified', 'active')"
        f" AND ({table}.expires_at IS NULL OR {table}.expires_at > statement_timestamp())"
    )


def sources(event: str) -> str:
    """Return the statuses that *event* may move a registration from, as the literals of a list."""
    return ", ".join(f"'{source}'" for source in MOVES[event].sources)


def recorded(event: str, *, of: str, data: str = "CAST('{}' AS jsonb)", where: str = "true") -> str:
    """Return the parts of a statement that add an event and an outbox message for the one row of *of*."""
    return f"""
event AS (
  INSERT INTO registration_events (registration_id, seq, id, type, data, actor, correlation_id)
  SELECT id, version, :event_id, '{event}', {data}, :actor, :correlation_id FROM {of} WHERE {where}
), message AS (
  INSERT INTO outbox (event_id, registration_id, type, payload)
  SELECT :event_id, id, 'registration.{event}', jsonb_build_object('seq', version) FROM {of} WHERE {where}
)"""


def changed(
    event: str,
    *,
    assignments: str = "",
    allowed: str | None = None,
    found: str = "",
    before: str = "",
    after: str = "",
    data: str = "CAST('{}' AS jsonb)",
    explained: str = "",
) -> str:
    """Return a statement that changes one registration, and says how it stood where it may not be changed.

    Args:
        event: What happens; where it is one of `MOVES`, the status moves with it.
        assignments: What else is set, with the comma before it.
        allowed: The condition on `found`; by default that its status, now, is a source of the move.
        found: More columns of the row as it was found, with the comma before them.
        before: More parts of the WITH, before the first, with the comma after them.
        after: More parts, which may refer to `moved`, with the comma after them.
        data: What the event holds.
        explained: More columns of the result, with the comma after them.
    """
    move = MOVES.get(event)
    allowed = allowed or f"found.status_now IN ({sources(event)})"
    status = f", status = '{move.target}'" if move else ""
    return f"""
WITH {before} found AS (
  SELECT {columns("r")}, {STATUS_NOW} AS status_now {found}
  FROM registrations r WHERE r.id = :id
  FOR NO KEY UPDATE
), moved AS (
  UPDATE registrations r
  SET version = r.version + 1, updated_at = statement_timestamp() {status} {assignments}
  FROM found
  WHERE r.id = found.id AND {allowed}
    AND (:expected_version IS NULL OR found.version = :expected_version)
  RETURNING {columns("r")}
), {after} {recorded(event, of="moved", data=data)}
SELECT found.status_now, found.version AS found_version, {explained} moved.id IS NOT NULL AS changed,
       {newest("moved", "found")}
FROM found LEFT JOIN moved ON moved.id = found.id
"""


def newest(changed: str, found: str) -> str:
    """Return `COLUMNS` as *changed* has them, or as *found* has them where nothing changed."""
    return ", ".join(f"CASE WHEN {changed}.id IS NULL THEN {found}.{c} ELSE {changed}.{c} END AS {c}" for c in COLUMNS)


CONSENTS_GIVEN = """unnest(:consent_ids, :consent_purposes, :consent_versions, :consent_granted, :consent_sources)
         AS given (id, purpose, document_version, granted, source)"""

LIVE = "t.used_at IS NULL AND t.replaced_at IS NULL AND t.expires_at > statement_timestamp()"
"""The condition that a token can still be used."""


def consent_parameters(consents: list[Consent]) -> dict[str, list[Any]]:
    """Return *consents* as the columns that a statement takes."""
    return {
        "consent_ids": [new_id() for _ in consents],
        "consent_purposes": [consent.purpose for consent in consents],
        "consent_versions": [consent.document_version for consent in consents],
        "consent_granted": [consent.granted for consent in consents],
        "consent_sources": [consent.source for consent in consents],
    }
