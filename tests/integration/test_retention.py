"""`Retention`: what expires, what is purged, what is erased and exported, and the months of the trail."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier, Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import Change, Rows, SignUp, untyped

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    DatabaseSettings,
    ImportRow,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    Retention,
    Status,
    VerificationRepository,
    bulk_import,
    models,
)
from registration_persistence.errors import InvalidEmail, InvalidInput, LockTimeout, RegistrationNotFound
from registration_persistence.models.columns import Base
from registration_persistence.outcomes import Erased, Issued, Registered, TokenUsable, Verified
from registration_persistence.schema.partitions import drop_event_partitions, ensure_event_partitions

TRAIL = "SELECT * FROM registration_events ORDER BY registration_id, seq"
PARTITIONS = (
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
    " WHERE inhparent = 'registration_events'::regclass ORDER BY 1"
)
PAST = datetime(2020, 1, 1, tzinfo=UTC)
# Later than any month that the migrations make, and the next month already where clocks are ahead of UTC.
FAR = datetime(datetime.now(UTC).year + 3, 3, 31, 23, 30, tzinfo=UTC)

Person = Callable[[str, str], Registration]


@pytest.fixture
def retention(database: Database) -> Iterator[Retention]:
    """A `Retention` whose every call commits by itself."""
    with database.session(autocommit=True) as session:
        yield Retention(session)


@pytest.fixture
def unsent_session() -> Session:
    """A session without a server: a statement that is sent on it raises an error that is not ours."""
    return Session()


@pytest.fixture
def unsent(unsent_session: Session) -> Retention:
    """A `Retention` without a server."""
    return Retention(unsent_session)


@pytest.fixture
def person(database: Database, sign_up: SignUp) -> Person:
    """Brings somebody to a status; `overdue` is pending, and its time is over."""

    def bring(email: str, status: str) -> Registration:
        made = sign_up(email, profile={"name": "Lovelace"}, idempotency_key=f"key of {email}")
        person_id = made.registration.id
        with database.session() as session:
            registrations = RegistrationRepository(session)
            verification = VerificationRepository(session)
            if status in ("verified", "active"):
                assert isinstance(verification.verify_by_token(made.token), Verified)
            if status == "active":
                registrations.activate(person_id)
            if status == "cancelled":
                registrations.cancel(person_id)
            if status in ("overdue", "expired"):
                session.execute(text("UPDATE registrations SET expires_at = now() WHERE id = :id"), {"id": person_id})
            if status == "expired":
                assert Retention(session).expire_due() == 1
            if status == "erased":
                PrivacyRepository(session).erase(person_id)
            registration = registrations.get(person_id)
        assert registration is not None
        return registration

    return bring


def partition(month: datetime) -> str:
    """The partition of the trail that *month* should be in."""
    return f"registration_events_y{month:%Y}m{month:%m}"


def test_expires_what_is_overdue(database: Database, person: Person, change: Change, rows: Rows) -> None:
    """Pending and verified registrations whose time is over, each with version, event and message; nobody else."""
    gone = [person("ada@example.com", "pending"), person("bob@example.com", "verified")]
    others = [person(f"{status}@example.com", status) for status in ("active", "cancelled", "erased")]
    change("UPDATE registrations SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")
    others.append(person("eve@example.com", "pending"))
    with database.session() as session:
        assert Retention(session, correlation_id="1-5759e988").expire_due() == 2
        assert Retention(session).expire_due() == 0
        registrations = RegistrationRepository(session)
        expired = [registrations.get(registration.id) for registration in gone]
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
    """One of the methods that work in batches, and how to give it work."""

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
    """Give *sweep* three rows, the first made being the least overdue, and return their ids in that order."""
    for number in range(3):
        sign_up(f"ada{number}@example.com")
    change(
        f"UPDATE {sweep.table} SET {sweep.overdue} FROM ("
        f" SELECT id AS ranked, row_number() OVER (ORDER BY id) * interval '1 h' AS age FROM {sweep.table}"
        ") ages WHERE id = ranked"
    )
    return left_by(sweep, rows)


def left_by(sweep: Sweep, rows: Rows) -> list[UUID]:
    """The ids of what *sweep* has still to do."""
    return [row["id"] for row in rows(f"SELECT id FROM {sweep.table} WHERE {sweep.left} ORDER BY id")]


@SWEEPS
def test_a_sweep_takes_the_longest_overdue_first(
    retention: Retention, sign_up: SignUp, change: Change, rows: Rows, sweep: Sweep
) -> None:
    """As many as it may, and says how many there were."""
    first, _, _ = make_overdue(sweep, sign_up, change, rows)

    assert sweep.call(retention, 2) == 2
    assert [first] == left_by(sweep, rows)
    assert (1, 0) == (sweep.call(retention, 2), sweep.call(retention, 2))
    assert [] == left_by(sweep, rows)


@SWEEPS
def test_a_sweep_waits_for_nobody(
    database: Database, sign_up: SignUp, change: Change, rows: Rows, sweep: Sweep
) -> None:
    """What another transaction has locked is left for the next time."""
    _, second, _ = make_overdue(sweep, sign_up, change, rows)

    with database.session() as other, database.session(autocommit=True) as session:
        other.execute(text(f"SELECT FROM {sweep.table} WHERE id = :id FOR UPDATE"), {"id": second})
        assert sweep.call(Retention(session), 10) == 2

    assert [second] == left_by(sweep, rows)


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, 2.0, "10", None])
def test_a_sweep_has_a_limit(unsent: Retention, limit: Any) -> None:
    """From 1 to 10,000, checked before anything is sent."""
    calls: list[Callable[[], object]] = [
        lambda: unsent.expire_due(limit),
        lambda: unsent.purge_closed(datetime.now(UTC), limit),
        lambda: unsent.purge_tokens(datetime.now(UTC), limit),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="the limit"):
            call()


@pytest.mark.parametrize("before", [datetime(2020, 1, 1), "2020-01-01", None])  # noqa: DTZ001 a time without a zone is the invalid input
def test_a_moment_has_a_time_zone(unsent: Retention, unsent_session: Session, before: Any) -> None:
    """A moment that could mean another one elsewhere is refused before anything is sent."""
    calls: list[Callable[[], object]] = [
        lambda: unsent.purge_closed(before),
        lambda: unsent.purge_tokens(before),
        lambda: drop_event_partitions(unsent_session, before),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="before is not a datetime with a time zone"):
            call()


def test_many_expire_each_registration_once(
    database_settings: DatabaseSettings, database: Database, rows: Rows
) -> None:
    """Four workers share two hundred overdue registrations; none is expired twice, none is left."""
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


def test_purges_what_was_closed_before(retention: Retention, person: Person, change: Change, rows: Rows) -> None:
    """Expired and cancelled registrations go with tokens and consents; their trail stays, and so does everyone else."""
    before = datetime(2021, 1, 1, tzinfo=UTC)
    gone = [person(f"{status}@example.com", status).id for status in ("expired", "cancelled")]
    kept = [person(f"{status}@example.com", status).id for status in ("pending", "verified", "active", "erased")]
    change(
        "UPDATE registrations SET closed_at = '2020-12-31T23:59:59Z', created_at = '2020-01-01Z',"
        " updated_at = '2020-01-01Z' WHERE closed_at IS NOT NULL"
    )
    kept.append(person("bob@example.com", "cancelled").id)
    change(f"UPDATE registrations SET closed_at = '{before}' WHERE id = '{kept[-1]}'")
    trail = rows(TRAIL)

    assert retention.purge_closed(before) == 2

    assert sorted(kept) == [row["id"] for row in rows("SELECT id FROM registrations ORDER BY id")]
    for table in ("verification_tokens", "registration_consents"):
        assert not set(gone) & {row["registration_id"] for row in rows(f"SELECT registration_id FROM {table}")}
    assert sorted(kept) == [row["registration_id"] for row in rows("SELECT * FROM registration_consents ORDER BY 1")]
    assert trail == rows(TRAIL)


def test_purges_tokens_that_are_over(
    database: Database, retention: Retention, sign_up: SignUp, change: Change, rows: Rows
) -> None:
    """Those that were over before the moment, used or not; what can still be used stays, whenever the moment is."""
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


@pytest.mark.parametrize("status", ["pending", "overdue", "verified", "active", "expired", "cancelled"])
def test_erases_the_person(privacy: PrivacyRepository, person: Person, rows: Rows, status: str) -> None:
    """Whatever the status, nothing is left that tells who it was; what was agreed to and done stays."""
    ada, eve = person("ada@example.com", status), person("eve@example.com", "pending")
    consents, trail = rows("SELECT * FROM registration_consents"), rows(TRAIL)

    outcome = privacy.erase(ada.id)

    erased = outcome.registration
    assert outcome.changed
    assert (ada.id, Status.ERASED, ada.version + 1, "erasure", {}) == (
        erased.id,
        erased.status,
        erased.version,
        erased.close_reason,
        erased.profile,
    )
    assert (None, None, None) == (erased.email, erased.email_key, erased.expires_at)
    assert erased.closed_at
    assert erased.closed_at == erased.updated_at
    assert (ada.created_at, ada.verified_at, ada.activated_at) == (
        erased.created_at,
        erased.verified_at,
        erased.activated_at,
    )
    row, other = rows("SELECT * FROM registrations ORDER BY id")
    assert (None, None) == (row["submit_key"], row["submit_digest"])
    assert eve.email == other["email"]
    assert [eve.id] == [token["registration_id"] for token in rows("SELECT * FROM verification_tokens")]
    assert consents == rows("SELECT * FROM registration_consents")
    (event,) = [event for event in rows(TRAIL) if event not in trail]
    assert (ada.id, ada.version + 1, "erased", {}, "system") == (
        event["registration_id"],
        event["seq"],
        event["type"],
        event["data"],
        event["actor"],
    )
    assert [("registration.erased", {"seq": ada.version + 1})] == [
        (message["type"], message["payload"])
        for message in rows("SELECT * FROM outbox")
        if message["event_id"] == event["id"]
    ]
    everything = [row, consents, rows(TRAIL), rows("SELECT * FROM outbox")]
    assert "ada@" not in str(everything)
    assert "Lovelace" not in str(everything)


def test_erasing_again_changes_nothing(privacy: PrivacyRepository, person: Person, rows: Rows) -> None:
    """The repeat succeeds, says that nothing changed, and adds neither event nor message."""
    first = privacy.erase(person("ada@example.com", "active").id)
    trail, outbox = rows(TRAIL), rows("SELECT * FROM outbox")

    assert Erased(first.registration, changed=False) == privacy.erase(first.registration.id)
    assert trail == rows(TRAIL)
    assert outbox == rows("SELECT * FROM outbox")


def test_erasing_frees_mailbox_and_key(database: Database, person: Person) -> None:
    """The same person may come back, with the idempotency key of then and another payload, and prove the mailbox."""
    ada = person("ada@example.com", "active")
    with database.session() as session:
        PrivacyRepository(session).erase(ada.id)
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session)
        again = registrations.register("ada@example.com", idempotency_key="key of ada@example.com")
        assert isinstance(again, Registered)
        assert not again.email_verified_elsewhere
        assert isinstance(verification.verify_by_token(again.token), Verified)


def test_erases_a_token_that_is_issued_meanwhile(database: Database, person: Person, rows: Rows) -> None:
    """An erasure that had to wait for a new token removes that one too."""
    ada = person("ada@example.com", "pending")
    outcomes = []

    def erase() -> None:
        with database.session(autocommit=True) as session:
            outcomes.append(PrivacyRepository(session).erase(ada.id))

    eraser = Thread(target=erase)
    with database.session() as session:
        issued = VerificationRepository(session).issue_token(ada.id, min_gap=timedelta(0))
        assert isinstance(issued, Issued)
        eraser.start()
        while not rows("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"):
            assert eraser.is_alive(), "the erasure did not wait"
    eraser.join()

    assert [True] == [outcome.changed for outcome in outcomes]
    assert [] == rows("SELECT * FROM verification_tokens")


def test_finds_everything_of_a_mailbox(privacy: PrivacyRepository, person: Person, sign_up: SignUp) -> None:
    """Pending, proven and closed registrations in any spelling, oldest first; no erased one, and nobody else's."""
    held = [
        sign_up("ADA@example.com").registration.id,
        person("ada@EXAMPLE.com", "expired").id,
        person("ada@example.COM", "cancelled").id,
        person("Ada@example.com", "verified").id,
        sign_up(" ada@example.com").registration.id,
    ]
    person("aDa@example.com", "erased")
    sign_up("ada@example.org")

    assert tuple(held) == privacy.ids_by_email("\uff21da@Example.com ")
    assert () == privacy.ids_by_email("eve@example.com")


def test_finds_who_is_active(privacy: PrivacyRepository, person: Person) -> None:
    """An active registration is among what is held of a mailbox."""
    assert (person("ada@example.com", "active").id,) == privacy.ids_by_email("ada@example.com")


def test_finds_nothing_of_what_is_no_mailbox(unsent_session: Session) -> None:
    """What cannot be an address is refused before anything is sent."""
    with pytest.raises(InvalidEmail):
        PrivacyRepository(unsent_session).ids_by_email("ada")


# What of each table is not exported: hashes, and the link to the registration that is exported.
EXPORTED: dict[str, tuple[type[Base], set[str]]] = {
    "registration": (models.RegistrationRow, {"submit_key", "submit_digest"}),
    "tokens": (models.VerificationTokenRow, {"registration_id", "secret_hash", "hash_key_id"}),
    "consents": (models.RegistrationConsentRow, {"registration_id"}),
    "events": (models.RegistrationEventRow, {"registration_id"}),
}


def test_exports_everything_that_is_held(
    database: Database, privacy: PrivacyRepository, person: Person, rows: Rows
) -> None:
    """Every column of the person's rows but hashes and links, as JSON, and no row of anybody else."""
    ada, eve = person("ada@example.com", "pending"), person("eve@example.com", "active")
    with database.session() as session:
        issued = VerificationRepository(session, actor="admin:42").issue_token(ada.id, min_gap=timedelta(0))
        assert isinstance(issued, Issued)
        VerificationRepository(session, correlation_id="1-5759e988").verify_by_token(issued.secret)
        ConsentRepository(session).record(ada.id, [Consent("newsletter", "3", granted=False, source="app")])

    held = privacy.export_subject(ada.id)

    assert held == json.loads(json.dumps(held))
    assert EXPORTED.keys() == held.keys()
    for name, (model, left_out) in EXPORTED.items():
        columns = set(model.__table__.columns.keys())
        assert left_out < columns
        owner = "id" if name == "registration" else "registration_id"
        stored = rows(f"SELECT to_jsonb(t) AS row FROM {model.__tablename__} t WHERE {owner} = '{ada.id}'")
        expected = [{column: row["row"][column] for column in columns - left_out} for row in stored]
        exported = [held[name]] if name == "registration" else held[name]
        assert sorted(expected, key=str_of_id) == sorted(exported, key=str_of_id)
    assert (2, 2, 3) == (len(held["tokens"]), len(held["consents"]), len(held["events"]))
    assert [1, 2, 3] == [event["seq"] for event in held["events"]]
    assert str(eve.id) not in json.dumps(held)


def str_of_id(row: dict[str, Any]) -> str:
    """What exported rows are sorted by."""
    return str(row["id"])


def test_exports_what_erasure_has_left(privacy: PrivacyRepository, person: Person) -> None:
    """The trail and the consents, and lists without anything in them where there is nothing."""
    erased = person("ada@example.com", "erased")

    held = privacy.export_subject(erased.id)

    assert ("erased", None, {}) == tuple(held["registration"][name] for name in ("status", "email", "profile"))
    assert ([], ["terms"]) == (held["tokens"], [consent["purpose"] for consent in held["consents"]])
    assert ["registered", "erased"] == [event["type"] for event in held["events"]]
    assert "ada@" not in json.dumps(held)


def test_what_is_not_there_is_neither_erased_nor_exported(
    privacy: PrivacyRepository, sign_up: SignUp, rows: Rows
) -> None:
    """Both name the id that does not exist, and change nothing."""
    sign_up()
    unknown = uuid4()

    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        privacy.erase(unknown)
    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        privacy.export_subject(unknown)

    assert [{"status": "pending"}] == rows("SELECT status FROM registrations")


def test_refuses_an_id_that_is_none(unsent_session: Session) -> None:
    """A string in place of a UUID is refused before anything is sent."""
    with pytest.raises(InvalidInput, match="a str"):
        PrivacyRepository(unsent_session).erase(untyped(str(uuid4())))
    with pytest.raises(InvalidInput, match="a str"):
        PrivacyRepository(unsent_session).export_subject(untyped(str(uuid4())))


def partitions(rows: Rows) -> list[str]:
    """The partitions that the trail has."""
    return [row["name"] for row in rows(PARTITIONS)]


def add_event(occurred_at: datetime) -> str:
    """The statement that adds an event of then to the trail."""
    return (
        "INSERT INTO registration_events (registration_id, seq, occurred_at, id, type, actor)"
        f" VALUES (gen_random_uuid(), 1, '{occurred_at.isoformat()}', gen_random_uuid(), 'registered', 'system')"
    )


def add_partition(month: datetime) -> str:
    """The statement that adds the partition of *month*."""
    after = (month + timedelta(days=31)).replace(day=1)
    return (
        f"CREATE TABLE {partition(month)} PARTITION OF registration_events"
        f" FOR VALUES FROM ('{month.isoformat()}') TO ('{after.isoformat()}')"
    )


def test_makes_the_months_ahead(autocommit_session: Session, rows: Rows) -> None:
    """So many as asked for, in order; what is there stays, and asking again makes nothing."""
    ensure_event_partitions(autocommit_session)
    before = partitions(rows)
    soon = datetime.now(UTC).replace(day=1) + timedelta(days=31 * 13)

    made = ensure_event_partitions(autocommit_session, 14)

    assert (partition(soon), partition(soon.replace(day=1) + timedelta(days=31))) == made
    assert sorted([*before, *made]) == partitions(rows)
    assert () == ensure_event_partitions(autocommit_session, 14)
    assert () == ensure_event_partitions(autocommit_session, 0)


def definition(name: str, rows: Rows) -> list[Any]:
    """What a partition consists of, but for names."""
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


def test_a_partition_is_like_those_of_the_migrations(autocommit_session: Session, rows: Rows) -> None:
    """Columns, constraints and indexes are the same, valid, and attached to those of the table."""
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
    """What came before its partition leaves the default one for it, in this month and in any other, as it was."""
    this_month = partition(datetime.now(UTC))
    change(f"DROP TABLE {this_month}")
    sign_up()
    change(add_event(FAR))
    change(add_event(PAST))
    trail = rows(TRAIL)
    assert len(trail) == len(rows("SELECT FROM registration_events_default"))

    with database.session(autocommit=autocommit) as session:
        made = ensure_event_partitions(session, 0)

    assert (partition(PAST), this_month, partition(FAR)) == made
    assert [] == rows("SELECT FROM registration_events_default")
    assert list(made) == [
        row["partition"]
        for row in rows("SELECT tableoid::regclass::text AS partition FROM registration_events ORDER BY 1")
    ]
    assert trail == rows(TRAIL)


def test_months_are_those_of_utc(database: Database, change: Change, rows: Rows) -> None:
    """Whatever the time zone of the session, where it may be the next month already."""
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


def test_partitions_that_are_rolled_back_leave_nothing(database: Database, change: Change, rows: Rows) -> None:
    """In a transaction they are all or nothing, and the events stay where they were."""
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
def test_gives_up_where_the_trail_is_in_use(
    database_settings: DatabaseSettings,
    change: Change,
    rows: Rows,
    held: str,
    work: Callable[[Session], object],
) -> None:
    """Rather than make every sign-up wait behind it; nothing is changed, nor is the session's own patience."""
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
def test_leaves_the_patience_of_the_session_alone(
    database_settings: DatabaseSettings, change: Change, *, autocommit: bool
) -> None:
    """`lock_timeout` is what it was when partitions have been made and dropped."""
    change(add_partition(PAST))
    database = Database(dataclasses.replace(database_settings, lock_timeout=7))
    with database.session(autocommit=autocommit) as session:
        assert ensure_event_partitions(session, 13)
        assert session.scalar(text("SHOW lock_timeout")) == "7s"
        assert drop_event_partitions(session, datetime.now(UTC))
        assert session.scalar(text("SHOW lock_timeout")) == "7s"
    database.dispose()


@pytest.mark.parametrize("months", [-1, 121, True, 1.0, "12"])
def test_refuses_months_that_are_none(unsent_session: Session, months: Any) -> None:
    """From 0 to ten years, checked before anything is sent."""
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
def test_drops_the_months_before(
    autocommit_session: Session, change: Change, rows: Rows, before: datetime, dropped: int
) -> None:
    """Only whole ones, in UTC, with their events; the month that the moment is in stays, as does the default."""
    old = [datetime(2020, month, 1, tzinfo=UTC) for month in (1, 2, 12)]
    change(";".join(add_partition(month) for month in old))
    change(";".join(add_event(moment) for moment in (datetime(2019, 12, 31, tzinfo=UTC), *old, datetime.now(UTC))))
    names = partitions(rows)
    events = [row["occurred_at"] for row in rows("SELECT * FROM registration_events ORDER BY occurred_at")]

    gone = drop_event_partitions(autocommit_session, before)

    assert tuple(partition(month) for month in old[:dropped]) == gone
    assert [name for name in names if name not in gone] == partitions(rows)
    assert [moment for moment in events if moment not in old[:dropped]] == [
        row["occurred_at"] for row in rows("SELECT * FROM registration_events ORDER BY occurred_at")
    ]


def test_keeps_the_months_to_come(unsent_session: Session) -> None:
    """A moment in the future would take the events of now, and is refused before anything is sent."""
    with pytest.raises(InvalidInput, match="before is in the future"):
        drop_event_partitions(unsent_session, datetime.now(UTC) + timedelta(minutes=1))


def test_several_make_and_drop_partitions_at_once(database_settings: DatabaseSettings) -> None:
    """Whoever is late finds the work done, and nobody fails."""
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


def test_a_sign_up_that_waits_for_a_partition_is_registered(database_settings: DatabaseSettings) -> None:
    """Who signs up while this month's events move is kept waiting, and then registered."""
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
