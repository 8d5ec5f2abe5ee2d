"""The SQL of `Retention`."""

from sqlalchemy import ARRAY, BigInteger, DateTime, Text
from sqlalchemy.dialects.postgresql import UUID

from registration_persistence.repositories.sql.fragments import source_statuses
from registration_persistence.repositories.sql.statement import statement

# The batches below are arrays, because PostgreSQL may plan a join as a scan of the whole table.
EXPIRE_DUE = statement(
    f"""
WITH due AS (
  SELECT id FROM registrations
  WHERE status IN ({source_statuses("expired")}) AND expires_at <= statement_timestamp()
  ORDER BY expires_at LIMIT :limit
  FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
  UPDATE registrations r
  SET status = 'expired', version = r.version + 1, updated_at = statement_timestamp(),
      closed_at = statement_timestamp(), close_reason = 'ttl', expires_at = NULL
  WHERE r.id = ANY(ARRAY(SELECT id FROM due))
  RETURNING r.id, r.version
), numbered AS (
  SELECT id, version, (:event_ids)[row_number() OVER ()] AS event_id FROM moved
), event AS (
  INSERT INTO registration_events (registration_id, seq, id, type, actor, correlation_id)
  SELECT id, version, event_id, 'expired', :actor, :correlation_id FROM numbered
), message AS (
  INSERT INTO outbox (event_id, registration_id, type, payload)
  SELECT event_id, id, 'registration.expired', jsonb_build_object('seq', version) FROM numbered
)
SELECT count(*) AS number FROM moved
""",
    ("number",),
    limit=BigInteger(),
    event_ids=ARRAY(UUID()),
    actor=Text(),
    correlation_id=Text(),
)

# A row that another transaction has locked, for example to issue a token, is left for the next call.
PURGE_CLOSED = statement(
    """
WITH old AS (
  SELECT id FROM registrations
  WHERE status IN ('expired', 'cancelled') AND closed_at < :before
  ORDER BY closed_at LIMIT :limit
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM registrations r WHERE r.id = ANY(ARRAY(SELECT id FROM old)) RETURNING r.id
)
SELECT count(*) AS number FROM gone
""",
    ("number",),
    before=DateTime(timezone=True),
    limit=BigInteger(),
)

PURGE_TOKENS = statement(
    """
WITH old AS (
  SELECT id FROM verification_tokens
  WHERE expires_at < :before AND expires_at <= statement_timestamp()
  ORDER BY expires_at LIMIT :limit
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM verification_tokens t WHERE t.id = ANY(ARRAY(SELECT id FROM old)) RETURNING t.id
)
SELECT count(*) AS number FROM gone
""",
    ("number",),
    before=DateTime(timezone=True),
    limit=BigInteger(),
)
