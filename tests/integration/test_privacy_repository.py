"""Tests of `PrivacyRepository`: erasing, exporting and finding the registrations of a person."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session
from support import EVENTS, Person, Rows, SignUp, untyped

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Status,
    VerificationRepository,
    bulk_import,
    models,
)
from registration_persistence.domain.email import normalise_email
from registration_persistence.errors import InvalidEmail, InvalidInput, RegistrationNotFound
from registration_persistence.models.columns import Base
from registration_persistence.outcomes import Cancelled, Erased, Issued, Registered, Verified, WrongCode
from registration_persistence.sandbox import embedded_binaries, wait_until
from registration_persistence.testing import skip_or_fail


@pytest.mark.parametrize("status", ["pending", "overdue", "verified", "active", "expired", "cancelled"])
def test_erase_removes_all_personal_data(privacy: PrivacyRepository, person: Person, rows: Rows, status: str) -> None:
    """In each status, no personal data is left; the consents and events stay."""
    ada, eve = person("ada@example.com", status), person("eve@example.com", "pending")
    consents, events = rows("SELECT * FROM registration_consents"), rows(EVENTS)

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
    (event,) = [event for event in rows(EVENTS) if event not in events]
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
    everything = [row, consents, rows(EVENTS), rows("SELECT * FROM outbox")]
    assert "ada@" not in str(everything)
    assert "Lovelace" not in str(everything)


def test_erasing_again_changes_nothing(privacy: PrivacyRepository, person: Person, rows: Rows) -> None:
    """The second call succeeds, reports that nothing changed, and adds neither event nor message."""
    first = privacy.erase(person("ada@example.com", "active").id)
    events, outbox = rows(EVENTS), rows("SELECT * FROM outbox")

    assert Erased(first.registration, changed=False) == privacy.erase(first.registration.id)
    assert events == rows(EVENTS)
    assert outbox == rows("SELECT * FROM outbox")


def test_erase_frees_the_mailbox_and_the_idempotency_key(database: Database, person: Person) -> None:
    """The same person can register again with the same key and another payload, and verify the mailbox."""
    ada = person("ada@example.com", "active")
    with database.session() as session:
        PrivacyRepository(session).erase(ada.id)
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session)
        again = registrations.register("ada@example.com", idempotency_key="key of ada@example.com")
        assert isinstance(again, Registered)
        assert not again.email_verified_elsewhere
        assert isinstance(verification.verify_by_token(again.token), Verified)


def test_erase_deletes_a_token_that_is_issued_concurrently(database: Database, person: Person, rows: Rows) -> None:
    """An erasure that waits for the transaction of a new token also deletes that token."""
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
        waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        wait_until(lambda: rows(waiting), "the erasure waits for the lock")
    eraser.join()

    assert [True] == [outcome.changed for outcome in outcomes]
    assert [] == rows("SELECT * FROM verification_tokens")


def test_ids_by_email_finds_every_registration_of_a_mailbox(
    privacy: PrivacyRepository, person: Person, sign_up: SignUp
) -> None:
    """Pending, verified and closed registrations in any spelling are returned, oldest first, but no erased ones."""
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


def test_ids_by_email_finds_an_active_registration(privacy: PrivacyRepository, person: Person) -> None:
    """The id of an active registration is returned."""
    assert (person("ada@example.com", "active").id,) == privacy.ids_by_email("ada@example.com")


def test_ids_by_email_rejects_an_invalid_address(unsent_session: Session) -> None:
    """The address is checked before any statement is sent."""
    with pytest.raises(InvalidEmail):
        PrivacyRepository(unsent_session).ids_by_email("ada")


# The columns that are not exported: hashes, and the foreign keys to the exported registration.
EXPORTED: dict[str, tuple[type[Base], set[str]]] = {
    "registration": (models.RegistrationRow, {"submit_key", "submit_digest"}),
    "tokens": (models.VerificationTokenRow, {"registration_id", "secret_hash", "hash_key_id"}),
    "consents": (models.RegistrationConsentRow, {"registration_id"}),
    "events": (models.RegistrationEventRow, {"registration_id"}),
}


def test_export_subject_returns_all_columns(
    database: Database, privacy: PrivacyRepository, person: Person, rows: Rows
) -> None:
    """All rows of the person are exported as JSON, without hashes and foreign keys, and no row of another person."""
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
    """Return the key by which exported rows are sorted."""
    return str(row["id"])


def test_an_erased_registration_can_be_exported(privacy: PrivacyRepository, person: Person) -> None:
    """The events and consents are exported, and empty lists for the rest."""
    erased = person("ada@example.com", "erased")

    held = privacy.export_subject(erased.id)

    assert ("erased", None, {}) == tuple(held["registration"][name] for name in ("status", "email", "profile"))
    assert ([], ["terms"]) == (held["tokens"], [consent["purpose"] for consent in held["consents"]])
    assert ["registered", "erased"] == [event["type"] for event in held["events"]]
    assert "ada@" not in json.dumps(held)


def test_an_unknown_id_is_rejected(privacy: PrivacyRepository, sign_up: SignUp, rows: Rows) -> None:
    """The errors of both methods name the id that does not exist, and nothing is changed."""
    sign_up()
    unknown = uuid4()

    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        privacy.erase(unknown)
    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        privacy.export_subject(unknown)

    assert [{"status": "pending"}] == rows("SELECT status FROM registrations")


def test_a_string_is_no_id(unsent_session: Session) -> None:
    """A string instead of a UUID is rejected before any statement is sent."""
    with pytest.raises(InvalidInput, match="a str"):
        PrivacyRepository(unsent_session).erase(untyped(str(uuid4())))
    with pytest.raises(InvalidInput, match="a str"):
        PrivacyRepository(unsent_session).export_subject(untyped(str(uuid4())))


TYPED = "Ada.Lovelace@Bücher.example"
SPELLINGS = (TYPED, normalise_email(TYPED).key, TYPED.upper(), TYPED.lower())
FORMS = {
    form
    for spelling in (part for address in SPELLINGS for part in (address, *address.split("@")))
    for form in (
        spelling,
        spelling.encode().hex(),
        base64.b64encode(spelling.encode()).decode(),
        hashlib.sha256(spelling.encode()).hexdigest(),
    )
}


@pytest.fixture
def read_all(database: Database, rows: Rows) -> Callable[[], tuple[str, str]]:
    """Return the output of `pg_dump`, and every row of every table as text; both show bytes as hexadecimal digits."""
    own = embedded_binaries() / "pg_dump"
    program = own if own.exists() else shutil.which("pg_dump")
    if program is None:
        skip_or_fail("there is no pg_dump: install the package postgresql-client")
    settings = database.settings

    def read() -> tuple[str, str]:
        dump = subprocess.run(
            [program, "-h", settings.host, "-p", str(settings.port), "-U", str(settings.user), "-d", settings.name],
            env={**os.environ, "PGPASSWORD": str(settings.password)},
            capture_output=True,
            check=True,
            text=True,
        )
        tables = [row["name"] for row in rows("SELECT relname AS name FROM pg_stat_user_tables")]
        lines = [row["line"] for table in tables for row in rows(f"SELECT t::text AS line FROM {table} t")]
        return dump.stdout, "\n".join(lines)

    return read


def forms_in(written: str) -> set[str]:
    """Return the forms of the address that are in *written*, in upper or lower case."""
    folded = written.lower()
    return {form for form in FORMS if form.lower() in folded}


def test_an_erasure_leaves_nothing_of_the_address(
    database: Database, sign_up: SignUp, read_all: Callable[[], tuple[str, str]]
) -> None:
    """After each registration of a mailbox is erased, the database holds the address in no form."""
    with database.session(autocommit=True) as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session, peppers=Peppers({1: b"pepper-of-the-registration-codes"}))
        outbox, privacy = OutboxRepository(session), PrivacyRepository(session)
        ada = sign_up(TYPED, profile={"forms": sorted(FORMS)}, idempotency_key=TYPED).registration.id
        cancelled = sign_up(TYPED.lower(), profile={TYPED: 1}, idempotency_key=TYPED.lower()).registration.id
        verification.issue_token(ada, min_gap=timedelta(0))
        issued = verification.issue_code(ada, min_gap=timedelta(0))
        assert isinstance(issued, Issued)
        assert isinstance(verification.verify_by_code(ada, "nonsense"), WrongCode)
        assert isinstance(verification.verify_by_code(ada, issued.secret), Verified)
        assert isinstance(registrations.cancel(cancelled), Cancelled)
        registrations.update_profile(ada, {TYPED: TYPED})
        ConsentRepository(session).record(ada, [Consent("newsletter", "1")])
        bulk_import(session, [ImportRow(TYPED, "pending", idempotency_key=TYPED.upper())])
        for message in outbox.claim():
            outbox.retry(message, "smtp:550", timedelta(minutes=1))
        before = read_all()

        everything = privacy.ids_by_email(TYPED)
        for registration_id in everything:
            privacy.erase(registration_id)
        after = read_all()

    assert len(everything) == 3
    assert [FORMS, FORMS] == [forms_in(written) for written in before], "the search finds the stored forms"
    assert [set(), set()] == [forms_in(written) for written in after]
    assert [True, True] == [str(ada) in written and "smtp:550" in written for written in after]
