"""The SQL of `bulk_import`."""

from typing import Any

from sqlalchemy import Boolean, Interval, SmallInteger, Text
from sqlalchemy.types import UserDefinedType

from registration_persistence.repositories.binary_array import BinaryArray
from registration_persistence.repositories.sql.statement import statement


class ArrayOf(UserDefinedType[BinaryArray]):
    """The type of a parameter that is a `BinaryArray`.

    Args:
        element: The type of the elements in PostgreSQL.
    """

    cache_ok: bool | None = True
    render_bind_cast: bool = True

    def __init__(self, element: str) -> None:
        self.element: str = element

    def get_col_spec(self, **_options: Any) -> str:
        """Return the type of the array."""
        return f"{self.element}[]"


# One array for each column: PostgreSQL reads arrays faster than JSON, and needs no staging table for them.
# The rows are inserted in the order of their keys, so that two concurrent imports cannot deadlock.
IMPORT = statement(
    """
WITH given AS (
  SELECT * FROM unnest(
    :ids, :event_ids, :emails, :email_keys, :statuses, :profiles, :submit_keys, :submit_digests, :registered_at,
    :event_data
  ) WITH ORDINALITY AS row (
    id, event_id, email, email_key, status, profile, submit_key, submit_digest, registered_at, data, place)
), consented AS (
  SELECT * FROM unnest(
    :consent_ids, :consent_registrations, :consent_purposes, :consent_versions, :consent_granted, :consent_sources
  ) AS consent (id, registration_id, purpose, document_version, granted, source)
), imported AS (
  INSERT INTO registrations (id, email, email_key, email_key_rev, status, profile, submit_key, submit_digest,
                             created_at, expires_at, verified_at, activated_at)
  SELECT id, email, email_key, :email_key_rev, status, profile, submit_key, submit_digest,
         coalesce(registered_at, statement_timestamp()),
         CASE WHEN status IN ('pending', 'verified') THEN statement_timestamp() + :ttl END,
         CASE WHEN status IN ('verified', 'active') THEN coalesce(registered_at, statement_timestamp()) END,
         CASE WHEN status = 'active' THEN coalesce(registered_at, statement_timestamp()) END
  FROM given ORDER BY email_key COLLATE "C", submit_key, place
  ON CONFLICT DO NOTHING
  RETURNING id, created_at
), consent AS (
  INSERT INTO registration_consents (registration_id, id, purpose, document_version, granted, source, recorded_at)
  SELECT imported.id, consented.id, purpose, document_version, granted, source, imported.created_at
  FROM imported JOIN consented ON consented.registration_id = imported.id
), event AS (
  INSERT INTO registration_events (registration_id, seq, id, type, data, actor, correlation_id)
  SELECT given.id, 1, given.event_id, 'imported', given.data, :actor, :correlation_id
  FROM imported JOIN given ON given.id = imported.id
), message AS (
  INSERT INTO outbox (event_id, registration_id, type, payload)
  SELECT given.event_id, given.id, 'registration.imported', '{"seq": 1}'
  FROM imported JOIN given ON given.id = imported.id WHERE :announce
)
SELECT given.place FROM given WHERE given.id NOT IN (SELECT id FROM imported) ORDER BY given.place
""",
    ("place",),
    ids=ArrayOf("uuid"),
    event_ids=ArrayOf("uuid"),
    emails=ArrayOf("text"),
    email_keys=ArrayOf("text"),
    statuses=ArrayOf("text"),
    profiles=ArrayOf("jsonb"),
    submit_keys=ArrayOf("bytea"),
    submit_digests=ArrayOf("bytea"),
    registered_at=ArrayOf("timestamptz"),
    event_data=ArrayOf("jsonb"),
    consent_ids=ArrayOf("uuid"),
    consent_registrations=ArrayOf("uuid"),
    consent_purposes=ArrayOf("text"),
    consent_versions=ArrayOf("text"),
    consent_granted=ArrayOf("boolean"),
    consent_sources=ArrayOf("text"),
    email_key_rev=SmallInteger(),
    ttl=Interval(),
    actor=Text(),
    correlation_id=Text(),
    announce=Boolean(),
)
