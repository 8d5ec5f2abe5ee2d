"""The SQL of `ConsentRepository`."""

from registration_persistence.repositories.sql.fragments import CONSENTS_GIVEN, changed, statement

_COLUMNS = "purpose, document_version, granted, source, recorded_at, seq"

# Withdrawing must be possible for as long as there is a person.
RECORD = statement(
    changed(
        "consents_recorded",
        allowed="found.status <> 'erased'",
        after=f"""consent AS (
  INSERT INTO registration_consents (registration_id, id, purpose, document_version, granted, source, seq)
  SELECT moved.id, given.id, given.purpose, given.document_version, given.granted, given.source, moved.version
  FROM moved, {CONSENTS_GIVEN}
), """,
        data="""(
    SELECT jsonb_build_object(
      'granted', coalesce(jsonb_agg(purpose ORDER BY purpose) FILTER (WHERE granted), '[]'),
      'withdrawn', coalesce(jsonb_agg(purpose ORDER BY purpose) FILTER (WHERE NOT granted), '[]'))
    FROM unnest(:consent_purposes, :consent_granted) AS given (purpose, granted))""",
    )
)

CURRENT = statement(f"""
SELECT DISTINCT ON (purpose) {_COLUMNS} FROM registration_consents
WHERE registration_id = :id ORDER BY purpose, seq DESC
""")

HISTORY = statement(f"""
SELECT {_COLUMNS} FROM registration_consents WHERE registration_id = :id ORDER BY seq, purpose
""")
