"""The SQL of `RegistrationRepository`."""

from sqlalchemy import ARRAY, BigInteger, Interval, Text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from registration_persistence.domain.email import KEY_REVISION
from registration_persistence.repositories.sql.bytea import Bytea
from registration_persistence.repositories.sql.change_statement import change_statement
from registration_persistence.repositories.sql.fragments import (
    CONSENT_TYPES,
    CONSENTS_GIVEN,
    EVENT_TYPES,
    REGISTRATION_COLUMNS,
    event_and_message_ctes,
    is_current_registration,
    registration_columns,
)
from registration_persistence.repositories.sql.statement import statement

_REGISTERED = f"""jsonb_build_object('consents', (
    SELECT coalesce(jsonb_agg(given.purpose), '[]') FROM {CONSENTS_GIVEN}))
    || CASE status WHEN 'pending' THEN '{{}}' ELSE jsonb_build_object('status', status) END"""

# The client knows the other columns of a new registration, and each column costs it time; an earlier one is JSON.
# A sign-up beyond the limit writes the same rows, so the time does not reveal it; its registration is closed at once.
REGISTER = statement(
    f"""
WITH mailbox AS MATERIALIZED (
  SELECT CASE WHEN :max_pending IS NULL THEN false
              ELSE registrations_count_pending(:email_key, :max_pending) >= :max_pending END AS full
), registration AS (
  INSERT INTO registrations AS r (id, email, email_key, email_key_rev, status, profile, submit_key, submit_digest,
                                  tokens_issued, token_issued_at, expires_at, closed_at, close_reason)
  SELECT :id, :email, :email_key, {KEY_REVISION}, CASE WHEN mailbox.full THEN 'cancelled' ELSE 'pending' END,
         CAST(:profile AS jsonb), :submit_key, :submit_digest, 1, statement_timestamp(),
         CASE WHEN NOT mailbox.full THEN statement_timestamp() + :ttl END,
         CASE WHEN mailbox.full THEN statement_timestamp() END, CASE WHEN mailbox.full THEN 'superseded' END
  FROM mailbox
  ON CONFLICT (submit_key) WHERE submit_key IS NOT NULL DO UPDATE SET submit_key = EXCLUDED.submit_key
  RETURNING {registration_columns("r")}, encode(r.submit_digest, 'hex') AS submit_digest, r.id = :id AS created
), token AS (
  INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, expires_at)
  SELECT :token_id, id, 'verify_email', :secret_hash, 0, statement_timestamp() + :token_ttl
  FROM registration WHERE created
), consent AS (
  INSERT INTO registration_consents (registration_id, id, purpose, document_version, granted, source)
  SELECT registration.id, given.id, given.purpose, given.document_version, given.granted, given.source
  FROM registration, {CONSENTS_GIVEN}
  WHERE registration.created
), {event_and_message_ctes("registered", of="registration", data=_REGISTERED, condition="created")}
SELECT created, status, created_at, expires_at, closed_at,
       EXISTS (SELECT FROM registrations other
               WHERE other.email_key = :email_key AND {is_current_registration("other")}) AS email_proven,
       CASE WHEN NOT created THEN to_jsonb(registration) END AS earlier
FROM registration
""",
    ("created", "status", "created_at", "expires_at", "closed_at", "email_proven", "earlier"),
    id=UUID(),
    email=Text(),
    email_key=Text(),
    profile=Text(),
    submit_key=Bytea(),
    submit_digest=Bytea(),
    ttl=Interval(),
    max_pending=BigInteger(),
    token_id=UUID(),
    token_ttl=Interval(),
    secret_hash=Bytea(),
    **CONSENT_TYPES,
    **EVENT_TYPES,
)

ACTIVATE = change_statement("activated", assignments=["activated_at = statement_timestamp()", "expires_at = NULL"])

# A lapsed registration can be cancelled too, although its `status_now` is expired.
CANCEL = change_statement(
    "cancelled",
    allowed="found.status IN ('pending', 'verified')",
    assignments=["closed_at = statement_timestamp()", "close_reason = :reason", "expires_at = NULL"],
    types={"reason": Text()},
)

UPDATE_PROFILE = change_statement(
    "profile_updated",
    found_columns=[
        "(r.profile || :patch) - :removed AS merged",
        """octet_length(CAST((r.profile || :patch) - :removed AS text))
           > greatest(:largest, octet_length(CAST(r.profile AS text))) AS too_large""",
    ],
    allowed="""found.status_now IN ('pending', 'verified', 'active')
    AND found.merged <> found.profile AND NOT found.too_large""",
    assignments=["profile = found.merged"],
    event_data="""jsonb_build_object('fields', (
    SELECT coalesce(jsonb_agg(field ORDER BY field), '[]') FROM found, unnest(:fields) AS field
    WHERE found.profile -> field IS DISTINCT FROM found.merged -> field))""",
    result_columns={"too_large": "found.too_large", "merged_size": "octet_length(CAST(found.merged AS text))"},
    types={"patch": JSONB(), "removed": ARRAY(Text()), "fields": ARRAY(Text()), "largest": BigInteger()},
)

GET = statement(
    f"SELECT {registration_columns('r')} FROM registrations r WHERE r.id = :id",
    REGISTRATION_COLUMNS,
    id=UUID(),
)

NO_REGISTRATION = 3
"""The `rank` of the row that `FIND_BY_EMAIL` returns for an unknown mailbox, so that the time does not reveal it."""

FIND_BY_EMAIL = statement(
    f"""
SELECT * FROM (
  SELECT 1 AS rank, {registration_columns("r")} FROM registrations r
  WHERE r.email_key = :email_key AND {is_current_registration("r")}
  UNION ALL (
    SELECT 2 AS rank, {registration_columns("r")} FROM registrations r
    WHERE r.email_key = :email_key AND r.status = 'pending' AND r.expires_at > statement_timestamp()
    ORDER BY r.id DESC LIMIT 1
  )
  UNION ALL
  SELECT {NO_REGISTRATION} AS rank, CAST('00000000-0000-0000-0000-000000000000' AS uuid), 'pending', 1,
         :email_key, :email_key, CAST('{{}}' AS jsonb),
         statement_timestamp(), statement_timestamp(), statement_timestamp(),
         NULL, NULL, NULL, NULL
) candidate ORDER BY rank LIMIT 1
""",
    ("rank", *REGISTRATION_COLUMNS),
    email_key=Text(),
)

LIST_PAGE = statement(
    f"""
SELECT {registration_columns("r")} FROM registrations r
WHERE r.id > :after AND (:status IS NULL OR r.status = :status)
ORDER BY r.id LIMIT :limit
""",
    REGISTRATION_COLUMNS,
    after=UUID(),
    status=Text(),
    limit=BigInteger(),
)
