"""The SQL of `VerificationRepository`."""

from sqlalchemy import ARRAY, BigInteger, Interval, SmallInteger
from sqlalchemy.dialects.postgresql import UUID

from registration_persistence.repositories.sql.bytea import Bytea
from registration_persistence.repositories.sql.fragments import (
    EVENT_TYPES,
    REGISTRATION_COLUMNS,
    STATUS_NOW,
    TOKEN_IS_USABLE,
    changed_or_found_columns,
    event_and_message_ctes,
    is_current_registration,
    registration_columns,
)
from registration_persistence.repositories.sql.statement import Types, statement

_EMAIL_IS_TAKEN = f"""EXISTS (SELECT FROM registrations other
                 WHERE other.email_key = r.email_key AND {is_current_registration("other")})"""

ISSUE = statement(
    f"""
WITH seen AS (
  SELECT tokens_issued FROM registrations WHERE id = :id
), found AS (
  SELECT {registration_columns("r")}, {STATUS_NOW} AS status_now,
         r.tokens_issued, r.token_issued_at + :min_gap AS due_at,
         -- Who waited for the lock has an older time than who had it: without a gap that must not matter.
         coalesce(r.token_issued_at + :min_gap > statement_timestamp(), false) AND :min_gap > interval '0' AS too_soon
  FROM registrations r WHERE r.id = :id
  FOR NO KEY UPDATE
), counted AS (
  UPDATE registrations r SET tokens_issued = r.tokens_issued + 1, token_issued_at = statement_timestamp()
  FROM found, seen
  WHERE r.id = found.id AND found.status_now = 'pending'
    AND found.tokens_issued < :max_issued
    AND NOT found.too_soon
    AND found.tokens_issued = seen.tokens_issued  -- or a token that was issued meanwhile would not be replaced
    AND NOT EXISTS (SELECT FROM verification_tokens WHERE secret_hash = :secret_hash)
  RETURNING r.id
), replaced AS (
  UPDATE verification_tokens t SET replaced_at = statement_timestamp()
  FROM counted
  WHERE t.registration_id = counted.id AND t.purpose = 'verify_email'
    AND t.used_at IS NULL AND t.replaced_at IS NULL
), issued AS (
  INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, created_at, expires_at)
  SELECT :token_id, id, 'verify_email', :secret_hash, :hash_key_id,
         statement_timestamp(), statement_timestamp() + :token_ttl
  FROM counted
  RETURNING registration_id, expires_at
)
SELECT {registration_columns("found")}, found.status_now, issued.expires_at AS token_expires_at,
       found.tokens_issued >= :max_issued AS exhausted,
       CASE WHEN found.too_soon THEN found.due_at END AS retry_at
FROM found LEFT JOIN issued ON issued.registration_id = found.id
""",
    (*REGISTRATION_COLUMNS, "status_now", "token_expires_at", "exhausted", "retry_at"),
    id=UUID(),
    min_gap=Interval(),
    max_issued=BigInteger(),
    token_id=UUID(),
    secret_hash=Bytea(),
    hash_key_id=SmallInteger(),
    token_ttl=Interval(),
)

_TOKEN_STATE = f"""
  SELECT {registration_columns("r")}, {STATUS_NOW} AS status_now, {TOKEN_IS_USABLE} AS live,
         t.used_at IS NOT NULL AND t.expires_at > statement_timestamp() AS used, {_EMAIL_IS_TAKEN} AS email_proven
  FROM verification_tokens t JOIN registrations r ON r.id = t.registration_id
  WHERE t.secret_hash = :secret_hash AND t.purpose = 'verify_email' AND t.hash_key_id = 0
"""

# The CTEs after `found`, the registration, and `used`, the token or code that verifies its mailbox.
_VERIFY_CTES = f"""lapsed AS (
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
  INSERT INTO outbox (event_id, registration_id, type, payload)
  SELECT :lapsed_event_id, id, 'registration.expired', jsonb_build_object('seq', version) FROM lapsed
), moved AS (
  UPDATE registrations r
  SET status = 'verified', version = r.version + 1, updated_at = statement_timestamp(),
      verified_at = statement_timestamp(), expires_at = statement_timestamp() + :ttl
  FROM used, (SELECT count(*) FROM lapsed) AS after_lapsed  -- or the unique index would see both
  WHERE r.id = used.registration_id
  RETURNING {registration_columns("r")}
), {event_and_message_ctes("verified", of="moved")}"""
_VERIFY_TYPES: Types = {"lapsed_event_id": UUID(), "ttl": Interval(), **EVENT_TYPES}

PEEK = statement(
    _TOKEN_STATE,
    (*REGISTRATION_COLUMNS, "status_now", "live", "used", "email_proven"),
    secret_hash=Bytea(),
)

VERIFY = statement(
    f"""
WITH found AS ({_TOKEN_STATE} FOR NO KEY UPDATE OF r
), used AS (
  UPDATE verification_tokens t SET used_at = statement_timestamp()
  FROM found
  WHERE t.secret_hash = :secret_hash AND {TOKEN_IS_USABLE}
    AND found.status_now = 'pending' AND NOT found.email_proven
  RETURNING t.registration_id
), {_VERIFY_CTES}
SELECT found.status_now, found.live, found.used, found.email_proven, moved.id IS NOT NULL AS changed,
       {changed_or_found_columns("moved", "found")}
FROM found LEFT JOIN moved ON moved.id = found.id
""",
    ("status_now", "live", "used", "email_proven", "changed", *REGISTRATION_COLUMNS),
    secret_hash=Bytea(),
    **_VERIFY_TYPES,
)

# A used code is still judged until it expires: a form that is sent twice succeeds twice, and every other code is wrong.
_CODE_IS_JUDGED = "t.replaced_at IS NULL AND t.expires_at > statement_timestamp()"

VERIFY_CODE = statement(
    f"""
WITH found AS (
  SELECT {registration_columns("r")}, {STATUS_NOW} AS status_now, {_EMAIL_IS_TAKEN} AS email_proven
  FROM registrations r WHERE r.id = :id
  FOR NO KEY UPDATE OF r
), judged AS (
  UPDATE verification_tokens t
  SET attempts = t.attempts + CASE WHEN t.secret_hash = given.hash THEN 0 ELSE 1 END,
      used_at = CASE WHEN t.secret_hash = given.hash AND found.status_now = 'pending' AND NOT found.email_proven
                THEN statement_timestamp() ELSE t.used_at END
  FROM found, unnest(:code_key_ids, :code_hashes) AS given (key_id, hash)
  WHERE t.registration_id = found.id AND t.purpose = 'verify_email' AND t.hash_key_id = given.key_id
    AND {_CODE_IS_JUDGED} AND t.attempts < :max_attempts AND found.status_now IN ('pending', 'verified', 'active')
  RETURNING t.id, t.registration_id, t.attempts, t.secret_hash = given.hash AS matched, t.used_at IS NOT NULL AS used
), used AS (
  SELECT judged.registration_id FROM judged JOIN found ON found.id = judged.registration_id
  WHERE judged.matched AND found.status_now = 'pending' AND NOT found.email_proven
), {_VERIFY_CTES}
SELECT found.status_now, found.email_proven, judged.id AS token_id, judged.matched, judged.used, judged.attempts,
       code.attempts AS attempts_before,
       moved.id IS NOT NULL AS changed, {changed_or_found_columns("moved", "found")}
FROM found
LEFT JOIN judged ON judged.registration_id = found.id
LEFT JOIN verification_tokens code
  ON code.id = (SELECT t.id FROM verification_tokens t
                WHERE t.registration_id = found.id AND t.purpose = 'verify_email'
                  AND t.hash_key_id = ANY(:code_key_ids) AND {_CODE_IS_JUDGED}
                ORDER BY t.id DESC LIMIT 1)
LEFT JOIN moved ON moved.id = found.id
""",
    (
        "status_now",
        "email_proven",
        "token_id",
        "matched",
        "used",
        "attempts",
        "attempts_before",
        "changed",
        *REGISTRATION_COLUMNS,
    ),
    id=UUID(),
    code_key_ids=ARRAY(SmallInteger()),
    code_hashes=ARRAY(Bytea()),
    max_attempts=BigInteger(),
    **_VERIFY_TYPES,
)

COUNT_ATTEMPT = statement(
    """
WITH found AS (
  SELECT r.id FROM registrations r WHERE r.id = :id
  FOR NO KEY UPDATE OF r
)
UPDATE verification_tokens t SET attempts = t.attempts + 1
FROM found
WHERE t.id = :token_id AND t.registration_id = found.id
""",
    id=UUID(),
    token_id=UUID(),
)

COUNT_ATTEMPT_IF_MISSING = statement(
    """
WITH found AS (
  SELECT r.id FROM registrations r WHERE r.id = :id
  FOR NO KEY UPDATE OF r
)
UPDATE verification_tokens t SET attempts = :number
FROM found
WHERE t.id = :token_id AND t.registration_id = found.id AND t.attempts < :number
""",
    id=UUID(),
    token_id=UUID(),
    number=BigInteger(),
)
