"""The SQL of `OutboxRepository`."""

from sqlalchemy import ARRAY, BigInteger, DateTime, Integer, Interval, Text
from sqlalchemy.dialects.postgresql import UUID

from registration_persistence.repositories.sql.statement import Types, statement

_COLUMNS = """o.event_id, o.registration_id, o.type, CAST(o.payload ->> 'seq' AS integer) AS seq, o.attempts,
          o.last_error, o.available_at, o.dead_at"""
_NAMES = ("event_id", "registration_id", "type", "seq", "attempts", "last_error", "available_at", "dead_at")

_CLAIM_TYPES: Types = {
    "limit": BigInteger(),
    "lease": Interval(),
    "due_since": DateTime(timezone=True),
    "first_id": UUID(),
}


def _claim(*, deleting: str = "", condition: str = "") -> str:
    """Return the SQL of a claim.

    Args:
        deleting: A common table expression that is executed first, with a comma after it.
        condition: A further condition of the messages to claim.
    """
    return f"""
WITH {deleting}due AS (
  SELECT event_id, available_at FROM outbox
  WHERE dead_at IS NULL AND available_at <= statement_timestamp()
    AND (available_at, event_id) >= (:due_since, :first_id) {condition}
  ORDER BY available_at, event_id LIMIT :limit
  FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET available_at = statement_timestamp() + :lease, attempts = o.attempts + 1
WHERE o.event_id = ANY(ARRAY(SELECT event_id FROM due))
RETURNING {_COLUMNS}, (SELECT min(available_at) FROM due) AS due_since,
          (SELECT event_id FROM due ORDER BY available_at, event_id LIMIT 1) AS first_id
"""


_CLAIMED = (*_NAMES, "due_since", "first_id")

CLAIM = statement(_claim(), _CLAIMED, **_CLAIM_TYPES)

# A message whose lease has ended is due while it is deleted, and one statement cannot change a row twice. The deletion
# may wait for another claim, so it comes first: a claim locks its rows without waiting, hence no deadlock.
ACK_AND_CLAIM = statement(
    _claim(
        deleting="deleted AS (DELETE FROM outbox WHERE event_id = ANY(:ids) RETURNING event_id), ",
        condition="AND event_id <> ALL(:ids) AND (SELECT count(*) FROM deleted) >= 0",
    ),
    _CLAIMED,
    ids=ARRAY(UUID()),
    **_CLAIM_TYPES,
)

# Only the worker that claimed the message last knows its attempts and its lease; a late worker finds no row.
_IS_CLAIMED = """o.event_id = claimed.event_id AND o.attempts = claimed.attempts
  AND o.available_at = claimed.leased_until AND o.dead_at IS NULL"""

_GIVEN = "unnest(:ids, :attempts_of, :leased_until) AS claimed (event_id, attempts, leased_until)"
_GIVEN_TYPES: Types = {
    "ids": ARRAY(UUID()),
    "attempts_of": ARRAY(Integer()),
    "leased_until": ARRAY(DateTime(timezone=True)),
}

ACK = statement("DELETE FROM outbox WHERE event_id = ANY(:ids)", ids=ARRAY(UUID()))

RETRY = statement(
    f"""
UPDATE outbox o SET available_at = statement_timestamp() + :delay, last_error = :error
FROM {_GIVEN} WHERE {_IS_CLAIMED}
""",
    delay=Interval(),
    error=Text(),
    **_GIVEN_TYPES,
)

RELEASE = statement(
    f"""
UPDATE outbox o SET available_at = statement_timestamp(), attempts = o.attempts - 1
FROM {_GIVEN} WHERE {_IS_CLAIMED}
""",
    **_GIVEN_TYPES,
)

BURY = statement(
    f"""
UPDATE outbox o SET dead_at = statement_timestamp(), last_error = :error
FROM {_GIVEN} WHERE {_IS_CLAIMED}
""",
    error=Text(),
    **_GIVEN_TYPES,
)

DEAD = statement(
    f"""
SELECT {_COLUMNS} FROM outbox o WHERE o.dead_at IS NOT NULL ORDER BY o.dead_at, o.event_id LIMIT :limit
""",
    _NAMES,
    limit=BigInteger(),
)

REVIVE = statement(
    """
UPDATE outbox SET dead_at = NULL, attempts = 0, available_at = statement_timestamp()
WHERE event_id = ANY(:ids) AND dead_at IS NOT NULL
""",
    ids=ARRAY(UUID()),
)
