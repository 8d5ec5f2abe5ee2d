"""The SQL of `ConsentRepository`."""

from sqlalchemy.dialects.postgresql import UUID

from registration_persistence.repositories.sql.change_statement import change_statement
from registration_persistence.repositories.sql.fragments import CONSENT_TYPES, CONSENTS_GIVEN
from registration_persistence.repositories.sql.statement import statement

_COLUMNS = ("purpose", "document_version", "granted", "source", "recorded_at", "seq")

# A person can withdraw a consent in every status but erased.
RECORD = change_statement(
    "consents_recorded",
    allowed="found.status <> 'erased'",
    ctes_after=[
        f"""consent AS (
  INSERT INTO registration_consents (registration_id, id, purpose, document_version, granted, source, seq)
  SELECT moved.id, given.id, given.purpose, given.document_version, given.granted, given.source, moved.version
  FROM moved, {CONSENTS_GIVEN}
)"""
    ],
    event_data=f"""(
    SELECT jsonb_build_object(
      'granted', coalesce(jsonb_agg(purpose ORDER BY purpose) FILTER (WHERE granted), '[]'),
      'withdrawn', coalesce(jsonb_agg(purpose ORDER BY purpose) FILTER (WHERE NOT granted), '[]'))
    FROM {CONSENTS_GIVEN})""",
    types=CONSENT_TYPES,
)

CURRENT = statement(
    f"""
SELECT DISTINCT ON (purpose) {", ".join(_COLUMNS)} FROM registration_consents
WHERE registration_id = :id ORDER BY purpose, seq DESC
""",
    _COLUMNS,
    id=UUID(),
)

HISTORY = statement(
    f"""
SELECT {", ".join(_COLUMNS)} FROM registration_consents WHERE registration_id = :id ORDER BY seq, purpose
""",
    _COLUMNS,
    id=UUID(),
)
