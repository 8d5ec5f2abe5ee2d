"""The rows and the changes that the schema rejects."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text, update
from sqlalchemy.exc import IntegrityError

from registration_persistence import models
from registration_persistence.domain.ids import new_id
from registration_persistence.domain.status import Status

METADATA = models.RegistrationRow.metadata
NOW = datetime.now(UTC)
COLUMNS_OF_STATUS: dict[Status, dict[str, Any]] = {
    Status.PENDING: {"expires_at": NOW},
    Status.VERIFIED: {"expires_at": NOW, "verified_at": NOW},
    Status.ACTIVE: {"verified_at": NOW, "activated_at": NOW},
    Status.EXPIRED: {"closed_at": NOW, "close_reason": "ttl"},
    Status.CANCELLED: {"closed_at": NOW, "close_reason": "user"},
    Status.ERASED: {"closed_at": NOW, "close_reason": "erasure", "email": None, "email_key": None, "profile": {}},
}
OPEN = {
    "email": "Ada@example.com",
    "email_key": "ada@example.com",
    "profile": {"name": "Ada"},
    "expires_at": None,
    "verified_at": None,
    "activated_at": None,
    "closed_at": None,
    "close_reason": None,
}
ALLOWED = {
    Status.PENDING: {Status.VERIFIED, Status.EXPIRED, Status.CANCELLED, Status.ERASED},
    Status.VERIFIED: {Status.ACTIVE, Status.EXPIRED, Status.CANCELLED, Status.ERASED},
    Status.ACTIVE: {Status.ERASED},
    Status.EXPIRED: {Status.ERASED},
    Status.CANCELLED: {Status.ERASED},
    Status.ERASED: set(),
}


def registration(status: Status, /, **changes: Any) -> dict[str, Any]:
    """Return a row of `registrations` with the columns of *status*, and with *changes*."""
    return {"id": new_id(), "email_key_rev": 1, **OPEN, "status": status.value, **COLUMNS_OF_STATUS[status], **changes}


@pytest.mark.parametrize(("before", "after"), list(permutations(Status, 2)))
def test_only_documented_moves_are_possible(connection: Connection, before: Status, after: Status) -> None:
    """Every other UPDATE of the status is rejected."""
    table = METADATA.tables["registrations"]
    row = registration(before)
    connection.execute(insert(table).values(row))
    move = update(table).where(table.c.id == row["id"]).values(registration(after, id=row["id"]))

    if after in ALLOWED[before]:
        assert connection.execute(move).rowcount == 1
    else:
        assert violated_constraint(connection, move) == "ck_registrations_move"


@pytest.mark.parametrize("status", list(Status))
def test_a_row_can_change_without_a_move(connection: Connection, status: Status) -> None:
    """An UPDATE to the same status is not a move."""
    table = METADATA.tables["registrations"]
    connection.execute(insert(table).values(registration(status)))

    assert connection.execute(update(table).values(status=status.value, version=2)).rowcount == 1


def test_a_mailbox_is_verified_once(connection: Connection) -> None:
    """A mailbox can have any number of pending registrations, and one that has verified it."""
    table = METADATA.tables["registrations"]
    for status in (Status.PENDING, Status.PENDING, Status.EXPIRED, Status.CANCELLED, Status.ERASED, Status.ACTIVE):
        connection.execute(insert(table).values(registration(status)))

    assert "uq_registrations_email_proven" == violated_constraint(
        connection, insert(table).values(registration(Status.VERIFIED))
    )


VALID: dict[str, dict[str, Any]] = {
    "verification_tokens": {
        "id": new_id(),
        "registration_id": new_id(),
        "purpose": "verify_email",
        "secret_hash": b"h" * 32,
        "hash_key_id": 0,
        "expires_at": NOW + timedelta(days=1),
    },
    "registration_consents": {
        "registration_id": new_id(),
        "purpose": "terms",
        "id": new_id(),
        "document_version": "2026-01",
        "granted": True,
        "source": "web",
    },
    "registration_events": {
        "registration_id": new_id(),
        "seq": 1,
        "id": new_id(),
        "type": "registered",
        "actor": "user",
    },
    "outbox": {"event_id": new_id(), "registration_id": new_id(), "type": "registration.registered"},
}

REJECTED_REGISTRATIONS: list[tuple[str, Status, dict[str, Any]]] = [
    ("status", Status.PENDING, {"status": "unknown", "expires_at": None}),
    ("open_expires", Status.PENDING, {"expires_at": None}),
    ("open_expires", Status.VERIFIED, {"expires_at": None}),
    ("open_expires", Status.ACTIVE, {"expires_at": NOW}),
    ("closed_at", Status.EXPIRED, {"closed_at": None, "close_reason": None}),
    ("closed_at", Status.PENDING, {"closed_at": NOW, "close_reason": "user"}),
    ("close_reason_when_closed", Status.CANCELLED, {"close_reason": None}),
    ("close_reason_when_closed", Status.PENDING, {"close_reason": "user"}),
    ("close_reason", Status.CANCELLED, {"close_reason": "bored"}),
    ("verified_at", Status.VERIFIED, {"verified_at": None}),
    ("verified_at", Status.ACTIVE, {"verified_at": None}),
    ("activated_at", Status.ACTIVE, {"activated_at": None}),
    ("email_key_until_erased", Status.ERASED, {"email_key": "ada@example.com"}),
    ("email_key_until_erased", Status.PENDING, {"email_key": None}),
    ("email_until_erased", Status.ERASED, {"email": "ada@example.com"}),
    ("email_until_erased", Status.CANCELLED, {"email": None}),
    ("profile_until_erased", Status.ERASED, {"profile": {"name": "Ada"}}),
    ("profile", Status.PENDING, {"profile": ["Ada"]}),
    ("profile", Status.PENDING, {"profile": "Ada"}),
    ("profile", Status.PENDING, {"profile": {"name": "A" * 65_536}}),
    ("email_length", Status.PENDING, {"email": "é" * 160 + "@"}),
    ("email_key_length", Status.PENDING, {"email_key": "a@"}),
    ("email_key_length", Status.PENDING, {"email_key": "é" * 160 + "@"}),
    ("email_key_lower", Status.PENDING, {"email_key": "Ada@example.com"}),
    ("email_key_lower", Status.PENDING, {"email_key": "ada@Example.com"}),
    ("email_key_normalized", Status.PENDING, {"email_key": "e\u0301va@example.com"}),
    ("email_key_normalized", Status.PENDING, {"email_key": "\uff41da@example.com"}),
    ("email_key_normalized", Status.PENDING, {"email_key": "\ufb01@example.com"}),
    ("submit_pair", Status.PENDING, {"submit_key": b"k" * 32}),
    ("submit_pair", Status.PENDING, {"submit_digest": b"d" * 32}),
    ("submit_length", Status.PENDING, {"submit_key": b"k" * 31, "submit_digest": b"d" * 32}),
    ("submit_length", Status.PENDING, {"submit_key": b"k" * 32, "submit_digest": b"d" * 33}),
    ("counters", Status.PENDING, {"version": 0}),
    ("counters", Status.PENDING, {"tokens_issued": -1}),
]
REJECTED_ROWS_OF_OTHER_TABLES: list[tuple[str, str, dict[str, Any]]] = [
    ("verification_tokens", "purpose", {"purpose": "reset_password"}),
    ("verification_tokens", "secret_hash", {"secret_hash": b"h" * 31}),
    ("verification_tokens", "counters", {"attempts": -1}),
    ("verification_tokens", "counters", {"hash_key_id": -1}),
    ("verification_tokens", "expires_at", {"created_at": NOW, "expires_at": NOW}),
    ("registration_consents", "purpose", {"purpose": "Terms"}),
    ("registration_consents", "purpose", {"purpose": "t" * 64}),
    ("registration_consents", "document_version", {"document_version": ""}),
    ("registration_consents", "document_version", {"document_version": "v" * 65}),
    ("registration_consents", "source", {"source": ""}),
    ("registration_consents", "source", {"source": "s" * 65}),
    ("registration_events", "seq", {"seq": 0}),
    ("registration_events", "actor", {"actor": "admin:"}),
    ("registration_events", "actor", {"actor": "admin:ada@example.com"}),
    ("registration_events", "actor", {"actor": "users"}),
    ("registration_events", "correlation_id", {"correlation_id": "c" * 65}),
    ("registration_events", "correlation_id", {"correlation_id": ""}),
    ("registration_events", "correlation_id", {"correlation_id": "Ada Lovelace"}),
    ("registration_events", "correlation_id", {"correlation_id": "+44 20 7946 0958"}),
    ("registration_events", "correlation_id", {"correlation_id": "ada@example.com"}),
    ("registration_events", "correlation_id", {"correlation_id": "request\n"}),
    ("registration_events", "correlation_id", {"correlation_id": "né"}),
    ("registration_consents", "seq", {"seq": 0}),
    ("outbox", "attempts", {"attempts": -1}),
    ("outbox", "last_error", {"last_error": "550 ada@example.com"}),
    ("outbox", "last_error", {"last_error": ""}),
]
REJECTED = [
    *(("registrations", rule, registration(status, **changes)) for rule, status, changes in REJECTED_REGISTRATIONS),
    *((table, rule, VALID[table] | changes) for table, rule, changes in REJECTED_ROWS_OF_OTHER_TABLES),
]


@pytest.mark.parametrize(
    ("table", "rule", "row"), REJECTED, ids=[f"{number}-{rule}" for number, (_, rule, _) in enumerate(REJECTED)]
)
def test_a_row_that_violates_a_check_is_rejected(
    connection: Connection, table: str, rule: str, row: dict[str, Any]
) -> None:
    """The driver's error names the CHECK."""
    assert f"ck_{table}_{rule}" == violated_constraint(connection, insert(METADATA.tables[table]).values(row))


@pytest.mark.parametrize("status", list(Status))
def test_a_valid_row_is_stored(connection: Connection, status: Status) -> None:
    """A row of each status, with a token, consent, event and message, satisfies every CHECK."""
    row = registration(status, submit_key=b"k" * 32, submit_digest=b"d" * 32)
    connection.execute(insert(METADATA.tables["registrations"]).values(row))

    for table, valid in VALID.items():
        connection.execute(insert(METADATA.tables[table]).values({**valid, "registration_id": row["id"]}))


def test_every_check_is_tested(connection: Connection) -> None:
    """The rows above violate each CHECK of the database at least once."""
    query = """
        SELECT conname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid AND NOT relispartition
        WHERE contype = 'c' AND connamespace = 'public'::regnamespace"""

    assert {f"ck_{table}_{rule}" for table, rule, _ in REJECTED} == set(connection.scalars(text(query)))


def violated_constraint(connection: Connection, statement: Any) -> str | None:
    """Return the name of the constraint that rejects *statement*."""
    with pytest.raises(IntegrityError) as rejected:
        connection.execute(statement)
    diagnostics: Any = rejected.value.orig
    return str(diagnostics.diag.constraint_name)
