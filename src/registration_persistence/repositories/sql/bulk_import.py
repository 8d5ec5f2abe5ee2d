"""The SQL of `bulk_import`."""

from typing import Any

from sqlalchemy import Boolean, Interval, SmallInteger, Text
from sqlalchemy.types import UserDefinedType

from registration_persistence.repositories.sql.statement import statement


class ArrayText(UserDefinedType[str]):
    """A parameter that is the text of an array, such as `{1,2}`.

    psycopg builds an array element by element, in Python; `str.join` builds a column of an import in C.

    Args:
        element: The type of the elements in PostgreSQL.
    """

    cache_ok = True
    render_bind_cast = True

    def __init__(self, element: str) -> None:
        self.element: str = element

    def get_col_spec(self, **_options: Any) -> str:
        """Return the type of the array."""
        return f"{self.element}[]"


# One array for each column: PostgreSQL reads arrays faster than JSON, and needs no staging table for them.
# generate_series() numbers the rows, and tells the planner of a generic plan that there are a thousand. It would expect
# ten otherwise, and join the rows with nested loops.
# The rows are inserted in the order of their keys, so that two concurrent imports cannot deadlock.
IMPORT = statement(
    """
WITH given AS (
  SELECT * FROM ROWS FROM (
    generate_series(1, cardinality(:ids)), unnest(:ids), unnest(:event_ids), unnest(:emails), unnest(:email_keys),
    unnest(:statuses), unnest(:profiles), unnest(:submit_keys), unnest(:submit_digests), unnest(:registered_at),
    unnest(:event_data)
  ) AS row (place, id, event_id, email, email_key, status, profile, submit_key, submit_digest, registered_at, data)
), consented AS (
  SELECT * FROM ROWS FROM (
    generate_series(1, cardinality(:consent_ids)), unnest(:consent_ids), unnest(:consent_registrations),
    unnest(:consent_purposes), unnest(:consent_versions), unnest(:consent_granted), unnest(:consent_sources)
  ) AS consent (place, id, registration_id, purpose, document_version, granted, source)
), imported AS (
  INSERT INTO registrations (id, email, email_key, email_key_rev, status, profile, submit_key, submit_digest,
                             created_at, expires_at, verified_at, activated_at)
  SELECT id, email, email_key, :email_key_rev, status, profile, decode(submit_key, 'hex'), decode(submit_digest, 'hex'),
         coalesce(registered_at, statement_timestamp()),
         CASE WHEN status IN ('pending', 'verified') THEN statement_timestamp() + :ttl END,
         CASE WHEN status IN ('verified', 'active') THEN coalesce(registered_at, statement_timestamp()) END,
         CASE WHEN status = 'active' THEN coalesce(registered_at, statement_timestamp()) END
  FROM given ORDER BY email_key COLLATE "C", submit_key COLLATE "C", place
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
    ids=ArrayText("uuid"),
    event_ids=ArrayText("uuid"),
    emails=ArrayText("text"),
    email_keys=ArrayText("text"),
    statuses=ArrayText("text"),
    profiles=ArrayText("jsonb"),
    submit_keys=ArrayText("text"),
    submit_digests=ArrayText("text"),
    registered_at=ArrayText("timestamptz"),
    event_data=ArrayText("jsonb"),
    consent_ids=ArrayText("uuid"),
    consent_registrations=ArrayText("uuid"),
    consent_purposes=ArrayText("text"),
    consent_versions=ArrayText("text"),
    consent_granted=ArrayText("boolean"),
    consent_sources=ArrayText("text"),
    email_key_rev=SmallInteger(),
    ttl=Interval(),
    actor=Text(),
    correlation_id=Text(),
    announce=Boolean(),
)
