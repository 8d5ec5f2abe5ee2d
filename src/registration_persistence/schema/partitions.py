"""The monthly partitions of the event log: making them ahead of time, and dropping old ones."""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence.domain.validation import checked_moment, checked_number
from registration_persistence.errors import InvalidInput

_MOST_MONTHS = 120

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


def ensure_event_partitions(session: Session, months: int = 12) -> tuple[str, ...]:
    """Make the partitions of the trail for this month and so many *months* ahead; return those that are new.

    Events that came before their partition are in the default one, and move. One round trip, and one for each
    partition that is made. The login must own the table.

    Args:
        session: A session of `Database.session`, of a login that owns the table.
        months: 0 to 120.

    Raises:
        InvalidInput: Nothing was sent.
        LockTimeout: The table was not free within a second: try again. In `autocommit`, what was made is kept.
    """
    checked_number("months", months, 0, _MOST_MONTHS)
    missing = session.execute(_MISSING_MONTHS, {"months": months}).all()
    for row in missing:
        _run_ddl(session, _ADD_PARTITION.format(name=row.name, start=f"{row.month}+00", end=f"{row.next_month}+00"))
    return tuple(row.name for row in missing)


def drop_event_partitions(session: Session, before: datetime) -> tuple[str, ...]:
    """Drop the partitions of the trail that hold nothing but events *before*; return which.

    One round trip, and one for each partition. The login must own the table.

    Args:
        session: A session of `Database.session`, of a login that owns the table.
        before: With a time zone and not in the future; the month that it is in stays.

    Raises:
        InvalidInput: Nothing was sent.
        LockTimeout: As for `ensure_event_partitions`.
    """
    month = checked_moment("before", before)
    if month > datetime.now(UTC):
        raise InvalidInput("before is in the future: the events of this month are still being written")
    first_to_stay = f"registration_events_y{month.year:04}m{month.month:02}"
    names = session.scalars(_PARTITIONS).all()
    old = tuple(name for name in names if name < first_to_stay)
    for name in old:
        _run_ddl(session, f"DROP TABLE IF EXISTS {name};")
    return old


def _run_ddl(session: Session, ddl: str) -> None:
    session.execute(text(_PATIENTLY.format(work=ddl).replace(":", r"\:")))
