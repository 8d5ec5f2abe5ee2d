"""Tests of `Retention`: expiring and purging."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import EVENTS, Change, Person, Rows, SignUp

from registration_persistence import (
    Database,
    DatabaseSettings,
    ImportRow,
    RegistrationRepository,
    Retention,
    Status,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.errors import InvalidInput
from registration_persistence.outcomes import TokenUsable


@pytest.fixture
def retention(database: Database) -> Iterator[Retention]:
    """A `Retention` in autocommit."""
    with database.session(autocommit=True) as session:
        yield Retention(session)


@pytest.fixture
def unsent(unsent_session: Session) -> Retention:
    """A `Retention` without a server."""
    return Retention(unsent_session)


def test_expire_due_expires_overdue_registrations(
    database: Database, person: Person, change: Change, rows: Rows
) -> None:
    """Overdue pending and verified registrations get a version, an event and a message; all others stay unchanged."""
    removed = [person("ada@example.com", "pending"), person("bob@example.com", "verified")]
    others = [person(f"{status}@example.com", status) for status in ("active", "cancelled", "erased")]
    change("UPDATE registrations SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")
    others.append(person("eve@example.com", "pending"))
    with database.session() as session:
        assert Retention(session, correlation_id="1-5759e988").expire_due() == 2
        assert Retention(session).expire_due() == 0
        registrations = RegistrationRepository(session)
        expired = [registrations.get(registration.id) for registration in removed]
        assert others == [registrations.get(registration.id) for registration in others]

    assert [(Status.EXPIRED, 2, "ttl", None), (Status.EXPIRED, 3, "ttl", None)] == [
        (r.status, r.version, r.close_reason, r.expires_at) for r in expired if r
    ]
    assert all(r and r.closed_at and r.closed_at == r.updated_at for r in expired)
    events = rows("SELECT * FROM registration_events WHERE type = 'expired' ORDER BY registration_id")
    assert [(r.id, r.version, {}, "system", "1-5759e988") for r in expired if r] == [
        (event["registration_id"], event["seq"], event["data"], event["actor"], event["correlation_id"])
        for event in events
    ]
    messages = rows("SELECT * FROM outbox WHERE type = 'registration.expired' ORDER BY registration_id")
    assert [(event["id"], event["registration_id"], {"seq": event["seq"]}) for event in events] == [
        (message["event_id"], message["registration_id"], message["payload"]) for message in messages
    ]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A method that works in batches, and the SQL that gives it work."""

    call: Callable[[Retention, int], int]
    table: str
    overdue: str
    left: str = "true"


SWEEPS = pytest.mark.parametrize(
    "sweep",
    [
        Sweep(
            lambda retention, limit: retention.expire_due(limit),
            "registrations",
            "expires_at = now() - age",
            "status = 'pending'",
        ),
        Sweep(
            lambda retention, limit: retention.purge_closed(datetime.now(UTC), limit),
            "registrations",
            "status = 'cancelled', close_reason = 'user', expires_at = NULL, closed_at = now() - age",
        ),
        Sweep(
            lambda retention, limit: retention.purge_tokens(datetime.now(UTC), limit),
            "verification_tokens",
            "created_at = now() - interval '1 y', expires_at = now() - age",
        ),
    ],
    ids=["expire_due", "purge_closed", "purge_tokens"],
)


def make_overdue(sweep: Sweep, sign_up: SignUp, change: Change, rows: Rows) -> list[UUID]:
    """Create three rows for *sweep*, the first being the least overdue, and return their ids in that order."""
    for number in range(3):
        sign_up(f"ada{number}@example.com")
    change(
        f"UPDATE {sweep.table} SET {sweep.overdue} FROM ("
        f" SELECT id AS ranked, row_number() OVER (ORDER BY id) * interval '1 h' AS age FROM {sweep.table}"
        ") ages WHERE id = ranked"
    )
    return left_by(sweep, rows)


def left_by(sweep: Sweep, rows: Rows) -> list[UUID]:
    """Return the ids of the rows that *sweep* has not processed yet."""
    return [row["id"] for row in rows(f"SELECT id FROM {sweep.table} WHERE {sweep.left} ORDER BY id")]


@SWEEPS
def test_a_sweep_takes_the_longest_overdue_first(
    retention: Retention, sign_up: SignUp, change: Change, rows: Rows, sweep: Sweep
) -> None:
    """The method processes at most `limit` rows, and returns their number."""
    first, _, _ = make_overdue(sweep, sign_up, change, rows)

    assert sweep.call(retention, 2) == 2
    assert [first] == left_by(sweep, rows)
    assert (1, 0) == (sweep.call(retention, 2), sweep.call(retention, 2))
    assert [] == left_by(sweep, rows)


@SWEEPS
def test_a_sweep_skips_locked_rows(
    database: Database, sign_up: SignUp, change: Change, rows: Rows, sweep: Sweep
) -> None:
    """A row that another transaction has locked is left for the next call."""
    _, second, _ = make_overdue(sweep, sign_up, change, rows)

    with database.session() as other, database.session(autocommit=True) as session:
        other.execute(text(f"SELECT FROM {sweep.table} WHERE id = :id FOR UPDATE"), {"id": second})
        assert sweep.call(Retention(session), 10) == 2

    assert [second] == left_by(sweep, rows)


def test_the_largest_limit_is_accepted(retention: Retention) -> None:
    """Each method accepts 10,000 rows."""
    now = datetime.now(UTC)

    assert [0, 0, 0] == [
        retention.expire_due(10_000),
        retention.purge_closed(now, 10_000),
        retention.purge_tokens(now, 10_000),
    ]


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, 2.0, "10", None])
def test_an_invalid_limit_is_rejected(unsent: Retention, limit: Any) -> None:
    """The limit must be from 1 to 10,000, and is checked before any statement is sent."""
    calls: list[Callable[[], object]] = [
        lambda: unsent.expire_due(limit),
        lambda: unsent.purge_closed(datetime.now(UTC), limit),
        lambda: unsent.purge_tokens(datetime.now(UTC), limit),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="the limit"):
            call()


@pytest.mark.parametrize("before", [datetime(2020, 1, 1), "2020-01-01", None])  # noqa: DTZ001 a time without a zone is the invalid input
def test_a_time_without_a_zone_is_rejected(unsent: Retention, before: Any) -> None:
    """The time is checked before any statement is sent."""
    calls: list[Callable[[], object]] = [lambda: unsent.purge_closed(before), lambda: unsent.purge_tokens(before)]
    for call in calls:
        with pytest.raises(InvalidInput, match="before is not a datetime with a time zone"):
            call()


def test_concurrent_sweeps_expire_each_registration_once(
    database_settings: DatabaseSettings, database: Database, rows: Rows
) -> None:
    """Four workers share two hundred overdue registrations; none is expired twice, and none is left."""
    workers = 4
    with database.session() as session:
        bulk_import(session, [ImportRow(f"ada{number}@example.com", "pending") for number in range(200)])
        session.execute(text("UPDATE registrations SET expires_at = now() - interval '1 s'"))
    wide = Database(dataclasses.replace(database_settings, pool_size=workers))
    barrier = Barrier(workers)

    def work(_number: int) -> int:
        with wide.session(autocommit=True) as session:
            session.connection()
            barrier.wait(20)
            retention, expired = Retention(session), 0
            while number := retention.expire_due(7):
                expired += number
            return expired

    with ThreadPoolExecutor(workers) as threads:
        expired = list(threads.map(work, range(workers)))
    wide.dispose()

    assert sum(expired) == 200
    assert [{"status": "expired", "version": 2, "n": 200}] == rows(
        "SELECT status, version, count(*) AS n FROM registrations GROUP BY status, version"
    )
    assert [{"n": 200, "people": 200, "seq": 2}] == rows(
        "SELECT count(*) AS n, count(DISTINCT registration_id) AS people, min(seq) AS seq"
        " FROM registration_events WHERE type = 'expired'"
    )
    assert [{"n": 200}] == rows(
        "SELECT count(DISTINCT event_id) AS n FROM outbox JOIN registration_events e ON e.id = event_id"
        " AND e.registration_id = outbox.registration_id AND e.type = 'expired'"
    )


def test_purge_closed_deletes_registrations_closed_before_a_time(
    retention: Retention, person: Person, change: Change, rows: Rows
) -> None:
    """Tokens and consents are deleted with the registration; the event log and all other registrations stay."""
    before = datetime(2021, 1, 1, tzinfo=UTC)
    removed = [person(f"{status}@example.com", status).id for status in ("expired", "cancelled")]
    kept = [person(f"{status}@example.com", status).id for status in ("pending", "verified", "active", "erased")]
    change(
        "UPDATE registrations SET closed_at = '2020-12-31T23:59:59Z', created_at = '2020-01-01Z',"
        " updated_at = '2020-01-01Z' WHERE closed_at IS NOT NULL"
    )
    kept.append(person("bob@example.com", "cancelled").id)
    change(f"UPDATE registrations SET closed_at = '{before}' WHERE id = '{kept[-1]}'")
    events = rows(EVENTS)

    assert retention.purge_closed(before) == 2

    assert sorted(kept) == [row["id"] for row in rows("SELECT id FROM registrations ORDER BY id")]
    for table in ("verification_tokens", "registration_consents"):
        assert not set(removed) & {row["registration_id"] for row in rows(f"SELECT registration_id FROM {table}")}
    assert sorted(kept) == [row["registration_id"] for row in rows("SELECT * FROM registration_consents ORDER BY 1")]
    assert events == rows(EVENTS)


def test_purge_tokens_deletes_tokens_expired_before_a_time(
    database: Database, retention: Retention, sign_up: SignUp, change: Change, rows: Rows
) -> None:
    """Used and unused tokens are deleted; a token that can still be used stays, even if the time is in the future."""
    live = sign_up("live@example.com")
    made = {name: sign_up(f"{name}@example.com").registration.id for name in ("unused", "used", "later")}
    for name, over in {"unused": "2020-01-01", "used": "2020-02-01", "later": "2020-03-01"}.items():
        change(
            f"UPDATE verification_tokens SET created_at = '2019-01-01Z', expires_at = '{over}Z',"
            f" used_at = {'now()' if name == 'used' else 'NULL'} WHERE registration_id = '{made[name]}'"
        )

    def left() -> list[UUID]:
        found = rows("SELECT registration_id FROM verification_tokens ORDER BY registration_id")
        return [row["registration_id"] for row in found]

    assert retention.purge_tokens(datetime(2020, 3, 1, tzinfo=UTC)) == 2
    assert [live.registration.id, made["later"]] == left()
    assert retention.purge_tokens(datetime.now(UTC) + timedelta(days=999)) == 1
    assert [live.registration.id] == left()
    with database.session() as session:
        assert isinstance(VerificationRepository(session).peek_token(live.token), TokenUsable)
    assert [{"n": 4}] == rows("SELECT count(*) AS n FROM registrations")
