"""No statement of the package scans a whole table, with generic plans and with custom plans."""

import dataclasses
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar
from uuid import uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session
from support import TABLES

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    DatabaseSettings,
    EventRepository,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.outcomes import Issued, Registered
from registration_persistence.repositories.outbox import OutboxPosition
from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing.plugin import LOGIN

P = ParamSpec("P")
T = TypeVar("T")

# With this number of rows a sequential scan costs more than any index scan.
FILL_TABLES = (
    """
INSERT INTO registrations (id, email, email_key, email_key_rev, status, expires_at, verified_at, activated_at,
                           closed_at, close_reason, submit_key, submit_digest)
SELECT gen_random_uuid(), n || '@example.org', n || '@example.org', 1, status,
       CASE WHEN status IN ('pending', 'verified') THEN now() + (n - 5000) * interval '1 min' END,
       now(), now(), CASE WHEN status IN ('expired', 'cancelled') THEN now() - n * interval '1 min' END,
       CASE WHEN status IN ('expired', 'cancelled') THEN 'user' END, sha256(n::text::bytea), sha256('')
FROM generate_series(1, 100000) AS n,
     LATERAL (SELECT ('{pending,verified,active,expired,cancelled}'::text[])[n % 5 + 1] AS status) AS chosen
""",
    """
INSERT INTO verification_tokens (id, registration_id, purpose, secret_hash, hash_key_id, created_at, expires_at)
SELECT gen_random_uuid(), id, 'verify_email', sha256(id::text::bytea), 0, now() - interval '9 days',
       now() + (random() * 8 - 4) * interval '1 day'
FROM registrations
""",
    """
INSERT INTO registration_consents (registration_id, purpose, id, document_version, granted, source)
SELECT id, 'terms', gen_random_uuid(), '1', true, 'web' FROM registrations
""",
    """
INSERT INTO registration_events (registration_id, seq, id, type, actor)
SELECT id, 1, gen_random_uuid(), 'registered', 'user' FROM registrations
""",
    """
INSERT INTO outbox (event_id, registration_id, type, payload, attempts, available_at, dead_at)
SELECT gen_random_uuid(), id, 'registration.registered', '{"seq": 1}', 1,
       now() + (random() - 0.1) * interval '1 h', CASE WHEN random() < 0.05 THEN now() END
FROM registrations LIMIT 20000
""",
    """
INSERT INTO registrations (id, email, email_key, email_key_rev, status, expires_at)
SELECT gen_random_uuid(), 'crowd@example.org', 'crowd@example.org', 1, 'pending', now() + interval '1 day'
FROM generate_series(1, 20000)
""",
)
# The number of rows in pg_class would be 0 if autovacuum looked at a table while it was filled.
LARGE_TABLE_BYTES = 1_000_000
SCANS = f"""
SELECT relname, seq_scan FROM pg_stat_xact_user_tables
WHERE seq_scan > 0 AND pg_relation_size(relid) > {LARGE_TABLE_BYTES}
"""
FETCHED_ROWS = "SELECT sum(idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname = 'registrations'"
FETCHED_BUFFERS = """
SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class
WHERE relnamespace = CAST('public' AS regnamespace) AND relkind IN ('r', 'i')
"""
MOST_BUFFERS = {"get": 4, "find": 8, "find nobody": 6, "register": 105, "expire": 4500}
METHODS = {"bulk_import"} | {
    getattr(repository, name).__qualname__
    for repository in (
        RegistrationRepository,
        VerificationRepository,
        ConsentRepository,
        EventRepository,
        OutboxRepository,
        Retention,
        PrivacyRepository,
    )
    for name in dir(repository)
    if not name.startswith("_")
}


@pytest.fixture(scope="module")
def crowded(postgres_server: PostgresServer, migrated_template: DatabaseSettings) -> Iterator[DatabaseSettings]:
    """The settings of a database with 100,000 registrations, which the tests only read and roll back."""
    settings = dataclasses.replace(migrated_template, name=f"crowded_{secrets.token_hex(8)}", pool="lambda")
    postgres_server.create_database(settings.name, owner=LOGIN, template=migrated_template.name)
    with postgres_server.connect(settings.name) as connection:  # without time limits
        for statement in FILL_TABLES:
            connection.execute(statement)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")  # which autovacuum would do in the middle of a test, or not at all
    yield settings
    postgres_server.drop_database(settings.name)


class ScanCounter:
    """Makes calls, and counts the sequential scans of large tables by each of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.scanned: dict[str, Counter[str]] = defaultdict(Counter)

    def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make *call*, and count its scans."""
        before = self.scans()
        outcome = call(*args, **kwargs)
        self.scanned[call.__qualname__] += self.scans() - before
        return outcome

    def scans(self) -> Counter[str]:
        """Return the number of sequential scans of each table in this transaction."""
        return Counter({row.relname: row.seq_scan for row in self._session.execute(text(SCANS))})


@pytest.mark.parametrize(
    ("plan", "counter"), [("force_generic_plan", "generic_plans"), ("force_custom_plan", "custom_plans")]
)
def test_no_statement_scans_a_whole_table(crowded: DatabaseSettings, plan: str, counter: str) -> None:
    """With 100,000 registrations, no method of a repository makes PostgreSQL scan a large table."""
    database = Database(crowded)
    event.listen(database.engine, "connect", lambda connection, _: setattr(connection, "prepare_threshold", 0))
    with database.session() as session:
        session.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
        counted_call = ScanCounter(session)
        call_registration_methods(session, counted_call)
        call_outbox_methods(session, counted_call)
        call_maintenance_methods(session, counted_call)
        planned = session.scalar(text(f"SELECT count(*) FROM pg_prepared_statements WHERE {counter} > 0"))
        before = counted_call.scans()
        for table in TABLES:
            session.execute(text(f"SELECT max(ctid) FROM {table}"))
        scanned_tables = counted_call.scans() - before
        session.rollback()
    database.dispose()

    assert METHODS == set(counted_call.scanned)
    assert {} == {method: tables for method, tables in counted_call.scanned.items() if tables}
    assert planned is not None
    assert planned >= 25, "too few statements were prepared"
    assert set(TABLES) == {table.partition("_y")[0] for table in scanned_tables}, "a scan was not noticed"


@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan", "auto"])
def test_a_mailbox_with_many_registrations_slows_nobody(crowded: DatabaseSettings, plan: str) -> None:
    """Beside 20,000 pending registrations of one mailbox, each call reads a few rows, for this mailbox and others."""
    database = Database(crowded)
    event.listen(database.engine, "connect", lambda connection, _: setattr(connection, "prepare_threshold", 0))
    with database.session() as session:
        session.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
        registrations, verification = RegistrationRepository(session), VerificationRepository(session)
        for _ in range(7):  # PostgreSQL chooses between a generic and a custom plan after five executions
            for mailbox in ("crowd@example.org", "77@example.org", "10000@example.org", f"{uuid4()}@example.org"):
                before = session.scalar(text(FETCHED_ROWS))
                found = registrations.find_by_email(mailbox)
                made = registrations.register(mailbox)
                registrations.register(mailbox, max_pending=1)
                registrations.register(mailbox, max_pending=5)
                assert isinstance(made, Registered)
                verification.peek_token(made.token)
                verification.verify_by_token(made.token)
                assert found or "-" in mailbox
                assert session.scalar(text(FETCHED_ROWS)) - before < 40, mailbox
        session.rollback()
    database.dispose()


def test_calls_read_few_buffers(crowded: DatabaseSettings) -> None:
    """With 100,000 registrations, each call reads the levels of the B-trees that it uses, and its rows.

    A tenfold table adds at most one level, so one buffer, to each of them.
    """
    database = Database(crowded)
    with database.session() as session:
        registrations, read = RegistrationRepository(session), {}
        known = registrations.find_by_email("82@example.org")
        assert known is not None
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: registrations.get(known.id),
            "find": lambda: registrations.find_by_email("82@example.org"),
            "find nobody": lambda: registrations.find_by_email("nobody@example.org"),
            "register": lambda: registrations.register(
                "ada@example.net", idempotency_key="key", consents=[Consent("terms", "1"), Consent("newsletter", "1")]
            ),
            "expire": lambda: Retention(session).expire_due(100),
        }
        for name, call in calls.items():
            before = session.scalar(text(FETCHED_BUFFERS))
            call()
            read[name] = session.scalar(text(FETCHED_BUFFERS)) - before
        session.rollback()
    database.dispose()

    assert {} == {name: buffers for name, buffers in read.items() if buffers > MOST_BUFFERS[name]}


def call_registration_methods(session: Session, counted_call: ScanCounter) -> None:
    """Call the methods that services use for registrations."""
    registrations = RegistrationRepository(session)
    verification = VerificationRepository(session, peppers=Peppers({1: bytes(32)}))
    made = counted_call(registrations.register, "ada@example.com", idempotency_key="key")
    assert isinstance(made, Registered)
    ada = made.registration.id
    counted_call(registrations.register, "ada@example.com", idempotency_key="key")
    counted_call(registrations.register, "ada@example.com", max_pending=1)
    counted_call(registrations.register, "crowd@example.org", max_pending=1000)
    counted_call(verification.issue_token, ada)
    issued = counted_call(verification.issue_token, ada, min_gap=timedelta(0))
    assert isinstance(issued, Issued)
    counted_call(verification.peek_token, issued.secret)
    counted_call(verification.verify_by_token, issued.secret)
    counted_call(verification.verify_by_token, issued.secret)
    other = counted_call(registrations.register, "eve@example.com", consents=[Consent("terms", "1")])
    eve = other.registration.id
    code = counted_call(verification.issue_code, eve, min_gap=timedelta(0))
    assert isinstance(code, Issued)
    counted_call(verification.verify_by_code, eve, "nonsense")
    counted_call(verification.verify_by_code, eve, code.secret)
    counted_call(verification.verify_by_code, eve, code.secret)
    counted_call(registrations.find_by_email, "77@example.org")
    counted_call(registrations.find_by_email, "nobody@example.org")
    counted_call(registrations.get, ada)
    counted_call(registrations.update_profile, ada, {"name": "Ada"})
    counted_call(registrations.activate, ada)
    counted_call(registrations.cancel, eve)
    page = counted_call(registrations.list_page, limit=100)
    counted_call(registrations.list_page, after=page.next_cursor, limit=100, status="active")
    consents = ConsentRepository(session)
    counted_call(consents.record, ada, [Consent("terms", "2"), Consent("newsletter", "1", granted=False)])
    counted_call(consents.current, ada)
    counted_call(consents.history, ada)
    events = counted_call(EventRepository(session).list_events, ada, limit=2)
    counted_call(EventRepository(session).list_events, ada, after=events[-1].seq)


def call_outbox_methods(session: Session, counted_call: ScanCounter) -> None:
    """Call the methods that the worker and an operator use."""
    outbox = OutboxRepository(session)
    counted_call(outbox.claim_from, OutboxPosition(datetime.now(UTC), uuid4()), 1)
    delivered, failed, hopeless, *left = counted_call(outbox.claim, 20)
    counted_call(outbox.ack, [delivered])
    counted_call(outbox.claim_from, OutboxPosition(), 1, delivered=[delivered])
    counted_call(outbox.retry, failed, "smtp:421", timedelta(minutes=1))
    counted_call(outbox.bury, hopeless, "smtp:550")
    counted_call(outbox.release, left)
    dead = counted_call(outbox.dead)
    counted_call(outbox.revive, [message.event_id for message in dead])


def call_maintenance_methods(session: Session, counted_call: ScanCounter) -> None:
    """Call the methods that sweep, import, export and erase."""
    retention, privacy, now = Retention(session), PrivacyRepository(session), datetime.now(UTC)
    people = [ImportRow(f"{number}@example.net", consents=(Consent("terms", "1"),)) for number in range(1000)]
    counted_call(bulk_import, session, people, announce=True)
    (ada,) = counted_call(privacy.ids_by_email, "0@example.net")
    counted_call(privacy.export_subject, ada)
    counted_call(privacy.erase, ada)
    assert counted_call(retention.expire_due) == 1000
    assert counted_call(retention.purge_closed, now) == 1000
    assert counted_call(retention.purge_tokens, now) == 1000
