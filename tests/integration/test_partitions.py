"""Tests of `schema.partitions`: the monthly partitions of the event log."""

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from support import EVENTS, Change, Rows, SignUp

from registration_persistence import Database, DatabaseSettings, RegistrationRepository
from registration_persistence.errors import InvalidInput, LockTimeout
from registration_persistence.schema.partitions import drop_event_partitions, ensure_event_partitions

PARTITIONS = (
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
    " WHERE inhparent = 'registration_events'::regclass ORDER BY 1"
)
PAST = datetime(2020, 1, 1, tzinfo=UTC)
# Later than any partition of the migrations. In time zones ahead of UTC it is already in the next month.
FAR = datetime(datetime.now(UTC).year + 3, 3, 31, 23, 30, tzinfo=UTC)


def partition(month: datetime) -> str:
    """Return the name of the partition of the event log for *month*."""
    return f"registration_events_y{month:%Y}m{month:%m}"


def partitions(rows: Rows) -> list[str]:
    """Return the names of the partitions of the event log."""
    return [row["name"] for row in rows(PARTITIONS)]


def add_event(occurred_at: datetime) -> str:
    """Return the statement that adds an event at *occurred_at* to the event log."""
    return (
        "INSERT INTO registration_events (registration_id, seq, occurred_at, id, type, actor)"
        f" VALUES (gen_random_uuid(), 1, '{occurred_at.isoformat()}', gen_random_uuid(), 'registered', 'system')"
    )


def add_partition(month: datetime) -> str:
    """Return the statement that creates the partition of *month*."""
    after = (month + timedelta(days=31)).replace(day=1)
    return (
        f"CREATE TABLE {partition(month)} PARTITION OF registration_events"
        f" FOR VALUES FROM ('{month.isoformat()}') TO ('{after.isoformat()}')"
    )


def test_creates_the_months_ahead(autocommit_session: Session, rows: Rows) -> None:
    """The given number of months is created in order; existing partitions stay, and a second call creates none."""
    ensure_event_partitions(autocommit_session)
    before = partitions(rows)
    soon = datetime.now(UTC).replace(day=1) + timedelta(days=31 * 13)

    made = ensure_event_partitions(autocommit_session, 14)

    assert (partition(soon), partition(soon.replace(day=1) + timedelta(days=31))) == made
    assert sorted([*before, *made]) == partitions(rows)
    assert () == ensure_event_partitions(autocommit_session, 14)
    assert () == ensure_event_partitions(autocommit_session, 0)


def definition(name: str, rows: Rows) -> list[Any]:
    """Return the definition of a partition without its name."""
    return [
        rows(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attcollation, attstorage::text,"
            " pg_get_expr(adbin, adrelid)"
            " FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)"
            f" WHERE attrelid = '{name}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname"
        ),
        rows(
            "SELECT contype::text, pg_get_constraintdef(oid) AS definition, convalidated, coninhcount"
            f" FROM pg_constraint WHERE conrelid = '{name}'::regclass ORDER BY 1, 2"
        ),
        rows(
            f"SELECT replace(pg_get_indexdef(indexrelid), '{name}', '') AS definition, indisvalid,"
            " inhparent::regclass::text AS parent FROM pg_index LEFT JOIN pg_inherits ON inhrelid = indexrelid"
            f" WHERE indrelid = '{name}'::regclass ORDER BY 1"
        ),
        rows(
            "SELECT relkind::text, relispartition, relowner, reloptions, inhparent::regclass::text AS parent"
            f" FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE oid = '{name}'::regclass"
        ),
    ]


def test_a_partition_equals_those_of_the_migrations(autocommit_session: Session, rows: Rows) -> None:
    """Columns, constraints and indexes are equal, valid, and attached to those of the table."""
    migrated = partition(datetime.now(UTC).replace(day=1) + timedelta(days=31))
    *_, made = ensure_event_partitions(autocommit_session, 13)

    expected = definition(migrated, rows)

    assert all(expected)
    assert {("pk_registration_events", True), ("ix_registration_events_occurred_at", True)} == {
        (index["parent"], index["indisvalid"]) for index in expected[2]
    }
    assert expected == definition(made, rows)


@pytest.mark.parametrize("autocommit", [True, False])
def test_events_move_to_their_month(
    database: Database, sign_up: SignUp, change: Change, rows: Rows, *, autocommit: bool
) -> None:
    """Events in the default partition move unchanged to the new partition of their month."""
    this_month = partition(datetime.now(UTC))
    change(f"DROP TABLE {this_month}")
    sign_up()
    change(add_event(FAR))
    change(add_event(PAST))
    events = rows(EVENTS)
    assert len(events) == len(rows("SELECT FROM registration_events_default"))

    with database.session(autocommit=autocommit) as session:
        made = ensure_event_partitions(session, 0)

    assert (partition(PAST), this_month, partition(FAR)) == made
    assert [] == rows("SELECT FROM registration_events_default")
    assert list(made) == [
        row["partition"]
        for row in rows("SELECT tableoid::regclass::text AS partition FROM registration_events ORDER BY 1")
    ]
    assert events == rows(EVENTS)


def test_months_are_in_utc(database: Database, change: Change, rows: Rows) -> None:
    """The time zone of the session, in which the next month may have started, does not matter."""
    change(add_event(FAR))
    change(add_event(FAR + timedelta(minutes=30)))
    with database.session() as session:
        session.execute(text("SET LOCAL TIME ZONE 'Pacific/Kiritimati'"))
        assert (partition(FAR), partition(FAR + timedelta(hours=1))) == ensure_event_partitions(session)

    assert [(FAR, partition(FAR)), (FAR + timedelta(minutes=30), partition(FAR + timedelta(hours=1)))] == [
        (row["occurred_at"], row["partition"])
        for row in rows(
            "SELECT occurred_at, tableoid::regclass::text AS partition FROM registration_events ORDER BY occurred_at"
        )
    ]


def test_a_rollback_removes_the_new_partitions(database: Database, change: Change, rows: Rows) -> None:
    """The events stay in the default partition."""
    change(add_event(FAR))
    before = partitions(rows)

    with pytest.raises(RuntimeError, match="no"), database.session() as session:
        assert partition(FAR) in ensure_event_partitions(session, 20)
        raise RuntimeError("no")

    assert before == partitions(rows)
    assert [FAR] == [row["occurred_at"] for row in rows("SELECT * FROM registration_events_default")]


@pytest.mark.parametrize(
    ("held", "work"),
    [
        ("registration_events_default", lambda session: ensure_event_partitions(session, 13)),
        (partition(PAST), lambda session: drop_event_partitions(session, datetime.now(UTC))),
    ],
    ids=["ensure", "drop"],
)
def test_a_locked_event_log_raises_lock_timeout(
    database_settings: DatabaseSettings,
    change: Change,
    rows: Rows,
    held: str,
    work: Callable[[Session], object],
) -> None:
    """A longer wait would queue every sign-up behind it; neither partitions nor the session's `lock_timeout` change."""
    change(add_partition(PAST))
    before = partitions(rows)
    database = Database(dataclasses.replace(database_settings, lock_timeout=0))

    with database.session() as other, database.session(autocommit=True) as session:
        other.execute(text(f"LOCK TABLE {held} IN ACCESS SHARE MODE"))
        with pytest.raises(LockTimeout):
            work(session)
        assert session.scalar(text("SHOW lock_timeout")) == "0"

    database.dispose()
    assert before == partitions(rows)


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_lock_timeout_of_the_session_is_restored(
    database_settings: DatabaseSettings, change: Change, *, autocommit: bool
) -> None:
    """`lock_timeout` has its old value after partitions are created and dropped."""
    change(add_partition(PAST))
    database = Database(dataclasses.replace(database_settings, lock_timeout=7))
    with database.session(autocommit=autocommit) as session:
        assert ensure_event_partitions(session, 13)
        assert session.scalar(text("SHOW lock_timeout")) == "7s"
        assert drop_event_partitions(session, datetime.now(UTC))
        assert session.scalar(text("SHOW lock_timeout")) == "7s"
    database.dispose()


@pytest.mark.parametrize("months", [-1, 121, True, 1.0, "12"])
def test_an_invalid_number_of_months_is_rejected(unsent_session: Session, months: Any) -> None:
    """The number must be from 0 to 120, and is checked before any statement is sent."""
    with pytest.raises(InvalidInput, match="months"):
        ensure_event_partitions(unsent_session, months)


@pytest.mark.parametrize(
    ("before", "dropped"),
    [
        (datetime(999, 1, 1, tzinfo=UTC), 0),
        (datetime(2020, 1, 31, tzinfo=UTC), 0),
        (datetime(2020, 2, 1, tzinfo=UTC), 1),
        (datetime(2020, 2, 29, 23, 59, 59, tzinfo=UTC), 1),
        (datetime(2020, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), 1),
        (datetime(2020, 1, 31, 23, 30, tzinfo=timezone(-timedelta(hours=1))), 1),
        (datetime(2020, 3, 1, tzinfo=UTC), 2),
        (datetime(2021, 1, 1, tzinfo=UTC), 3),
    ],
)
def test_drops_the_months_before_a_time(
    autocommit_session: Session, change: Change, rows: Rows, before: datetime, dropped: int
) -> None:
    """Only whole months in UTC are dropped, with their events; the month of the time and the default partition stay."""
    old = [datetime(2020, month, 1, tzinfo=UTC) for month in (1, 2, 12)]
    change(";".join(add_partition(month) for month in old))
    change(";".join(add_event(moment) for moment in (datetime(2019, 12, 31, tzinfo=UTC), *old, datetime.now(UTC))))
    names = partitions(rows)
    events = [row["occurred_at"] for row in rows("SELECT * FROM registration_events ORDER BY occurred_at")]

    removed = drop_event_partitions(autocommit_session, before)

    assert tuple(partition(month) for month in old[:dropped]) == removed
    assert [name for name in names if name not in removed] == partitions(rows)
    assert [moment for moment in events if moment not in old[:dropped]] == [
        row["occurred_at"] for row in rows("SELECT * FROM registration_events ORDER BY occurred_at")
    ]


@pytest.mark.parametrize("before", [datetime(2020, 1, 1), "2020-01-01", None])  # noqa: DTZ001 a time without a zone is the invalid input
def test_a_time_without_a_zone_drops_nothing(unsent_session: Session, before: Any) -> None:
    """The time is checked before any statement is sent."""
    with pytest.raises(InvalidInput, match="before is not a datetime with a time zone"):
        drop_event_partitions(unsent_session, before)


def test_a_time_in_the_future_is_rejected(unsent_session: Session) -> None:
    """It would drop current events, and is checked before any statement is sent."""
    with pytest.raises(InvalidInput, match="before is in the future"):
        drop_event_partitions(unsent_session, datetime.now(UTC) + timedelta(minutes=1))


def test_concurrent_calls_create_and_drop_partitions(database_settings: DatabaseSettings) -> None:
    """A call that comes later finds the work done, and no call fails."""
    wide = Database(dataclasses.replace(database_settings, pool_size=5))
    barrier = Barrier(4)

    def work(number: int) -> None:
        with wide.session(autocommit=True) as session:
            session.execute(text("SELECT 1"))
            barrier.wait(20)
            ensure_event_partitions(session, 14 + number)
            barrier.wait(20)
            drop_event_partitions(session, datetime.now(UTC))

    for number in range(3):
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, [number] * 4))
    with wide.session() as session:
        made = session.scalars(text("SELECT inhrelid::regclass::text FROM pg_inherits")).all()
        owners = "SELECT DISTINCT relowner FROM pg_class WHERE relname LIKE 'registration_events%'"
        assert len(session.scalars(text(owners)).all()) == 1
    wide.dispose()
    assert len({name for name in made if "_y" in name and "idx" not in name and "key" not in name}) == 17


def test_a_sign_up_waits_for_a_new_partition(database_settings: DatabaseSettings) -> None:
    """A sign-up during the move of this month's events waits, and is then stored."""
    wide = Database(dataclasses.replace(database_settings, pool_size=5))
    with wide.session() as session:
        now = session.scalar(text("SELECT now()"))
        assert now is not None
        this_month = f"registration_events_{now.astimezone(UTC):y%Ym%m}"
        session.execute(text(f"DROP TABLE {this_month}"))

    def sign_up(number: int) -> None:
        with wide.session(autocommit=True) as session:
            RegistrationRepository(session).register(f"ada{number}@example.com")

    with ThreadPoolExecutor(4) as threads, wide.session() as session:
        sign_up(0)
        (made,) = ensure_event_partitions(session, 0)
        waiting = [threads.submit(sign_up, number) for number in range(1, 4)]
        time.sleep(0.2)
        session.commit()
        for one in waiting:
            one.result(timeout=20)
    with wide.session() as session:
        assert made == this_month
        assert session.scalar(text(f"SELECT count(*) FROM {this_month}")) == 4
    wide.dispose()


def test_a_name_is_never_executed(database: Database, change: Change, rows: Rows) -> None:
    """A table that somebody attached under another name is no partition of a month, whatever its name contains."""
    name = 'x"; DROP TABLE outbox; --_y2020m01'
    quoted = '"' + name.replace('"', '""') + '"'
    change(f"CREATE TABLE {quoted} PARTITION OF registration_events FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z')")
    before = partitions(rows)

    with database.session(autocommit=True) as session:
        assert drop_event_partitions(session, PAST + timedelta(days=366)) == ()
        assert ensure_event_partitions(session) == ()

    assert before == partitions(rows)
    assert rows("SELECT to_regclass('outbox') IS NOT NULL AS kept") == [{"kept": True}]


def test_events_move_although_a_later_check_refuses_them(
    autocommit_session: Session, change: Change, rows: Rows
) -> None:
    """An event that is older than a CHECK moves to the partition of its month, where the CHECK is NOT VALID too."""
    check = "CONSTRAINT ck_registration_events_correlation_id"
    definition = "CHECK (correlation_id ~ '^[A-Za-z0-9_.:/-]{1,64}$') NOT VALID"
    change(f"ALTER TABLE registration_events DROP {check}")
    change(add_event(FAR).replace("actor)", "actor, correlation_id)").replace("'system')", "'system', 'of a time')"))
    change(f"ALTER TABLE registration_events ADD {check} {definition}")
    events = rows(EVENTS)

    assert ensure_event_partitions(autocommit_session, 0) == (partition(FAR),)

    assert events == rows(f"SELECT * FROM {partition(FAR)}")
    with pytest.raises(IntegrityError, match="ck_registration_events_correlation_id"):
        change(add_event(FAR).replace("actor)", "actor, correlation_id)").replace("'system')", "'system', 'a b')"))
