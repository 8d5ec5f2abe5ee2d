"""Tests of `bulk_import`: the stored rows, the skipped rows, and how the stream is read."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy.orm import Session
from support import TERMS, Rows, SignUp, sent_statements, untyped

from registration_persistence import (
    Consent,
    Database,
    ImportRow,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    Status,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.errors import InvalidInput
from registration_persistence.outcomes import ImportReport, Issued, Verified
from registration_persistence.repositories.bulk_import import DUPLICATE

EVERYTHING = (
    "SELECT (SELECT jsonb_agg(r ORDER BY id) FROM registrations r) AS registrations,"
    " (SELECT jsonb_agg(c ORDER BY id) FROM registration_consents c) AS consents,"
    " (SELECT jsonb_agg(e ORDER BY id) FROM registration_events e) AS events,"
    " (SELECT jsonb_agg(o ORDER BY event_id) FROM outbox o) AS outbox"
)
LONG_AGO = datetime(2019, 5, 4, 3, 2, 1, tzinfo=timezone(timedelta(hours=2)))

Load = Callable[..., ImportReport]


@pytest.fixture
def load(database: Database) -> Load:
    """Import rows in autocommit, so that each batch commits by itself."""

    def run(*rows: ImportRow, **arguments: Any) -> ImportReport:
        with database.session(autocommit=True) as session:
            return bulk_import(session, rows, **arguments)

    return run


@pytest.fixture
def statements(database: Database) -> Iterator[list[str]]:
    """The statements that the engine has sent to the server."""
    with sent_statements(database) as sent:
        yield sent


def people(number: int) -> list[ImportRow]:
    """Return *number* rows of active people."""
    return [ImportRow(f"ada{n}@example.com") for n in range(number)]


def test_each_row_is_reported(load: Load, rows: Rows) -> None:
    """The report has the counts and the reasons, the callback gets the row numbers; neither contains a mailbox."""
    skipped: list[tuple[int, str]] = []
    report = load(
        ImportRow("ada@example.com"),
        ImportRow("nobody at home"),
        ImportRow("ADA@example.com"),
        ImportRow("eve@example.com", "erased"),
        ImportRow("bob@example.com"),
        ImportRow("nobody here"),
        on_skipped=lambda number, reason: skipped.append((number, reason)),
    )

    assert (2, 1, 3) == (report.inserted, report.duplicates, report.rejected)
    email, status = report.reasons
    assert {email: 2, status: 1} == report.reasons
    assert [(2, email), (3, DUPLICATE), (4, status), (6, email)] == sorted(skipped)
    assert "invisible" in email
    assert "expected one of pending, verified, active" in status
    assert ["ada@example.com", "bob@example.com"] == [
        row["email"] for row in rows("SELECT email FROM registrations ORDER BY id")
    ]


@pytest.mark.parametrize("registered_at", [None, LONG_AGO])
@pytest.mark.parametrize("status", ["pending", Status.VERIFIED, "active"])
def test_stores_each_status_with_its_times(
    database: Database, load: Load, rows: Rows, status: str, registered_at: datetime | None
) -> None:
    """The time of the sign-up counts as time of verification and activation; open registrations expire from now on."""
    ttl = timedelta(days=3)
    before, after = _around(
        rows, lambda: load(ImportRow(" Ada@Example.com", status, {"name": "Ada"}, registered_at=registered_at), ttl=ttl)
    )

    with database.session() as session:
        (stored,) = RegistrationRepository(session).list_page().items
    assert (status, 1, "Ada@Example.com", "ada@example.com", {"name": "Ada"}) == (
        stored.status,
        stored.version,
        stored.email,
        stored.email_key,
        stored.profile,
    )
    assert registered_at in (None, stored.created_at)
    if registered_at is None:
        assert before <= stored.created_at <= after
    assert (None if status == "pending" else stored.created_at) == stored.verified_at
    assert (stored.created_at if status == "active" else None) == stored.activated_at
    assert (status == "active") == (stored.expires_at is None)
    if stored.expires_at:
        assert before <= stored.expires_at - ttl <= after
    assert (None, None) == (stored.closed_at, stored.close_reason)


def _around(rows: Rows, work: Callable[[], object]) -> tuple[datetime, datetime]:
    """Call *work*, and return the server's clock before and after it."""
    clock = "SELECT clock_timestamp() AS now"
    before = rows(clock)[0]["now"]
    work()
    return before, rows(clock)[0]["now"]


def test_stores_consents_and_an_event(load: Load, rows: Rows) -> None:
    """Consents have the time of the sign-up; the event has the current time and no personal data; there is no token."""
    consents = (TERMS, Consent("newsletter", "3", granted=False, source="app"))
    before, after = _around(
        rows,
        lambda: load(
            ImportRow("ada@example.com", "pending", consents=consents, registered_at=LONG_AGO),
            ImportRow("eve@example.com"),
            actor="admin:42",
            correlation_id="1-5759e988",
        ),
    )

    ada, eve = (row["id"] for row in rows("SELECT id FROM registrations ORDER BY id"))
    assert [
        (ada, "newsletter", "3", False, "app", LONG_AGO, 1),
        (ada, "terms", TERMS.document_version, True, "web", LONG_AGO, 1),
    ] == [
        tuple(row.values())
        for row in rows(
            "SELECT registration_id, purpose, document_version, granted, source, recorded_at, seq"
            " FROM registration_consents ORDER BY purpose"
        )
    ]
    events = rows("SELECT * FROM registration_events ORDER BY registration_id")
    assert [
        (ada, 1, "imported", {"status": "pending", "consents": ["terms", "newsletter"]}),
        (eve, 1, "imported", {"status": "active", "consents": []}),
    ] == [(row["registration_id"], row["seq"], row["type"], row["data"]) for row in events]
    assert {("admin:42", "1-5759e988")} == {(row["actor"], row["correlation_id"]) for row in events}
    assert all(before <= row["occurred_at"] <= after for row in events)
    assert [] == rows("SELECT * FROM verification_tokens")


def test_consents_without_a_sign_up_time_are_dated_now(load: Load, rows: Rows) -> None:
    """If the row has no time of sign-up, its consents are as old as the registration."""
    load(ImportRow("ada@example.com", consents=(TERMS,)))

    assert rows("SELECT created_at AS at FROM registrations") == rows(
        "SELECT recorded_at AS at FROM registration_consents"
    )


@pytest.mark.parametrize("announce", [True, False])
def test_messages_are_stored_on_request(load: Load, rows: Rows, *, announce: bool) -> None:
    """With `announce=True` each stored row has one message with the id of its event; by default no row has one."""
    load(*people(2), ImportRow("ada0@example.com"), **({"announce": True} if announce else {}))

    announced = rows("SELECT event_id, registration_id, type, payload FROM outbox ORDER BY event_id")
    expected = rows(
        "SELECT id AS event_id, registration_id, 'registration.imported' AS type, '{\"seq\": 1}'::jsonb AS payload"
        " FROM registration_events ORDER BY id"
    )
    assert len(expected) == 2
    assert (expected if announce else []) == announced


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ImportRow("ada"), "the e-mail address is not valid"),
        (ImportRow(untyped(None)), "the e-mail address is of type NoneType"),
        (ImportRow("ada@example.com", "expired"), "the status cannot be imported"),
        (ImportRow("ada@example.com", Status.CANCELLED), "the status cannot be imported"),
        (ImportRow("ada@example.com", "erased"), "the status cannot be imported"),
        (ImportRow("ada@example.com", "Active"), "the status cannot be imported"),
        (ImportRow("ada@example.com", untyped(None)), "the status cannot be imported"),
        (ImportRow("ada@example.com", profile={"name": "A\0"}), "the profile contains NUL"),
        (ImportRow("ada@example.com", profile={"name": "x" * 8192}), "the profile takes 8204 bytes"),
        (ImportRow("ada@example.com", profile=untyped([])), "the profile is a list"),
        (ImportRow("ada@example.com", consents=(TERMS, TERMS)), "two consents have the same purpose"),
        (ImportRow("ada@example.com", consents=(Consent("Terms", "1"),)), "the purpose of a consent"),
        (ImportRow("ada@example.com", idempotency_key=""), "the idempotency key"),
        (ImportRow("ada@example.com", idempotency_key="x" * 256), "the idempotency key"),
        (ImportRow("ada@example.com", registered_at=datetime(2019, 5, 4)), "registered_at is not a datetime with"),  # noqa: DTZ001 it has no zone
        (
            ImportRow("ada@example.com", registered_at=datetime(1899, 12, 31, tzinfo=UTC)),
            "registered_at is before 1900",
        ),
        (
            ImportRow("ada@example.com", registered_at=datetime(9999, 1, 1, tzinfo=UTC)),
            "registered_at is in the future",
        ),
        ({"email": "ada@example.com"}, "the row is a dict"),
        ("ada@example.com", "the row is a str"),
        (None, "the row is a NoneType"),
    ],
)
def test_an_invalid_row_is_rejected(row: Any, reason: str) -> None:
    """The row is counted under a reason that does not quote it, and none of its values is sent."""
    skipped = []
    report = bulk_import(Session(), [row], on_skipped=lambda *arguments: skipped.append(arguments))

    assert (0, 0, 1) == (report.inserted, report.duplicates, report.rejected)
    ((given, count),) = report.reasons.items()
    assert given.startswith(reason)
    assert count == 1
    assert [(1, given)] == skipped
    assert "ada" not in given


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_skips_duplicates_of_the_stream(load: Load, rows: Rows, batch: int) -> None:
    """Duplicates of a verified mailbox, in any spelling, or of a key are skipped, in one batch or across batches."""
    skipped: list[int] = []
    report = load(
        ImportRow("ada@example.com"),
        ImportRow(" ADA@Example.COM", "verified"),
        ImportRow("eve@example.com", "pending", idempotency_key="key"),
        ImportRow("fay@example.com", idempotency_key="key"),
        ImportRow("ada@example.com", "pending"),
        ImportRow("ada@example.com", "pending"),
        batch=batch,
        on_skipped=lambda number, reason: skipped.append(number) if reason == DUPLICATE else None,
    )

    assert ImportReport(inserted=4, duplicates=2, rejected=0, reasons={}) == report
    assert [2, 4] == skipped
    assert [("ada@example.com", "active"), ("eve@example.com", "pending"), *[("ada@example.com", "pending")] * 2] == [
        (row["email"], row["status"]) for row in rows("SELECT * FROM registrations ORDER BY id")
    ]


def test_skips_existing_registrations(
    registrations: RegistrationRepository, verified: Registration, sign_up: SignUp, load: Load
) -> None:
    """A verified mailbox and a used key stay unchanged; a pending registration of the mailbox does not matter."""
    keyed = sign_up("eve@example.com", idempotency_key="key").registration
    sign_up("bob@example.com")

    report = load(
        ImportRow("\uff21da@EXAMPLE.com"),
        ImportRow("fay@example.com", idempotency_key="key"),
        ImportRow("bob@example.com"),
    )

    assert (1, 2) == (report.inserted, report.duplicates)
    assert verified == registrations.get(verified.id)
    assert keyed == registrations.get(keyed.id)


@pytest.mark.parametrize("end", ["cancel", "erase"])
def test_imports_a_mailbox_of_closed_registrations(
    database: Database, verified: Registration, load: Load, end: str
) -> None:
    """Closed registrations of a mailbox do not prevent its import."""
    with database.session() as session:
        if end == "cancel":
            RegistrationRepository(session).cancel(verified.id)
        else:
            PrivacyRepository(session).erase(verified.id)

    assert load(ImportRow("ada@example.com")).inserted == 1


def test_importing_again_stores_nothing(load: Load, rows: Rows) -> None:
    """Active rows are recognised by mailbox, pending rows by key; nothing is changed, and no message is stored."""
    file = [
        *people(3),
        *(ImportRow("eve@example.com", "pending", consents=(TERMS,), idempotency_key=f"key {n}") for n in range(2)),
    ]
    first = load(*file, announce=True)
    before = rows(EVERYTHING)

    second = load(*file, announce=True)

    assert (5, 0) == (first.inserted, first.duplicates)
    assert (0, 5) == (second.inserted, second.duplicates)
    assert before == rows(EVERYTHING)


def test_an_import_in_a_transaction_is_atomic(database: Database, rows: Rows) -> None:
    """A rollback removes the rows of all batches."""
    before = rows(EVERYTHING)

    with pytest.raises(RuntimeError, match="no"), database.session() as session:
        assert bulk_import(session, people(5), announce=True, batch=2).inserted == 5
        raise RuntimeError("no")

    assert before == rows(EVERYTHING)


@pytest.mark.parametrize(("autocommit", "kept"), [(True, 1000), (False, 0)])
def test_a_stream_that_raises(database: Database, rows: Rows, *, autocommit: bool, kept: int) -> None:
    """In autocommit the completed batches are kept and a second import continues; in a transaction nothing is kept."""

    def broken() -> Iterator[ImportRow]:
        yield from people(1500)
        raise OSError("the file ends here")

    with pytest.raises(OSError, match="ends here"), database.session(autocommit=autocommit) as session:
        bulk_import(session, broken(), batch=1000)

    assert [{"n": kept}] == rows("SELECT count(*) AS n FROM registrations")
    assert [{"n": kept}] == rows("SELECT count(*) AS n FROM registration_events")
    with database.session(autocommit=autocommit) as session:
        report = bulk_import(session, people(1500))
    assert (1500 - kept, kept) == (report.inserted, report.duplicates)


def test_the_stream_is_read_lazily(database: Database, statements: list[str]) -> None:
    """At most one batch is read ahead; each batch is one statement, and an empty stream sends none."""

    def stream() -> Iterator[ImportRow]:
        for number, row in enumerate(people(10)):
            assert number // 4 == len(statements)
            yield row

    with database.session(autocommit=True) as session:
        assert bulk_import(session, stream(), batch=4).inserted == 10
        assert len(statements) == 3
        assert bulk_import(session, []).inserted == 0
        assert len(statements) == 3


def test_imported_registrations_can_be_used(
    database: Database, registrations: RegistrationRepository, verification: VerificationRepository, load: Load
) -> None:
    """A pending one can be verified, a verified one activated, and an active one erased."""
    load(
        ImportRow("ada@example.com", "pending"),
        ImportRow("eve@example.com", "verified"),
        ImportRow("bob@example.com", "active"),
    )
    ada, eve, bob = registrations.list_page().items

    issued = verification.issue_token(ada.id)
    assert isinstance(issued, Issued)
    assert isinstance(verification.verify_by_token(issued.secret), Verified)
    for registration in (ada, eve):
        assert registrations.activate(registration.id).status == Status.ACTIVE
    with database.session() as session:
        assert PrivacyRepository(session).erase(bob.id).changed


def test_any_utc_offset_is_accepted(database: Database, rows: Rows) -> None:
    """An offset that Python accepts and PostgreSQL rejects is stored as the same point in time."""
    odd = datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=16, microseconds=1)))
    with database.session() as session:
        assert bulk_import(session, [ImportRow("ada@example.com", registered_at=odd)]).inserted == 1

    assert [{"created_at": odd}] == rows("SELECT created_at FROM registrations")


def test_texts_with_special_characters_are_stored_unchanged(load: Load, rows: Rows) -> None:
    """Also those that mean something in the text of an array, and the word NULL."""
    texts = [
        "",
        " ",
        ",",
        "{",
        "}",
        '"',
        "\\",
        "'",
        "\n",
        "\t",
        "NULL",
        "null",
        '\\"',
        '","',
        "{}",
        "\\N",
        "\u2028",
        "😀",
    ]
    consent = Consent("null", "NULL", granted=False, source="Null")
    people = [
        ImportRow(f"{{null{number}}}'@example.com", profile={text: text, "all": texts}, consents=(consent,))
        for number, text in enumerate(texts)
    ]

    assert load(*people, ImportRow("null@example.com", "pending", idempotency_key='{"\\')).inserted == len(texts) + 1

    assert [(row.email, row.profile) for row in people] == [
        (row["email"], row["profile"])
        for row in rows("SELECT * FROM registrations WHERE status = 'active' ORDER BY id")
    ]
    assert [{"purpose": "null", "document_version": "NULL", "granted": False, "source": "Null"}] == rows(
        "SELECT DISTINCT purpose, document_version, granted, source FROM registration_consents"
    )
    assert [{"data": {"status": "active", "consents": ["null"]}}, {"data": {"status": "pending", "consents": []}}] == (
        rows("SELECT DISTINCT data FROM registration_events ORDER BY data")
    )


def test_a_connection_can_be_used_instead_of_a_session(database: Database, rows: Rows) -> None:
    """The rows belong to the transaction of the connection."""
    with database.engine.connect() as connection:
        assert bulk_import(connection, people(3), batch=2).inserted == 3
        connection.rollback()
        assert bulk_import(connection, [*people(2), *people(3)], batch=2).duplicates == 2
        connection.commit()

    assert [{"n": 3}] == rows("SELECT count(*) AS n FROM registrations")


def test_a_generic_plan_has_no_nested_loop(database: Database) -> None:
    """The planner does not know the number of rows then; a loop in a loop would take seconds for a large batch."""
    with sent_statements(database) as sent, database.session() as session:
        bulk_import(session, people(1))
        driver: Any = session.connection().connection.dbapi_connection
        if driver.info.server_version < 160000:
            pytest.skip("EXPLAIN has no GENERIC_PLAN before PostgreSQL 16")
        numbers: dict[str, int] = {}
        generic = re.sub(r"%\((\w+)\)s", lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", sent[0])
        plan = "\n".join(row[0] for row in driver.execute(f"EXPLAIN (GENERIC_PLAN) {generic}"))

    assert "Insert on registration_consents" in plan
    assert "Function Scan" in plan
    assert "Nested Loop" not in plan


@pytest.mark.parametrize("known_by", ["mailbox", "key"])
def test_concurrent_imports_do_not_deadlock(database: Database, rows: Rows, known_by: str) -> None:
    """Two imports of the same people in opposite order, at the same moment, store each person once."""
    rounds, size = 4, 300
    barrier = Barrier(2)

    def run(file: list[ImportRow]) -> ImportReport:
        with database.session(autocommit=True) as session:
            session.connection()
            barrier.wait(20)
            return bulk_import(session, file)

    for number in range(rounds):
        file = (
            [ImportRow(f"ada{n}@{number}.example.com") for n in range(size)]
            if known_by == "mailbox"
            else [ImportRow("ada@example.com", "pending", idempotency_key=f"{number} {n}") for n in range(size)]
        )
        with ThreadPoolExecutor(2) as threads:
            one, other = threads.map(run, [file, file[::-1]])
        assert (size, size) == (one.inserted + other.inserted, one.duplicates + other.duplicates)

    assert [{"n": rounds * size}] == rows("SELECT count(DISTINCT (email_key, submit_key)) AS n FROM registrations")
    assert [{"n": rounds * size}] == rows("SELECT count(*) AS n FROM registrations")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"batch": 0}, "batch"),
        ({"batch": 10_001}, "batch"),
        ({"batch": True}, "batch"),
        ({"ttl": timedelta(0)}, "ttl"),
        ({"ttl": timedelta(days=3651)}, "ttl"),
        ({"ttl": "30"}, "ttl"),
        ({"actor": "ada"}, "the actor"),
        ({"correlation_id": "ada@example.com"}, "the correlation id"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], problem: str) -> None:
    """The arguments are checked before the stream is read."""
    stream = iter(people(1))

    with pytest.raises(InvalidInput, match=problem):
        bulk_import(Session(), stream, **arguments)

    assert next(stream).email == "ada0@example.com"
