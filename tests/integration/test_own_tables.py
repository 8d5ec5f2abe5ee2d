"""A service's tables beside ours: foreign keys, erasure and retention, with the example service in `examples/`."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from uuid import UUID, uuid4

import pytest
from alembic import command
from alembic.config import Config
from campaigns.models import CampaignMember
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from support import Change, Rows, SignUp

from registration_persistence import (
    Database,
    DatabaseSettings,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    schema,
)
from registration_persistence.cli import main
from registration_persistence.errors import RegistrationReferenced, TransactionConflict
from registration_persistence.sandbox import wait_until
from registration_persistence.testing import RoundTripCounter

ALEMBIC = Path(__file__).parents[2] / "examples/campaign_service/alembic.ini"
MEMBERS = "SELECT nickname FROM campaign_members ORDER BY nickname"


@pytest.fixture
def alembic(database: Database) -> Config:
    """The configuration of the example service's Alembic, for the database of the test."""
    return Config(ALEMBIC, attributes={"database": database})


@pytest.fixture
def join(database: Database, alembic: Config, sign_up: SignUp) -> Callable[[str], UUID]:
    """Register a person, who joins a campaign with the local part of the address as the nickname."""
    command.upgrade(alembic, "head")

    def register(email: str) -> UUID:
        registration_id = sign_up(email).registration.id
        with database.session() as session:
            session.add(member(registration_id, email.partition("@")[0]))
        return registration_id

    return register


def member(registration_id: UUID, nickname: str) -> CampaignMember:
    """Return a membership of the campaign `spring`."""
    return CampaignMember(registration_id=registration_id, campaign="spring", nickname=nickname)


def test_each_side_sees_only_its_own_tables(database: Database, alembic: Config, rows: Rows) -> None:
    """Both sides migrate, check, migrate down and up again; neither finds a difference in the other's objects."""
    for _ in range(2):
        command.upgrade(alembic, "head")
        command.check(alembic)
        schema.check(database)
        assert schema.current(database) == schema.upgrade(database) == schema.newest()
        assert [{"on": "registrations", "deleted": "c"}] == rows(
            "SELECT confrelid::regclass::text AS on, confdeltype::text AS deleted FROM pg_constraint "
            "WHERE conname = 'fk_campaign_members_registration_id'"
        )
        command.downgrade(alembic, "base")
        assert [] == rows("SELECT FROM pg_proc WHERE proname LIKE 'campaign%'")
    schema.check(database)


def test_erasure_deletes_the_rows_of_the_service(
    join: Callable[[str], UUID],
    rows: Rows,
    database_settings: DatabaseSettings,
    wire: RoundTripCounter,
) -> None:
    """The trigger deletes them in the statement of the erasure, which is still one round trip; others stay."""
    ada, _ = join("ada@example.com"), join("eve@example.com")
    settings = dataclasses.replace(database_settings, host="127.0.0.1", port=wire.port, sslmode="disable")
    through_the_wire = Database(settings)
    with through_the_wire.session(autocommit=True) as session:
        session.execute(text("SELECT 1"))
        wire.round_trips()
        assert PrivacyRepository(session).erase(ada).changed
        assert wire.round_trips() == 1
        assert not PrivacyRepository(session).erase(ada).changed
    through_the_wire.dispose()

    assert [{"nickname": "eve"}] == rows(MEMBERS)


def test_an_erasure_that_is_rolled_back_keeps_the_rows(
    database: Database, join: Callable[[str], UUID], rows: Rows
) -> None:
    """The rows of the service are deleted if and only if the erasure is committed."""
    ada = join("ada@example.com")
    with database.session() as session:
        PrivacyRepository(session).erase(ada)
        assert [] == session.scalars(select(CampaignMember)).all()
        session.rollback()

    assert [{"nickname": "ada"}] == rows(MEMBERS)


@pytest.mark.usefixtures("fresh_process")
def test_the_command_deletes_the_rows_too(join: Callable[[str], UUID], rows: Rows) -> None:
    """It does not matter who erases."""
    assert main(["erase", str(join("ada@example.com")), "--yes"]) == 0

    assert [] == rows(MEMBERS)


def test_a_row_that_is_inserted_during_the_erasure_is_deleted(
    database: Database, join: Callable[[str], UUID], rows: Rows
) -> None:
    """The erasure waits for the transaction that inserts a row, and deletes the row."""
    ada = join("ada@example.com")

    def erase() -> None:
        with database.session(autocommit=True) as session:
            PrivacyRepository(session).erase(ada)

    eraser = Thread(target=erase)
    with database.session() as session:
        session.add(CampaignMember(registration_id=ada, campaign="autumn", nickname="Countess"))
        session.flush()
        eraser.start()
        wait_until(lambda: blocked(rows), "the erasure waits")
    eraser.join()

    assert [{"status": "erased"}] == rows("SELECT status FROM registrations")
    assert [] == rows(MEMBERS)


def test_a_row_of_a_person_who_is_being_erased_is_refused(
    database: Database, join: Callable[[str], UUID], rows: Rows
) -> None:
    """An INSERT waits for the erasure, and fails once that is committed; one for an unknown id fails at once."""
    ada = join("ada@example.com")
    errors: list[str] = []

    def insert(registration_id: UUID) -> None:
        try:
            with database.session() as session:
                session.add(CampaignMember(registration_id=registration_id, campaign="autumn", nickname="Countess"))
        except IntegrityError as error:
            errors.append(str(error.orig))

    late = Thread(target=insert, args=(ada,))
    with database.session() as session:
        PrivacyRepository(session).erase(ada)
        late.start()
        wait_until(lambda: blocked(rows), "the INSERT waits")
    late.join()
    insert(uuid4())

    assert ["the registration is erased or does not exist"] * 2 == [error.splitlines()[0] for error in errors]
    assert [] == rows(MEMBERS)


def test_the_other_order_of_locks_is_a_conflict(database: Database, join: Callable[[str], UUID], rows: Rows) -> None:
    """If a transaction changes the membership before the registration, it or an erasure is repeated."""
    ada = join("ada@example.com")
    conflicts: list[str] = []

    def rename_and_cancel(session: Session) -> None:
        changed = update(CampaignMember).values(nickname="Countess").returning(CampaignMember.nickname)
        if session.scalars(changed).all():
            if not conflicts:
                eraser.start()
                wait_until(lambda: blocked(rows), "the erasure waits")
            RegistrationRepository(session).cancel(ada)

    def erase(session: Session) -> None:
        PrivacyRepository(session).erase(ada)

    def repeated(work: Callable[[Session], None]) -> None:
        def attempt(session: Session) -> None:
            try:
                work(session)
            except TransactionConflict:
                conflicts.append(work.__name__)
                raise

        database.run(attempt, idempotent=True)

    eraser = Thread(target=repeated, args=(erase,))
    repeated(rename_and_cancel)
    eraser.join()

    assert len(conflicts) == 1
    assert [{"status": "erased"}] == rows("SELECT status FROM registrations")
    assert [] == rows(MEMBERS)


def blocked(rows: Rows) -> bool:
    """Return whether a session of this database waits for a lock."""
    return bool(rows("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"))


def test_purging_deletes_the_rows_of_the_service(
    database: Database, join: Callable[[str], UUID], change: Change, rows: Rows
) -> None:
    """ON DELETE CASCADE deletes them with the registration; without it, the error names the foreign key."""
    ada, tomorrow = join("ada@example.com"), datetime.now(UTC) + timedelta(days=1)
    change("CREATE TABLE orders (id int PRIMARY KEY, person uuid CONSTRAINT fk_person REFERENCES registrations)")
    change(f"INSERT INTO orders VALUES (1, '{ada}')")
    with database.session() as session:
        RegistrationRepository(session).cancel(ada)

    with pytest.raises(
        RegistrationReferenced, match=r"orders refers to .* foreign key fk_person with ON DELETE CASCADE"
    ):
        purge(database, tomorrow)
    assert [{"nickname": "ada"}] == rows(MEMBERS)
    change(
        "ALTER TABLE orders DROP CONSTRAINT fk_person, "
        "ADD CONSTRAINT fk_person FOREIGN KEY (person) REFERENCES registrations ON DELETE SET NULL"
    )
    assert purge(database, tomorrow) == 1

    assert [] == rows(MEMBERS)
    assert [{"id": 1, "person": None}] == rows("SELECT * FROM orders")


def purge(database: Database, before: datetime) -> int:
    """Purge closed registrations."""
    with database.session(autocommit=True) as session:
        return Retention(session).purge_closed(before)
