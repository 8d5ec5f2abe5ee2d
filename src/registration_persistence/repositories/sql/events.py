"""The SQL of `EventRepository`."""

from registration_persistence.repositories.sql.fragments import statement

LIST_EVENTS = statement("""
SELECT id, registration_id, seq, type, data, actor, correlation_id, occurred_at FROM registration_events
WHERE registration_id = :id AND seq > :after_seq ORDER BY seq LIMIT :limit
""")
