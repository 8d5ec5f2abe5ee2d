"""The SQL of `RegistrationRepository`: one statement for each use case.

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

_TYPES: dict[str, TypeEngine[Any]] = {
    "id": UUID(),
    "email": Text(),
    "email_key": Text(),
    "email_key_rev": SmallInteger(),
    "profile": JSONB(),
    "submit_key": LargeBinary(),
    "submit_digest": LargeBinary(),
    "ttl": Interval(),
    "token_ttl": Interval(),
    "token_id": UUID(),
    "secret_hash": LargeBinary(),
    "consent_ids": ARRAY(UUID()),
    "consent_purposes": ARRAY(Text()),
    "consent_versions": ARRAY(Text()),
    "consent_granted": ARRAY(Boolean()),
    "consent_sources": ARRAY(Text()),
    "event_id": UUID(),
    "lapsed_event_id": UUID(),
    "actor": Text(),
    "correlation_id": Text(),
    "expected_version": BigInteger(),
    "reason": Text(),
    "after": UUID(),
    "status": Text(),
    "limit": BigInteger(),
}

_PARAMETER = re.compile(r"(?<!:):(\w+)")

_COLUMNS = (
    "id", "status", "version", "email", "email_key", "profile", "created_at", "updated_at", "expires_at",
    "verified_at", "activated_at", "closed_at", "close_reason",
)  # fmt: skip


def _statement(sql: str) -> TextClause:
    names = set(_PARAMETER.findall(sql))
    return text(sql).bindparams(*(bindparam(name, type_=_TYPES[name]) for name in names))


def _columns(table: str) -> str:
    return ", ".join(f"{table}.{column}" for column in _COLUMNS)


# What has passed its time counts as expired, whether or not the sweep has come by.
_STATUS_NOW = """CASE WHEN r.status IN ('pending', 'verified') AND r.expires_at <= statement_timestamp()
                 THEN 'expired' ELSE r.status END"""


# A mailbox is proven by a registration whose time is not over.
_PROVEN = "{0}.status IN ('verified', 'active') AND ({0}.expires_at IS NULL OR {0}.expires_at > statement_timestamp())"


def _recorded(event: str, *, of: str, data: str = "CAST('{}' AS jsonb)", where: str = "true") -> str:
    """Return the parts of a statement that add an event and an outbox message for each row of *of*."""
    return f"""
event AS (
  INSERT INTO registration_events (registration_id, seq, id, type, data, actor, correlation_id)
  SELECT id, version, :event_id, '{event}', {data}, :actor, :correlation_id FROM {of} WHERE {where}
), message AS (
  INSERT INTO outbox (event_id, registration_id, type)
  SELECT :event_id, id, 'registration.{event}' FROM {of} WHERE {where}
)"""


def _moved(event: str, *, to: str, allowed: str, assignments: str) -> str:
    """Return a statement that moves one registration, and says how it stood where it may not be moved."""
    return f"""
WITH found AS (
  SELECT {_columns("r")}, {_STATUS_NOW} AS status_now
  FROM registrations r WHERE r.id = :id
  FOR NO KEY UPDATE
), moved AS (
  UPDATE registrations r
  SET status = '{to}', version = r.version + 1, updated_at = statement_timestamp(), {assignments}
  FROM found
  WHERE r.id = found.id AND {allowed}
    AND (:expected_version IS NULL OR found.version = :expected_version)
  RETURNING {_columns("r")}
), {_recorded(event, of="moved")}
SELECT found.status_now, found.version AS found_version, moved.id IS NOT NULL AS changed,
       {", ".join(f"CASE WHEN moved.id IS NULL THEN found.{c} ELSE moved.{c} END AS {c}" for c in _COLUMNS)}
FROM found LEFT JOIN moved ON moved.id = found.id
"""


_PURPOSES = "jsonb_build_object('consents', :consent_purposes)"

REGISTER = _statement(f"""
WITH registration AS (
  INSERT INTO registrations AS r (id, email, email_key, email_key_rev, status, profile, submit_key, submit_digest,
                                  tokens_issued, token_issued_at, expires_at)
  VALUES (:id, :email, :email_key, :email_key_rev, 'pending', :profile, :submit_key, :submit_digest,
          1, statement_timestamp(), statement_timestamp() + :ttl)
  ON CONFLICT (submit_key) WHERE submit_key IS NOT NULL DO UPDATE SET submit_key = EXCLUDED.submit_key
  RETURNING {_columns("r")}, r.submit_digest, r.id = :id AS created
), token AS (
  INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, expires_at)
  SELECT :token_id, id, 'verify_email', :secret_hash, 0, statement_timestamp() + :token_ttl
  FROM registration WHERE created
), consent AS (
  INSERT INTO registration_consents (registration_id, id, purpose, document_version, granted, source)
  SELECT registration.id, given.id, given.purpose, given.document_version, given.granted, given.source
  FROM registration,
       unnest(:consent_ids, :consent_purposes, :consent_versions, :consent_granted, :consent_sources)
         AS given (id, purpose, document_version, granted, source)
  WHERE registration.created
), {_recorded("registered", of="registration", data=_PURPOSES, where="created")}
SELECT {_columns("registration")}, submit_digest, created,
       EXISTS (SELECT FROM registrations other
               WHERE other.email_key = :email_key AND {_PROVEN.format("other")}) AS email_proven
FROM registration
""")

_TOKEN_STATE = f"""
  SELECT {_columns("r")}, {_STATUS_NOW} AS status_now,
         t.used_at IS NULL AND t.expires_at > statement_timestamp() AS live,
         EXISTS (SELECT FROM registrations other
                 WHERE other.email_key = r.email_key AND {_PROVEN.format("other")}) AS email_proven
  FROM verification_tokens t JOIN registrations r ON r.id = t.registration_id
  WHERE t.secret_hash = :secret_hash AND t.purpose = 'verify_email' AND t.hash_key_id = 0
"""

PEEK = _statement(_TOKEN_STATE)

VERIFY = _statement(f"""
WITH found AS ({_TOKEN_STATE} FOR NO KEY UPDATE OF r
), used AS (
  UPDATE verification_tokens t SET used_at = statement_timestamp()
  FROM found
  WHERE t.secret_hash = :secret_hash AND t.used_at IS NULL AND t.expires_at > statement_timestamp()
    AND found.status_now = 'pending' AND NOT found.email_proven
  RETURNING t.registration_id
), lapsed AS (
  UPDATE registrations other
  SET status = 'expired', version = other.version + 1, updated_at = statement_timestamp(),
      closed_at = statement_timestamp(), close_reason = 'ttl', expires_at = NULL
  FROM used JOIN found ON found.id = used.registration_id
  WHERE other.email_key = found.email_key AND other.status = 'verified' AND other.expires_at <= statement_timestamp()
  RETURNING other.id, other.version
), lapsed_event AS (
  INSERT INTO registration_events (registration_id, seq, id, type, actor)
  SELECT id, version, :lapsed_event_id, 'expired', 'system' FROM lapsed
), lapsed_message AS (
  INSERT INTO outbox (event_id, registration_id, type)
  SELECT :lapsed_event_id, id, 'registration.expired' FROM lapsed
), moved AS (
  UPDATE registrations r
  SET status = 'verified', version = r.version + 1, updated_at = statement_timestamp(),
      verified_at = statement_timestamp(), expires_at = statement_timestamp() + :ttl
  FROM used, (SELECT count(*) FROM lapsed) AS after_lapsed  -- or the unique index would see both
  WHERE r.id = used.registration_id
  RETURNING {_columns("r")}
), {_recorded("verified", of="moved")}
SELECT found.status_now, found.live, found.email_proven, moved.id IS NOT NULL AS changed,
       {", ".join(f"CASE WHEN moved.id IS NULL THEN found.{c} ELSE moved.{c} END AS {c}" for c in _COLUMNS)}
FROM found LEFT JOIN moved ON moved.id = found.id
""")

ACTIVATE = _statement(
    _moved(
        "activated",
        to="active",
        allowed="found.status_now = 'verified'",
        assignments="activated_at = statement_timestamp(), expires_at = NULL",
    )
)

CANCEL = _statement(
    _moved(
        "cancelled",
        to="cancelled",
        allowed="found.status IN ('pending', 'verified')",
        assignments="closed_at = statement_timestamp(), close_reason = :reason, expires_at = NULL",
    )
)

GET = _statement(f"SELECT {_columns('r')} FROM registrations r WHERE r.id = :id")

FIND_BY_EMAIL = _statement(f"""
SELECT * FROM (
  SELECT 1 AS rank, {_columns("r")} FROM registrations r
  WHERE r.email_key = :email_key AND {_PROVEN.format("r")}
  UNION ALL (
    SELECT 2 AS rank, {_columns("r")} FROM registrations r
    WHERE r.email_key = :email_key AND r.status = 'pending' AND r.expires_at > statement_timestamp()
    ORDER BY r.id DESC LIMIT 1
  )
) candidate ORDER BY rank LIMIT 1
""")

LIST_PAGE = _statement(f"""
SELECT {_columns("r")} FROM registrations r
WHERE r.id > :after AND (:status IS NULL OR r.status = :status)
ORDER BY r.id LIMIT :limit
""")
