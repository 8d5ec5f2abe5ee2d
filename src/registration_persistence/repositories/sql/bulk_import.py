"""The SQL of `bulk_import`."""

from sqlalchemy import Boolean, Interval, SmallInteger, Text

from registration_persistence.repositories.sql.statement import statement

# One parameter of JSON: PostgreSQL reads it faster than Python can send one array for each column.
# The rows are inserted in the order of their keys, so that two concurrent imports cannot deadlock.
IMPORT = statement(
    """
WITH given AS (
  SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS row (
    number bigint, id uuid, event_id uuid, email text, email_key text, status text, profile jsonb, submit_key text,
    submit_digest text, registered_at timestamptz, purposes jsonb)
), consented AS (
  SELECT * FROM json_to_recordset(CAST(:consents AS json)) AS consent (
    registration_id uuid, id uuid, purpose text, document_version text, granted boolean, source text)
), imported AS (
  INSERT INTO registrations (id, email, email_key, email_key_rev, status, profile, submit_key, submit_digest,
                             created_at, expires_at, verified_at, activated_at)
  SELECT id, email, email_key, :email_key_rev, status, profile, decode(submit_key, 'hex'), decode(submit_digest, 'hex'),
         coalesce(registered_at, statement_timestamp()),
         CASE WHEN status IN ('pending', 'verified') THEN statement_timestamp() + :ttl END,
         CASE WHEN status IN ('verified', 'active') THEN coalesce(registered_at, statement_timestamp()) END,
         CASE WHEN status = 'active' THEN coalesce(registered_at, statement_timestamp()) END
  FROM given ORDER BY email_key, submit_key, number
  ON CONFLICT DO NOTHING
  RETURNING id, status
), consent AS (
  INSERT INTO registration_consents (registration_id, id, purpose, document_version, granted, source, recorded_at)
  SELECT given.id, consent.id, consent.purpose, consent.document_version, consent.granted, consent.source,
         coalesce(given.registered_at, statement_timestamp())
  FROM imported JOIN given ON given.id = imported.id JOIN consented AS consent ON consent.registration_id = imported.id
), event AS (
  INSERT INTO registration_events (registration_id, seq, id, type, data, actor, correlation_id)
  SELECT given.id, 1, given.event_id, 'imported',
         jsonb_build_object('status', given.status, 'consents', given.purposes), :actor, :correlation_id
  FROM imported JOIN given ON given.id = imported.id
), message AS (
  INSERT INTO outbox (event_id, registration_id, type, payload)
  SELECT given.event_id, given.id, 'registration.imported', '{"seq": 1}'
  FROM imported JOIN given ON given.id = imported.id WHERE :announce
)
SELECT given.number FROM given WHERE given.id NOT IN (SELECT id FROM imported) ORDER BY given.number
""",
    ("number",),
    rows=Text(),
    consents=Text(),
    email_key_rev=SmallInteger(),
    ttl=Interval(),
    actor=Text(),
    correlation_id=Text(),
    announce=Boolean(),
)
