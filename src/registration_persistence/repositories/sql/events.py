"""The SQL of `EventRepository`."""

from sqlalchemy import BigInteger
from sqlalchemy.dialects.postgresql import UUID

from registration_persistence.repositories.sql.statement import statement

LIST_EVENTS = statement(
    """
SELECT id, registration_id, seq, type, data, actor, correlation_id, occurred_at FROM registration_events
WHERE registration_id = :id AND seq > :after_seq ORDER BY seq LIMIT :limit
""",
    id=UUID(),
    after_seq=BigInteger(),
    limit=BigInteger(),
)
