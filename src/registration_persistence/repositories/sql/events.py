"""The SQL of `EventRepository`."""

from sqlalchemy import BigInteger
from sqlalchemy.dialects.postgresql import UUID

from registration_persistence.repositories.sql.statement import statement

_COLUMNS = ("id", "registration_id", "seq", "type", "data", "actor", "correlation_id", "occurred_at")

LIST_EVENTS = statement(
    f"""
SELECT {", ".join(_COLUMNS)} FROM registration_events
WHERE registration_id = :id AND seq > :after_seq ORDER BY seq LIMIT :limit
""",
    _COLUMNS,
    id=UUID(),
    after_seq=BigInteger(),
    limit=BigInteger(),
)
