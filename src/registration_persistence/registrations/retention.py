"""`Retention`: what ends by itself, what is thrown away, and what a person can ask for."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session

from registration_persistence.errors import InvalidInput, RegistrationNotFound, TransactionConflict
from registration_persistence.registrations.base import Status, new_id
from registration_persistence.registrations.confidential import confidential
from registration_persistence.registrations.email import normalise_email
from registration_persistence.registrations.inputs import checked_id, checked_moment, checked_number
from registration_persistence.registrations.outcomes import Erased
from registration_persistence.registrations.repository_base import ATTEMPTS, Repository, registration_of
from registration_persistence.registrations.sql import changed, sources, statement

_LARGEST_BATCH = 10_000
_MOST_MONTHS = 120

# The arrays of the batches below, and not joins, because PostgreSQL may plan a join as a scan of the whole table.
_EXPIRE_DUE = statement(f"""
WITH due AS (
  SELECT id FROM registrations
  WHERE status IN ({sources("expired")}) AND expires_at <= statement_timestamp()
  ORDER BY expires_at LIMIT :limit
  FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
  UPDATE registrations r
  SET status = 'expired', version = r.version + 1, updated_at = statement_timestamp(),
      closed_at = statement_timestamp(), close_reason = 'ttl', expires_at = NULL
  WHERE r.id = ANY(ARRAY(SELECT id FROM due))
  RETURNING r.id, r.version
), numbered AS (
  SELECT id, version, (:event_ids)[row_number() OVER ()] AS event_id FROM moved
), event AS (
  INSERT INTO registration_events (registration_id, seq, id, type, actor, correlation_id)
  SELECT id, version, event_id, 'expired', :actor, :correlation_id FROM numbered
), message AS (
  INSERT INTO outbox (event_id, registration_id, type, payload)
  SELECT event_id, id, 'registration.expired', jsonb_build_object('seq', version) FROM numbered
)
SELECT count(*) AS number FROM moved
""")

# A row that somebody waits for, to issue a token for example, is left for the next time.
_PURGE_CLOSED = statement("""
WITH old AS (
  SELECT id FROM registrations
  WHERE status IN ('expired', 'cancelled') AND closed_at < :before
  ORDER BY closed_at LIMIT :limit
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM registrations r WHERE r.id = ANY(ARRAY(SELECT id FROM old)) RETURNING r.id
)
SELECT count(*) AS number FROM gone
""")

_PURGE_TOKENS = statement("""
WITH old AS (
  SELECT id FROM verification_tokens
  WHERE expires_at < :before AND expires_at <= statement_timestamp()
  ORDER BY expires_at LIMIT :limit
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM verification_tokens t WHERE t.id = ANY(ARRAY(SELECT id FROM old)) RETURNING t.id
)
SELECT count(*) AS number FROM gone
""")

_ERASE = statement(
    changed(
        "erased",
        before="seen AS (SELECT tokens_issued FROM registrations WHERE id = :id),",
        found=", r.tokens_issued",
        # Otherwise a token that was issued while the row was locked would stay.
        allowed=f"""found.status_now IN ({sources("erased")})
    AND found.tokens_issued = (SELECT tokens_issued FROM seen)""",
        assignments=""", email = NULL, email_key = NULL, profile = '{}', submit_key = NULL, submit_digest = NULL,
      expires_at = NULL, closed_at = statement_timestamp(), close_reason = 'erasure'""",
        after="""token AS (
  DELETE FROM verification_tokens t USING moved WHERE t.registration_id = moved.id
), """,
    )
)

# Each branch has a partial index of its own.
_OF_MAILBOX = statement("""
SELECT id FROM registrations WHERE email_key = :email_key AND status = 'pending'
UNION ALL
SELECT id FROM registrations WHERE email_key = :email_key AND status IN ('verified', 'active')
UNION ALL
SELECT id FROM registrations WHERE email_key = :email_key AND status IN ('expired', 'cancelled')
ORDER BY id
""")

_EXPORT = statement("""
SELECT jsonb_build_object(
  'registration', jsonb_build_object(
    'id', r.id, 'status', r.status, 'version', r.version, 'email', r.email, 'email_key', r.email_key,
    'email_key_rev', r.email_key_rev, 'profile', r.profile, 'tokens_issued', r.tokens_issued,
    'token_issued_at', r.token_issued_at, 'created_at', r.created_at, 'updated_at', r.updated_at,
    'expires_at', r.expires_at, 'verified_at', r.verified_at, 'activated_at', r.activated_at,
    'closed_at', r.closed_at, 'close_reason', r.close_reason),
  'tokens', (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', t.id, 'purpose', t.purpose, 'attempts', t.attempts, 'created_at', t.created_at,
      'expires_at', t.expires_at, 'used_at', t.used_at, 'replaced_at', t.replaced_at)
      ORDER BY t.created_at, t.id), '[]')
    FROM verification_tokens t WHERE t.registration_id = r.id),
  'consents', (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', c.id, 'purpose', c.purpose, 'document_version', c.document_version, 'granted', c.granted,
      'source', c.source, 'recorded_at', c.recorded_at, 'seq', c.seq) ORDER BY c.seq, c.purpose), '[]')
    FROM registration_consents c WHERE c.registration_id = r.id),
  'events', (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', e.id, 'seq', e.seq, 'type', e.type, 'data', e.data, 'actor', e.actor,
      'correlation_id', e.correlation_id, 'occurred_at', e.occurred_at) ORDER BY e.seq), '[]')
    FROM registration_events e WHERE e.registration_id = r.id)
) AS held
FROM registrations r WHERE r.id = :id
""")

# In its own words, so that it is atomic in autocommit too. Whoever waits for a partitioned table's lock makes every
# sign-up queue behind, so this gives up after a second.
_PATIENTLY = """
DO $$
DECLARE
  timeout text = current_setting('lock_timeout');
BEGIN
  PERFORM set_config('lock_timeout', '1s', true);
  {work}
  PERFORM set_config('lock_timeout', timeout, true);
END $$
"""

# The events of the month that have come already are in the default partition, and move over.
# The first lock keeps other workers out, and sign-ups, which would wait for the second with a row for the wrong table.
_ADD_PARTITION = """
  LOCK TABLE registration_events IN SHARE ROW EXCLUSIVE MODE;
  IF to_regclass('{name}') IS NULL THEN
    LOCK TABLE registration_events_default IN ACCESS EXCLUSIVE MODE;
    CREATE TABLE {name} (LIKE registration_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
    WITH moved AS (
      DELETE FROM registration_events_default WHERE occurred_at >= '{start}' AND occurred_at < '{end}' RETURNING *
    ) INSERT INTO {name} SELECT * FROM moved;
    ALTER TABLE registration_events ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}');
    EXECUTE (SELECT format('ALTER TABLE {name} OWNER TO %I', pg_get_userbyid(relowner))
             FROM pg_class WHERE oid = 'registration_events'::regclass);
  END IF;
"""

_MISSING_MONTHS = text("""
WITH wanted AS (
  SELECT this + ahead * interval '1 month' AS month
  FROM date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC') AS this, generate_series(0, :months) AS ahead
  UNION
  SELECT DISTINCT date_trunc('month', occurred_at AT TIME ZONE 'UTC') FROM registration_events_default
  WHERE occurred_at BETWEEN '1000-01-02' AND '9999-11-30'
), named AS (
  SELECT to_char(month, '"registration_events_y"YYYY"m"MM') AS name, month FROM wanted
)
SELECT name, month, month + interval '1 month' AS next_month FROM named
WHERE NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'registration_events'::regclass
                  AND inhrelid = to_regclass(name))
ORDER BY month
""")

_PARTITIONS = text(r"""
SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'registration_events'::regclass AND relname ~ '_y\d{4}m\d{2}$'
ORDER BY relname
""")


class Retention(Repository):
    """Expiry, purging, erasure and export, in the transaction of the session it is given; never commits.

    The methods with a *limit* do one batch, in one statement, and any number of workers may call them at once: rows
    that others are at are left out. Call them in an `autocommit` session, again and again until they return less than
    the limit.

    Args:
        session: A session of `Database.session`.
        actor: Who acts, for the event trail: `user`, `system` or `admin:<id>`.
        correlation_id: What ties the event trail to a trace or request; not personal data.
    """

    def __init__(self, session: Session, *, actor: str = "system", correlation_id: str | None = None) -> None:
        super().__init__(session, actor=actor, correlation_id=correlation_id)

    @confidential
    def expire_due(self, limit: int = 1000) -> int:
        """Expire registrations whose time is over, the longest overdue first; return how many.

        Nothing waits for it: what has passed its time counts as expired before.

        Args:
            limit: Registrations at most, 1 to 10,000.

        Raises:
            InvalidInput: Nothing was sent.
        """
        number = _checked_limit(limit)
        return self._count(_EXPIRE_DUE, limit=number, event_ids=[new_id() for _ in range(number)], **self._who)

    @confidential
    def purge_closed(self, before: datetime, limit: int = 1000) -> int:
        """Delete registrations that expired or were cancelled *before*, with tokens and consents; return how many.

        Their trail stays until its month is dropped. Erased ones stay, as there is nothing of the person in them.

        Args:
            before: When they were closed, with a time zone.
            limit: Registrations at most, 1 to 10,000.

        Raises:
            InvalidInput: Nothing was sent.
        """
        return self._count(_PURGE_CLOSED, before=checked_moment("before", before), limit=_checked_limit(limit))

    @confidential
    def purge_tokens(self, before: datetime, limit: int = 1000) -> int:
        """Delete tokens and codes whose time was over *before*, used or not; return how many.

        A link that was used is unknown afterwards, and no longer `AlreadyVerified`. One that can still be used stays,
        whatever *before* is.

        Args and errors are those of `purge_closed`.
        """
        return self._count(_PURGE_TOKENS, before=checked_moment("before", before), limit=_checked_limit(limit))

    @confidential
    def erase(self, registration_id: UUID) -> Erased:
        """Remove address, profile, idempotency key and tokens; repeating it changes nothing.

        Id, status, times, consents and trail stay: they tell what was agreed to and done, and not by whom. Other
        registrations of the mailbox are not touched; `registrations_of` finds them.

        Raises:
            RegistrationNotFound: There is none with this id.
            TransactionConflict: Others kept issuing tokens at the same moment; nothing was changed.
        """
        for _ in range(ATTEMPTS):
            row = self._change(_ERASE, registration_id, expected_version=None)
            if row.changed or row.status_now == Status.ERASED:
                return Erased(registration_of(row), changed=row.changed)
        raise TransactionConflict("other transactions kept issuing tokens: repeat the unit of work")

    @confidential
    def registrations_of(self, email: str) -> tuple[UUID, ...]:
        """Return the ids of everything that holds this mailbox, closed registrations included, oldest first.

        Raises:
            InvalidEmail: As for `RegistrationRepository.register`.
        """
        rows = self._session.execute(_OF_MAILBOX, {"email_key": normalise_email(email).key})
        return tuple(row.id for row in rows)

    @confidential
    def export_subject(self, registration_id: UUID) -> dict[str, Any]:
        """Return everything that is held about a registration, ready for `json.dumps`.

        Left out are hashes, of tokens and of the idempotency key, and the messages of the outbox, which repeat the ids
        of events until they are delivered.

        Raises:
            RegistrationNotFound: There is none with this id.
        """
        row = self._one(_EXPORT, id=checked_id(registration_id))
        if row is None:
            raise RegistrationNotFound(registration_id)
        held: dict[str, Any] = row.held
        return held

    def ensure_event_partitions(self, months: int = 12) -> tuple[str, ...]:
        """Make the partitions of the trail for this month and so many *months* ahead; return those that are new.

        Events that came before their partition are in the default one, and move. One round trip, and one for each
        partition that is made. The login must own the table.

        Args:
            months: 0 to 120.

        Raises:
            InvalidInput: Nothing was sent.
            LockTimeout: The table was not free within a second: try again. In `autocommit`, what was made is kept.
        """
        checked_number("months", months, 0, _MOST_MONTHS)
        missing = self._session.execute(_MISSING_MONTHS, {"months": months}).all()
        for row in missing:
            self._work(_ADD_PARTITION.format(name=row.name, start=f"{row.month}+00", end=f"{row.next_month}+00"))
        return tuple(row.name for row in missing)

    def drop_event_partitions(self, before: datetime) -> tuple[str, ...]:
        """Drop the partitions of the trail that hold nothing but events *before*; return which.

        One round trip, and one for each partition. The login must own the table.

        Args:
            before: With a time zone and not in the future; the month that it is in stays.

        Raises:
            InvalidInput: Nothing was sent.
            LockTimeout: As for `ensure_event_partitions`.
        """
        month = checked_moment("before", before)
        if month > datetime.now(UTC):
            raise InvalidInput("before is in the future: the events of this month are still being written")
        first_to_stay = f"registration_events_y{month.year:04}m{month.month:02}"
        names = self._session.scalars(_PARTITIONS).all()
        old = tuple(name for name in names if name < first_to_stay)
        for name in old:
            self._work(f"DROP TABLE IF EXISTS {name};")
        return old

    def _count(self, statement: TextClause, **parameters: Any) -> int:
        row: Row[Any] = self._session.execute(statement, parameters).one()
        return int(row.number)

    def _work(self, ddl: str) -> None:
        self._session.execute(text(_PATIENTLY.format(work=ddl).replace(":", r"\:")))


def _checked_limit(limit: int) -> int:
    return checked_number("the limit", limit, 1, _LARGEST_BATCH)
