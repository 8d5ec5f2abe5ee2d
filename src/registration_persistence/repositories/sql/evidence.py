"""The SQL that finds the evidence of a change; a row of it has the columns that outcomes of the change are made of."""

from sqlalchemy import DateTime
from sqlalchemy.dialects.postgresql import BYTEA, UUID

from registration_persistence.repositories.sql.fragments import (
    REGISTRATION_COLUMNS,
    is_current_registration,
    registration_columns,
)
from registration_persistence.repositories.sql.statement import statement

_RESULT = f"""{registration_columns("r")}, r.submit_digest, r.status AS status_now, true AS changed, true AS created,
       EXISTS (SELECT FROM registrations other
               WHERE other.email_key = r.email_key AND other.id <> r.id AND {is_current_registration("other")})
       AS email_proven"""
_RESULT_COLUMNS = (*REGISTRATION_COLUMNS, "submit_digest", "status_now", "changed", "created", "email_proven")

# A registration is left out of the join if it was deleted meanwhile. Its events stay.
_EVENT = f"""
SELECT {_RESULT}, coalesce(r.version = e.seq, false) AS is_current
FROM registration_events e LEFT JOIN registrations r ON r.id = e.registration_id
WHERE e.id = :event_id AND e.registration_id ="""

_EVENT_COLUMNS = (*_RESULT_COLUMNS, "is_current")

FIND_EVENT = statement(f"{_EVENT} :id", _EVENT_COLUMNS, id=UUID(), event_id=UUID())

# An unknown token verifies nothing; if it was deleted meanwhile, a repetition changes nothing either.
FIND_EVENT_BY_TOKEN = statement(
    f"{_EVENT} (SELECT registration_id FROM verification_tokens WHERE secret_hash = :secret_hash)",
    _EVENT_COLUMNS,
    secret_hash=BYTEA(),
    event_id=UUID(),
)

FIND_TOKEN = statement(
    f"""
SELECT {_RESULT}, t.expires_at AS token_expires_at, true AS is_current
FROM verification_tokens t JOIN registrations r ON r.id = t.registration_id
WHERE t.id = :token_id
""",
    (*_RESULT_COLUMNS, "token_expires_at", "is_current"),
    token_id=UUID(),
)

# An erasure deletes the tokens, and retention those that have lapsed.
TOKENS_ARE_KEPT = statement(
    """
SELECT true AS are_kept FROM registrations r
WHERE r.id = :id AND r.email IS NOT NULL AND statement_timestamp() < :kept_until
""",
    ("are_kept",),
    id=UUID(),
    kept_until=DateTime(timezone=True),
)
