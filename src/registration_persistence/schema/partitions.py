"""The monthly partitions of the event log: create them ahead of time, and drop old ones."""

from datetime import UTC, datetime

from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from registration_persistence.domain.validation import checked_moment, checked_number
from registration_persistence.errors import InvalidInput
from registration_persistence.schema.composed_sql import execute_verbatim

_MAX_MONTHS = 120

# A DO block, so it is atomic in autocommit too. A pending lock on a partitioned table queues every sign-up behind it,
# hence the lock timeout of 1 s.
_WITH_SHORT_LOCK_TIMEOUT = sql.SQL("""
DO $$
DECLARE
  timeout text = current_setting('lock_timeout');
  checks jsonb;
  check_name text;
  definition text;
BEGIN
  PERFORM set_config('lock_timeout', '1s', true);
  {work}
  PERFORM set_config('lock_timeout', timeout, true);
END $$
""")

# Events of the month that were written before its partition existed are in the default partition, and are moved.
# A new partition does not inherit that these columns have no statistics, from which a plan could reveal their values.
# The first lock excludes other workers, and sign-ups: they would wait for the second lock after PostgreSQL has already
# chosen the default partition for their row. Events that are older than a CHECK that is NOT VALID may violate it, so it
# is added after they were moved.
_ADD_PARTITION = sql.SQL("""
  LOCK TABLE registration_events IN SHARE ROW EXCLUSIVE MODE;
  IF to_regclass(quote_ident({name_literal})) IS NULL THEN
    LOCK TABLE registration_events_default IN ACCESS EXCLUSIVE MODE;
    CREATE TABLE {name} (LIKE registration_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
    ALTER TABLE {name} ALTER COLUMN data SET STATISTICS 0, ALTER COLUMN actor SET STATISTICS 0,
                       ALTER COLUMN correlation_id SET STATISTICS 0;
    SELECT jsonb_object_agg(conname, pg_get_constraintdef(oid)) INTO checks FROM pg_constraint
    WHERE conrelid = 'registration_events'::regclass AND contype = 'c' AND NOT convalidated;
    FOR check_name, definition IN SELECT * FROM jsonb_each_text(checks) LOOP
      EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', {name_literal}, check_name);
    END LOOP;
    WITH moved AS (
      DELETE FROM registration_events_default WHERE occurred_at >= {start} AND occurred_at < {end} RETURNING *
    ) INSERT INTO {name} SELECT * FROM moved;
    FOR check_name, definition IN SELECT * FROM jsonb_each_text(checks) LOOP
      EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I %s', {name_literal}, check_name, definition);
    END LOOP;
    ALTER TABLE registration_events ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end});
    EXECUTE (SELECT format('ALTER TABLE %I OWNER TO %I', {name_literal}, pg_get_userbyid(relowner))
             FROM pg_class WHERE oid = 'registration_events'::regclass);
  END IF;
""")

_DROP_PARTITION = sql.SQL("DROP TABLE IF EXISTS {name};")

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
                  AND inhrelid = to_regclass(quote_ident(name)))
ORDER BY month
""")

_PARTITIONS = text(r"""
SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'public.registration_events'::regclass AND relname ~ '^registration_events_y\d{4}m\d{2}$'
ORDER BY relname
""")


def ensure_event_partitions(session: Session, months: int = 12) -> tuple[str, ...]:
    """Create the missing partitions of the event log for this month and the months ahead.

    Events that were written before their partition existed are in the default partition, and are moved. Takes one
    round trip, and one more for each partition that is created.

    Args:
        session: A session of `Database.session`, with a login that owns `registration_events`.
        months: The number of months after this one, 0 to 120. Defaults to 12.

    Returns:
        The names of the new partitions, in the order of their months.

    Raises:
        InvalidInput: *months* is out of range; nothing was sent.
        LockTimeout: The table was not free within one second; try again. In an `autocommit` session, the partitions
            that were created before are kept.
    """
    checked_number("months", months, 0, _MAX_MONTHS)
    missing = session.execute(_MISSING_MONTHS, {"months": months}).all()
    for row in missing:
        _run_ddl(session, _ADD_PARTITION, row.name, start=f"{row.month}+00", end=f"{row.next_month}+00")
    return tuple(row.name for row in missing)


def drop_event_partitions(session: Session, before: datetime) -> tuple[str, ...]:
    """Drop the partitions of the event log whose whole month is before a point in time.

    Takes one round trip, and one more for each partition that is dropped.

    Args:
        session: A session of `Database.session`, with a login that owns `registration_events`.
        before: A datetime with a time zone, not in the future. The partition of its month is kept.

    Returns:
        The names of the dropped partitions, in the order of their months.

    Raises:
        InvalidInput: *before* has no time zone or is in the future; nothing was sent.
        LockTimeout: The table was not free within one second; try again. In an `autocommit` session, the partitions
            that were dropped before stay dropped.
    """
    month = checked_moment("before", before)
    if month > datetime.now(UTC):
        raise InvalidInput("before is in the future: the events of this month are still being written")
    first_kept = f"registration_events_y{month.year:04}m{month.month:02}"
    old = tuple(name for name in event_partitions(session.connection()) if name < first_kept)
    for name in old:
        _run_ddl(session, _DROP_PARTITION, name)
    return old


def event_partitions(connection: Connection) -> tuple[str, ...]:
    """Return the names of the monthly partitions of the event log, in the order of their months.

    Args:
        connection: A connection to the database, of any login.
    """
    return tuple(connection.scalars(_PARTITIONS).all())


def _run_ddl(session: Session, template: sql.SQL, name: str, **literals: str) -> None:
    """Execute *template* as a DO block, with *name* as an identifier and as a literal, and the other *literals*."""
    identifier = sql.Identifier(name)
    texts = {key: sql.Literal(value) for key, value in literals.items()}
    work = template.format(name=identifier, name_literal=sql.Literal(name), **texts)
    execute_verbatim(session.connection(), _WITH_SHORT_LOCK_TIMEOUT.format(work=work))
