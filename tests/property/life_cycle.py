"""A model of a registration's life: random steps by every method, roll-backs and clock jumps on a real PostgreSQL.

After each step the whole database is read. What was rolled back must have left no trace; what was kept must be what the
state before allowed; and the thirteen invariants of the domain must hold.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    EventRepository,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    Registration,
    RegistrationPersistenceError,
    RegistrationRepository,
    Retention,
    Status,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.status import MOVES, CancelReason
from registration_persistence.domain.tokens import hash_token
from registration_persistence.errors import IdempotencyConflict, IllegalTransition, StaleVersion
from registration_persistence.outcomes import (
    AlreadyVerified,
    Cancelled,
    EmailTaken,
    ImportReport,
    Issued,
    LockedOut,
    NotPending,
    OutboxMessage,
    Registered,
    Replayed,
    Throttled,
    TokenExpired,
    TokenUnknown,
    TokenUsable,
    Verified,
    WrongCode,
)
from registration_persistence.schema.partitions import drop_event_partitions, ensure_event_partitions

T = TypeVar("T")
Row = Mapping[str, Any]

CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.shift AS SELECT interval '0' AS amount;
CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
  AS 'SELECT pg_catalog.statement_timestamp() + amount FROM clock.shift';
DO $$
DECLARE
  moment record;
BEGIN
  FOR moment IN SELECT attrelid::regclass AS relation, attname FROM pg_attrdef
                JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
                WHERE pg_get_expr(adbin, adrelid) = 'statement_timestamp()'
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT clock.statement_timestamp()',
                   moment.relation, moment.attname);
  END LOOP;
  EXECUTE format('ALTER DATABASE %I SET search_path = clock, pg_catalog, public', current_database());
END $$
"""
"""Puts a clock that can be set in front of the server's."""

MAILBOXES = ("ada@example.com", "Ada@Example.COM", "bob@example.com", "jürgen@bücher.example", "eve@example.org")
TABLES: Mapping[str, tuple[str, ...]] = {
    "registrations": ("id",),
    "verification_tokens": ("id",),
    "registration_consents": ("id",),
    "registration_events": ("registration_id", "seq"),
    "outbox": ("event_id",),
}
PEPPERS = Peppers({1: b"1" * 32, 2: b"2" * 32})
OLDER_PEPPERS = Peppers({1: b"1" * 32})
MAX_ATTEMPTS = 3
MOVES_OF_STATUS = {(source, move.target) for move in MOVES.values() for source in move.sources}
STATUS_AFTER = {event: move.target for event, move in MOVES.items()} | {"registered": Status.PENDING}
OPEN = (Status.PENDING, Status.VERIFIED)
CLOSED = (Status.EXPIRED, Status.CANCELLED, Status.ERASED)
UNTOUCHED = ("tokens_issued", "token_issued_at")

modes = st.sampled_from(["alone", "in a transaction", "alone", "in a transaction", "rolled back"])
spans = st.sampled_from(
    [timedelta(days=40), timedelta(days=40), timedelta(days=2), timedelta(hours=3), timedelta(minutes=2)]
)
versions = st.sampled_from([None, "current", "stale"])
nexts = st.sampled_from(["nothing", "the link", "a code", "another link"])
newest_first = st.integers(0, 4)


@dataclass(frozen=True, slots=True)
class World:
    """Everything that the database holds, by table and key."""

    now: datetime
    tables: Mapping[str, Mapping[Any, Row]]

    def __getattr__(self, table: str) -> Mapping[Any, Row]:
        return self.tables[table]

    def status(self, registration_id: UUID) -> Status:
        """The status of a registration, which is expired when its time is over."""
        row = self.registrations[registration_id]
        over = row["expires_at"] is not None and row["expires_at"] <= self.now
        return Status.EXPIRED if over else Status(row["status"])

    def is_proven(self, key: str | None) -> bool:
        """Whether a registration holds the mailbox *key*."""
        return any(
            row["email_key"] == key and self.status(identity) in (Status.VERIFIED, Status.ACTIVE)
            for identity, row in self.registrations.items()
        )

    def of(self, table: str, registration_id: UUID) -> list[Row]:
        """The rows of *table* that belong to a registration."""
        return [row for row in self.tables[table].values() if row["registration_id"] == registration_id]


class LifeCycle(RuleBasedStateMachine):
    """The rules; `database` is set by the test that runs them."""

    database: ClassVar[Database]
    steps: ClassVar[Counter[str]] = Counter()

    @initialize(people=st.lists(st.tuples(st.sampled_from(MAILBOXES), nexts), min_size=3, max_size=5))
    def begin(self, people: list[tuple[str, str]]) -> None:
        """Start with empty tables, the right time, and some people."""
        with self.database.engine.begin() as connection:
            for table in TABLES:
                connection.execute(text(f"DELETE FROM {table}"))
            connection.execute(text("UPDATE clock.shift SET amount = interval '0'"))
        self.secrets: list[str] = []
        self.codes: dict[UUID, list[str]] = defaultdict(list)
        self.submitted: dict[str, tuple[Any, UUID]] = {}
        self.acknowledged: set[UUID] = set()
        self.claimed: dict[UUID, OutboxMessage] = {}
        self.world = self.look()
        for email, then in people:
            self.register("alone", email, then, None, "Ada", timedelta(days=40), timedelta(days=2))

    def look(self) -> World:
        """Read the database."""
        with self.database.engine.connect() as connection:
            now = connection.scalar(text("SELECT statement_timestamp()"))
            assert now is not None
            return World(now, {table: rows(connection, table, key) for table, key in TABLES.items()})

    def do(self, mode: str, call: Callable[[Session], T]) -> tuple[T | RegistrationPersistenceError, World, bool]:
        """Make *call*, check what it did, and return its outcome, the world before, and whether it was kept."""
        before = self.world
        outcome: T | RegistrationPersistenceError
        try:
            with self.database.session(autocommit=mode == "alone") as session:
                outcome = call(session)
                if mode == "rolled back":
                    session.rollback()
        except RegistrationPersistenceError as error:
            outcome = error
        self.steps[type(outcome).__name__] += 1
        kept = mode != "rolled back" and not isinstance(outcome, Exception)
        self.world = self.look()
        if kept:
            assert_step_is_legal(before, self.world)
        else:
            assert before.tables == self.world.tables, "what was not kept left a trace"
        return outcome, before, kept

    def pick(self, number: int) -> UUID:
        """One of the registrations, counted from the newest."""
        known: list[UUID] = sorted(self.world.registrations, reverse=True)
        return known[number % len(known)]

    def version(self, registration_id: UUID, which: str | None) -> int | None:
        """The version that a caller would pass."""
        current: int = self.world.registrations[registration_id]["version"]
        return None if which is None else current if which == "current" else current + 1

    def somebody(self) -> bool:
        """Whether there is a registration."""
        return bool(self.world.registrations)

    # The rules

    @rule(
        mode=modes,
        email=st.sampled_from(MAILBOXES),
        then=nexts,
        key=st.sampled_from([None, None, "a", "b", "c"]),
        name=st.sampled_from(["Ada", "Eve"]),
        ttl=spans,
        token_ttl=spans,
    )
    def register(  # noqa: PLR0917 what a person may send
        self, mode: str, email: str, then: str, key: str | None, name: str, ttl: timedelta, token_ttl: timedelta
    ) -> None:
        """Sign up, perhaps with a key that was used before, and perhaps go on at once."""
        outcome, before, kept = self.do(
            mode,
            lambda session: RegistrationRepository(session).register(
                email,
                profile={"name": name},
                consents=[Consent("terms", "1")],
                idempotency_key=key,
                ttl=ttl,
                token_ttl=token_ttl,
            ),
        )
        if key in self.submitted:
            payload, identity = self.submitted[key]
            assert type(outcome) is (Replayed if payload == (email, name) else IdempotencyConflict)
            if isinstance(outcome, Replayed):
                assert identity == outcome.registration.id
                assert before.tables == self.world.tables
            return
        assert isinstance(outcome, Registered)
        assert before.is_proven(normalise_email(email).key) == outcome.email_verified_elsewhere
        self.secrets.append(outcome.token)
        if kept:
            assert [1, 1, 1, 1] == [len(self.world.of(table, outcome.registration.id)) for table in list(TABLES)[1:]]
            if key:
                self.submitted[key] = ((email, name), outcome.registration.id)
            if then == "the link":
                self.follow_link("alone", 0, ttl)
            if then == "another link":
                self.issue("alone", 0, False, timedelta(0), 2, token_ttl, PEPPERS)  # noqa: FBT003 as it is drawn
                self.issue("alone", 0, False, timedelta(0), 2, token_ttl, PEPPERS)  # noqa: FBT003 as it is drawn
                self.follow_link("alone", 1, ttl)
            if then == "a code":
                self.issue("alone", 0, True, timedelta(0), 50, token_ttl, PEPPERS)  # noqa: FBT003 as it is drawn
                self.type_code("alone", 0, "wrong", ttl)
                self.type_code("in a transaction", 0, "newest", ttl)

    @precondition(somebody)
    @rule(
        mode=modes,
        who=newest_first,
        code=st.booleans(),
        gap=st.sampled_from([timedelta(0), timedelta(0), timedelta(minutes=1)]),
        most=st.sampled_from([2, 4, 50]),
        ttl=spans,
        peppers=st.sampled_from([PEPPERS, OLDER_PEPPERS]),
    )
    def issue(  # noqa: PLR0917 what a service may choose
        self,
        mode: str,
        who: int,
        code: bool,  # noqa: FBT001 drawn
        gap: timedelta,
        most: int,
        ttl: timedelta,
        peppers: Peppers,
    ) -> None:
        """Ask for another token, or for a code."""
        identity = self.pick(who)

        def call(session: Session) -> Issued | Throttled | NotPending:
            verification = VerificationRepository(session, peppers=peppers)
            method = verification.issue_code if code else verification.issue_token
            return method(identity, min_gap=gap, max_issued=most, ttl=ttl)

        outcome, before, kept = self.do(mode, call)
        row = before.registrations[identity]
        due = row["token_issued_at"] and row["token_issued_at"] + gap
        if before.status(identity) != Status.PENDING:
            assert NotPending(before.status(identity)) == outcome
        elif row["tokens_issued"] >= most:
            assert Throttled(None) == outcome
        elif gap and due and due > before.now:
            assert Throttled(due) == outcome
        else:
            assert isinstance(outcome, Issued)
            if code and kept:
                self.codes[identity].append(outcome.secret)
            if not code:
                self.secrets.append(outcome.secret)

    @precondition(lambda self: self.secrets)
    @rule(mode=modes, which=newest_first, ttl=spans)
    def follow_link(self, mode: str, which: int, ttl: timedelta) -> None:
        """Open a link that was given out at some time, perhaps by a sign-up that was rolled back."""
        secret = self.secrets[-1 - which % len(self.secrets)]
        peeked, before, _ = self.do("alone", lambda session: VerificationRepository(session).peek_token(secret))
        assert before.tables == self.world.tables
        outcome, before, kept = self.do(
            mode, lambda session: VerificationRepository(session).verify_by_token(secret, ttl=ttl)
        )
        token = next((t for t in before.verification_tokens.values() if t["secret_hash"] == hash_token(secret)), None)
        assert expected_of_link(before, token) is type(outcome)
        assert type(peeked) is (TokenUsable if isinstance(outcome, Verified) else type(outcome))
        if kept and isinstance(outcome, Verified):
            assert Status.VERIFIED == outcome.registration.status

    @precondition(somebody)
    @rule(mode=modes, who=newest_first, which=st.sampled_from(["newest", "oldest", "wrong"]), ttl=spans)
    def type_code(self, mode: str, who: int, which: str, ttl: timedelta) -> None:
        """Type a code: the newest, the oldest, or a wrong one."""
        identity = self.pick(who)
        known = self.codes[identity]
        wrong = next(code for code in ("000000", "111111", "222222") if code not in known[-2:])
        code = wrong if which == "wrong" or not known else known[-1] if which == "newest" else known[0]
        outcome, before, kept = self.do(
            mode,
            lambda session: VerificationRepository(session, peppers=PEPPERS).verify_by_code(
                identity, code, max_attempts=MAX_ATTEMPTS, ttl=ttl
            ),
        )
        expected = expected_of_code(before, identity, code)
        assert expected == (outcome if isinstance(outcome, WrongCode) else type(outcome))
        if kept and isinstance(outcome, WrongCode):
            attempts = [t["attempts"] for t in self.world.of("verification_tokens", identity) if not t["replaced_at"]]
            assert MAX_ATTEMPTS - outcome.left in attempts, "the attempt is counted"

    @precondition(somebody)
    @rule(mode=modes, who=newest_first, which=versions)
    def activate(self, mode: str, who: int, which: str | None) -> None:
        """Activate, perhaps with a version that is not the newest."""
        identity = self.pick(who)
        version = self.version(identity, which)
        outcome, before, _ = self.do(
            mode, lambda session: RegistrationRepository(session).activate(identity, expected_version=version)
        )
        allowed = before.status(identity) == Status.VERIFIED
        assert type(outcome) is (StaleVersion if which == "stale" else Registration if allowed else IllegalTransition)

    @precondition(somebody)
    @rule(mode=modes, who=newest_first, which=versions, reason=st.sampled_from(["user", "admin", "superseded"]))
    def cancel(self, mode: str, who: int, which: str | None, reason: CancelReason) -> None:
        """Cancel."""
        identity = self.pick(who)
        version = self.version(identity, which)
        outcome, before, _ = self.do(
            mode, lambda session: RegistrationRepository(session).cancel(identity, reason, expected_version=version)
        )
        status = before.registrations[identity]["status"]
        if status == Status.CANCELLED:
            assert isinstance(outcome, Cancelled)
            assert not outcome.changed
        else:
            assert type(outcome) is (
                StaleVersion if which == "stale" else Cancelled if status in OPEN else IllegalTransition
            )

    @precondition(somebody)
    @rule(
        mode=modes,
        who=newest_first,
        which=versions,
        patch=st.dictionaries(st.sampled_from(["name", "city"]), st.sampled_from(["Ada", "Eve", None])),
    )
    def update_profile(self, mode: str, who: int, which: str | None, patch: dict[str, Any]) -> None:
        """Change the profile, perhaps to what it is."""
        identity = self.pick(who)
        version = self.version(identity, which)
        outcome, before, kept = self.do(
            mode,
            lambda session: RegistrationRepository(session).update_profile(identity, patch, expected_version=version),
        )
        closed = before.status(identity) in CLOSED
        assert type(outcome) is (StaleVersion if which == "stale" else IllegalTransition if closed else Registration)
        if isinstance(outcome, Registration):
            profile = before.registrations[identity]["profile"]
            wanted = {name: value for name, value in {**profile, **patch}.items() if value is not None}
            assert wanted == outcome.profile
            if kept:
                bumped = self.world.registrations[identity]["version"] - before.registrations[identity]["version"]
                assert bumped == (wanted != profile)

    @precondition(somebody)
    @rule(
        mode=modes,
        who=newest_first,
        decisions=st.dictionaries(st.sampled_from(["terms", "news"]), st.booleans(), min_size=1),
    )
    def record_consents(self, mode: str, who: int, decisions: dict[str, bool]) -> None:
        """Give or withdraw consents."""
        identity = self.pick(who)
        given = [Consent(purpose, "2", granted=granted) for purpose, granted in decisions.items()]
        outcome, before, kept = self.do(mode, lambda session: ConsentRepository(session).record(identity, given))
        erased = before.registrations[identity]["status"] == Status.ERASED
        assert type(outcome) is (IllegalTransition if erased else Registration)
        if kept:
            with self.database.session() as session:
                current = {c.purpose: c.granted for c in ConsentRepository(session).current(identity)}
            assert decisions.items() <= current.items()

    @precondition(somebody)
    @rule(mode=modes, limit=st.integers(1, 3))
    def expire(self, mode: str, limit: int) -> None:
        """Let the sweep come by."""
        outcome, before, _ = self.do(mode, lambda session: Retention(session).expire_due(limit))
        overdue = [
            row for row in before.registrations.values() if row["expires_at"] and row["expires_at"] <= before.now
        ]
        assert min(limit, len(overdue)) == outcome

    @precondition(somebody)
    @rule(mode=modes, age=spans, limit=st.integers(1, 3))
    def purge(self, mode: str, age: timedelta, limit: int) -> None:
        """Throw away what was closed, and tokens that were over, some time ago."""
        limit_of_age = self.world.now - age
        outcome, before, _ = self.do(mode, lambda session: Retention(session).purge_closed(limit_of_age, limit))
        closed = [
            row
            for row in before.registrations.values()
            if row["status"] in (Status.EXPIRED, Status.CANCELLED) and row["closed_at"] < limit_of_age
        ]
        assert min(limit, len(closed)) == outcome
        self.forget_what_is_gone()
        outcome, before, _ = self.do(mode, lambda session: Retention(session).purge_tokens(limit_of_age, limit))
        over = [t for t in before.verification_tokens.values() if t["expires_at"] < limit_of_age]
        assert min(limit, len(over)) == outcome
        self.do(mode, lambda session: ensure_event_partitions(session, limit))
        # Always taken back, because the trail would have gaps.
        self.do("rolled back", lambda session: drop_event_partitions(session, datetime.now(UTC)))

    @precondition(somebody)
    @rule(mode=modes, who=newest_first)
    def erase(self, mode: str, who: int) -> None:
        """Erase a person."""
        identity = self.pick(who)
        outcome, before, kept = self.do(mode, lambda session: PrivacyRepository(session).erase(identity))
        assert not isinstance(outcome, RegistrationPersistenceError)
        assert outcome.changed == (before.registrations[identity]["status"] != Status.ERASED)
        assert Status.ERASED == outcome.registration.status
        if kept:
            assert [] == self.world.of("verification_tokens", identity)
            self.forget_what_is_gone()

    @rule(
        mode=modes,
        emails=st.lists(st.sampled_from([*MAILBOXES, "new@example.org", "nobody"]), min_size=1, max_size=3),
        status=st.sampled_from(["pending", "verified", "active"]),
        announce=st.booleans(),
    )
    def bring_in(self, mode: str, emails: list[str], status: str, announce: bool) -> None:  # noqa: FBT001 drawn
        """Import people who registered elsewhere."""
        outcome, before, kept = self.do(
            mode,
            lambda session: bulk_import(session, [ImportRow(email, status) for email in emails], announce=announce),
        )
        assert isinstance(outcome, ImportReport)
        keys = [normalise_email(email).key for email in emails if "@" in email]
        # The index sees a holder whose time is over until the sweep has come by.
        held = {row["email_key"] for row in before.registrations.values() if row["status"] in ("verified", "active")}
        expected = len(keys) if status == "pending" else len(set(keys) - held)
        assert (expected, len(keys) - expected, len(emails) - len(keys)) == (
            outcome.inserted,
            outcome.duplicates,
            outcome.rejected,
        )
        if kept and not announce:
            new = set(self.world.registrations) - set(before.registrations)
            self.acknowledged |= {
                row["id"] for row in self.world.registration_events.values() if row["registration_id"] in new
            }

    @precondition(somebody)
    @rule(
        mode=modes,
        which=newest_first,
        what=st.sampled_from(["claim", "ack", "retry", "bury", "revive", "claim", "release"]),
        span=spans,
    )
    def work_the_outbox(self, mode: str, which: int, what: str, span: timedelta) -> None:
        """Lease messages, or say what became of one that was claimed at some time, perhaps long ago."""
        if what == "claim" or not self.claimed:
            self.claim(mode, which + 1, span)
        else:
            self.settle(mode, which, what, span)

    def claim(self, mode: str, limit: int, lease: timedelta) -> None:
        """Lease messages."""
        outcome, before, kept = self.do(mode, lambda session: OutboxRepository(session).claim(limit, lease))
        assert isinstance(outcome, tuple)
        due = {m["event_id"] for m in before.outbox.values() if not m["dead_at"] and m["available_at"] <= before.now}
        assert {message.event_id for message in outcome} <= due
        assert min(limit, len(due)) == len(outcome)
        if kept:
            self.claimed |= {message.event_id: message for message in outcome}

    def settle(self, mode: str, which: int, what: str, delay: timedelta) -> None:
        """Say what became of a message."""
        message = sorted(self.claimed.values(), key=lambda m: m.event_id)[which % len(self.claimed)]
        calls: dict[str, Callable[[OutboxRepository], int]] = {
            "ack": lambda outbox: outbox.ack([message]),
            "retry": lambda outbox: outbox.retry(message, "smtp:421", delay),
            "bury": lambda outbox: outbox.bury(message, "smtp:550"),
            "release": lambda outbox: outbox.release([message]),
            "revive": lambda outbox: outbox.revive([message.event_id]),
        }
        outcome, before, kept = self.do(mode, lambda session: calls[what](OutboxRepository(session)))
        row = before.outbox.get(message.event_id)
        claim = (message.attempts, message.available_at, None)
        ours = row is not None and claim == (row["attempts"], row["available_at"], row["dead_at"])
        revivable = row is not None and row["dead_at"] is not None
        assert {"ack": row is not None, "revive": revivable}.get(what, ours) == outcome
        if kept and what == "ack":
            self.acknowledged.add(message.event_id)

    @precondition(somebody)
    @rule(
        by=st.sampled_from([timedelta(minutes=-5), timedelta(days=-1), timedelta(minutes=2), *[timedelta(days=3)] * 2])
    )
    def jump(self, by: timedelta) -> None:
        """Set the server's clock."""
        with self.database.engine.begin() as connection:
            connection.execute(text("UPDATE clock.shift SET amount = amount + :by"), {"by": by})
        self.steps["jump"] += 1
        self.world = self.look()

    # What must hold

    @invariant()
    def the_world_is_whole(self) -> None:
        """The thirteen invariants, as far as they can be seen in what is stored."""
        world = self.world
        for identity, row in world.registrations.items():
            assert_registration_is_whole(world, identity, row)
        proven = Counter(
            row["email_key"] for row in world.registrations.values() if row["status"] in ("verified", "active")
        )
        assert all(number == 1 for number in proven.values()), "two registrations have proven one mailbox"
        messages = {row["id"] for row in world.registration_events.values()} - self.acknowledged
        assert messages == set(world.outbox), "each event has one message, until it was delivered"
        assert_erased_are_forgotten(world)

    @rule()
    def read(self) -> None:
        """What the methods return is what is stored: pages, look-ups, trails, consents and exports."""
        world = self.world
        with self.database.session() as session:
            registrations = RegistrationRepository(session)
            listed, page = [], registrations.list_page(limit=2)
            while True:
                listed += [item.id for item in page.items]
                if page.next_cursor is None:
                    break
                page = registrations.list_page(limit=2, after=page.next_cursor)
            assert sorted(world.registrations) == listed
            for email in MAILBOXES[1:4]:
                assert_found(world, email, registrations.find_by_email(email))
            for identity in listed[:1]:
                trail = EventRepository(session).list_events(identity)
                assert [row["seq"] for row in sorted_events(world, identity)] == [event.seq for event in trail]
                history = ConsentRepository(session).history(identity)
                current = ConsentRepository(session).current(identity)
                assert {record.purpose: record for record in history} == {record.purpose: record for record in current}
                held = PrivacyRepository(session).export_subject(identity)
                assert len(trail) == len(held["events"])
                assert registrations.get(identity) is not None

    def forget_what_is_gone(self) -> None:
        """Keys and codes of registrations that were erased or purged mean nothing any more."""
        here = {i for i, row in self.world.registrations.items() if row["status"] != Status.ERASED}
        self.submitted = {key: made for key, made in self.submitted.items() if made[1] in here}


def rows(connection: Connection, table: str, key: tuple[str, ...]) -> dict[Any, Row]:
    """The rows of *table* by their key."""
    found = connection.execute(text(f"SELECT * FROM {table}")).mappings()
    return {(row[key[0]] if len(key) == 1 else tuple(row[name] for name in key)): dict(row) for row in found}


def sorted_events(world: World, registration_id: UUID) -> list[Row]:
    """The trail of a registration."""
    return sorted(world.of("registration_events", registration_id), key=lambda row: row["seq"])


def live(world: World, token: Row) -> bool:
    """Whether a token can still be used."""
    return not token["used_at"] and not token["replaced_at"] and bool(token["expires_at"] > world.now)


def expected_of_link(world: World, token: Row | None) -> type:
    """What the link with this token must come to."""
    if token is None:
        return TokenUnknown
    identity = token["registration_id"]
    status = world.status(identity)
    if status in (Status.VERIFIED, Status.ACTIVE):
        return AlreadyVerified
    if status == Status.PENDING and world.is_proven(world.registrations[identity]["email_key"]):
        return EmailTaken
    return Verified if status == Status.PENDING and live(world, token) else TokenExpired


def expected_of_code(world: World, identity: UUID, code: str) -> object:
    """What *code* must come to."""
    status = world.status(identity)
    if status == Status.ERASED:
        return TokenUnknown
    judgeable = [
        token
        for token in world.of("verification_tokens", identity)
        if token["hash_key_id"] and not token["replaced_at"] and (token["used_at"] or token["expires_at"] > world.now)
    ]
    assert len(judgeable) <= 1
    if status in CLOSED or not judgeable:
        return TokenExpired
    (token,) = judgeable
    if token["attempts"] >= MAX_ATTEMPTS:
        return LockedOut
    if PEPPERS.hashes(identity, code)[token["hash_key_id"]] != token["secret_hash"]:
        return WrongCode(MAX_ATTEMPTS - token["attempts"] - 1)
    if status != Status.PENDING:
        return AlreadyVerified
    return EmailTaken if world.is_proven(world.registrations[identity]["email_key"]) else Verified


def assert_found(world: World, email: str, found: Registration | None) -> None:
    """*found* holds the mailbox, or is the newest that may come to."""
    key = normalise_email(email).key
    of_mailbox = [identity for identity, row in world.registrations.items() if row["email_key"] == key]
    holders = [i for i in of_mailbox if world.status(i) in (Status.VERIFIED, Status.ACTIVE)]
    pending = sorted(i for i in of_mailbox if world.status(i) == Status.PENDING)
    assert (holders or pending[-1:] or [None])[0] == (found.id if found else None)


def assert_registration_is_whole(world: World, identity: UUID, row: Row) -> None:
    """Version, trail, status, times, tokens and consents of a registration agree."""
    trail = sorted_events(world, identity)
    assert list(range(1, row["version"] + 1)) == [event["seq"] for event in trail]
    status = None
    for event in trail:
        status = event["data"]["status"] if event["type"] == "imported" else STATUS_AFTER.get(event["type"], status)
    assert status == row["status"], "the trail tells another status"
    assert (row["status"] in OPEN) == (row["expires_at"] is not None)
    assert (row["status"] in CLOSED) == (row["closed_at"] is not None)
    tokens = world.of("verification_tokens", identity)
    assert sum(not token["replaced_at"] for token in tokens) <= 1
    for token in tokens:
        assert token["attempts"] <= MAX_ATTEMPTS
        if token["used_at"]:
            assert "verified" in [event["type"] for event in trail]
            assert not token["replaced_at"]
            assert token["used_at"] < token["expires_at"]
    for consent in world.of("registration_consents", identity):
        assert trail[consent["seq"] - 1]["type"] in ("registered", "imported", "consents_recorded")


def assert_erased_are_forgotten(world: World) -> None:
    """No address is anywhere in the database of which no registration is left that holds it."""
    kept = {row["email_key"] for row in world.registrations.values()}
    stored = repr([list(table.values()) for table in world.tables.values()]).casefold()
    for email in MAILBOXES:
        if normalise_email(email).key not in kept:
            assert email.casefold() not in stored


def assert_step_is_legal(before: World, after: World) -> None:
    """What changed from one moment to the next is what may change."""
    for identity in {*before.registrations, *after.registrations}:
        was, is_now = before.registrations.get(identity), after.registrations.get(identity)
        new = [key for key in after.registration_events if key[0] == identity and key not in before.registration_events]
        if was is None:
            assert is_now is not None
            assert [(identity, 1)] == new
        elif is_now is None:
            assert was["status"] in (Status.EXPIRED, Status.CANCELLED), "only what is closed is purged"
        else:
            assert set(new) == {(identity, seq) for seq in range(was["version"] + 1, is_now["version"] + 1)}
            if was["status"] != is_now["status"]:
                assert (was["status"], is_now["status"]) in MOVES_OF_STATUS
            if not new:
                assert without(was, UNTOUCHED) == without(is_now, UNTOUCHED)
    assert before.registration_events.items() <= after.registration_events.items(), "the trail is only added to"
    for identity, token in before.verification_tokens.items():
        assert_token_moves_once(before, after, token, after.verification_tokens.get(identity))
    for identity, consent in before.registration_consents.items():
        gone = consent["registration_id"] not in after.registrations
        assert gone or after.registration_consents[identity] == consent, "consents are only added to"


def assert_token_moves_once(before: World, after: World, was: Row, is_now: Row | None) -> None:
    """A token is used or replaced once, and thrown away only when it is over or its registration is gone."""
    if is_now is None:
        registration = after.registrations.get(was["registration_id"])
        gone = registration is None or registration["status"] == Status.ERASED
        assert gone or was["expires_at"] < before.now + timedelta(seconds=10)
        return
    if was["used_at"] or was["replaced_at"]:
        assert without(was, ("attempts",)) == without(is_now, ("attempts",))
    else:
        assert without(was, ("attempts", "used_at", "replaced_at")) == without(
            is_now, ("attempts", "used_at", "replaced_at")
        )
    assert was["attempts"] <= is_now["attempts"] <= was["attempts"] + 1


def without(row: Row, names: tuple[str, ...]) -> Row:
    """*row* but for some of its columns."""
    return {name: value for name, value in row.items() if name not in names}
