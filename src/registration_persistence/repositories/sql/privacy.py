"""The SQL of `PrivacyRepository`."""

from sqlalchemy import Text
from sqlalchemy.dialects.postgresql import UUID

from registration_persistence.repositories.sql.change_statement import change_statement
from registration_persistence.repositories.sql.fragments import source_statuses
from registration_persistence.repositories.sql.statement import statement

ERASE = change_statement(
    "erased",
    ctes_before=["seen AS (SELECT tokens_issued FROM registrations WHERE id = :id)"],
    found_columns=["r.tokens_issued"],
    # Without the second condition, a token that was issued while the statement waited for the row would stay.
    allowed=f"""found.status_now IN ({source_statuses("erased")})
    AND found.tokens_issued = (SELECT tokens_issued FROM seen)""",
    assignments=[
        "email = NULL",
        "email_key = NULL",
        "profile = '{}'",
        "submit_key = NULL",
        "submit_digest = NULL",
        "expires_at = NULL",
        "closed_at = statement_timestamp()",
        "close_reason = 'erasure'",
    ],
    ctes_after=["token AS (DELETE FROM verification_tokens t USING moved WHERE t.registration_id = moved.id)"],
)

# Each branch can use a partial index.
IDS_BY_EMAIL = statement(
    """
SELECT id FROM registrations WHERE email_key = :email_key AND status = 'pending'
UNION ALL
SELECT id FROM registrations WHERE email_key = :email_key AND status IN ('verified', 'active')
UNION ALL
SELECT id FROM registrations WHERE email_key = :email_key AND status IN ('expired', 'cancelled')
ORDER BY id
""",
    ("id",),
    email_key=Text(),
)

EXPORT_SUBJECT = statement(
    """
SELECT jsonb_build_object(
  'registration', jsonb_build_object(
    'id', r.id, 'status', r.status, 'version', r.version, 'email', r.email, 'email_key', r.email_key,
    'email_key_rev', r.email_key_rev, 'profile', r.profile, 'tokens_issued', r.tokens_issued,
    'token_issued_at', r.token_issued_at, 'created_at', r.created_at, 'updated_at', r.updated_at,
    'expires_at', r.expires_at, 'verified_at', r.verified_at, 'activated_at', r.activated_at,
    'closed_at', r.closed_at, 'close_reason', r.close_reason),
  'tokens', (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', t.id, 'purpose', t.purpose, 'attempts', t.attempts, 'created_at', t.created_at,
      'expires_at', t.expires_at, 'used_at', t.used_at, 'replaced_at', t.replaced_at)
      ORDER BY t.created_at, t.id), '[]')
    FROM verification_tokens t WHERE t.registration_id = r.id),
  'consents', (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', c.id, 'purpose', c.purpose, 'document_version', c.document_version, 'granted', c.granted,
      'source', c.source, 'recorded_at', c.recorded_at, 'seq', c.seq) ORDER BY c.seq, c.purpose), '[]')
    FROM registration_consents c WHERE c.registration_id = r.id),
  'events', (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', e.id, 'seq', e.seq, 'type', e.type, 'data', e.data, 'actor', e.actor,
      'correlation_id', e.correlation_id, 'occurred_at', e.occurred_at) ORDER BY e.seq), '[]')
    FROM registration_events e WHERE e.registration_id = r.id)
) AS held
FROM registrations r WHERE r.id = :id
""",
    ("held",),
    id=UUID(),
)
