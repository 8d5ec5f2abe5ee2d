"""Tests of `EventRepository`: the event log of a registration."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TERMS, Rows, SignUp

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    EventRepository,
    ImportRow,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.errors import InvalidInput
from registration_persistence.outcomes import Event, Registered


@pytest.fixture
def list_events(database: Database) -> Callable[..., tuple[Event, ...]]:
    """`EventRepository.list_events`, called in a read-only session."""

    def read(registration_id: UUID, **arguments: Any) -> tuple[Event, ...]:
        with database.session(read_only=True) as session:
            return EventRepository(session).list_events(registration_id, **arguments)

    return read


ListEvents = Callable[..., tuple[Event, ...]]


def summaries(events: tuple[Event, ...]) -> list[tuple[int, str, str, str | None]]:
    """Return number, type, actor and correlation id of each event."""
    return [(event.seq, event.type, event.actor, event.correlation_id) for event in events]


def test_each_change_stores_one_event(database: Database, sign_up: SignUp, list_events: ListEvents, rows: Rows) -> None:
    """The events are in order and without gaps, with their actor and correlation id."""
    sign_up("eve@example.com")
    with database.session() as session:

        def by(actor: str, request: str | None) -> RegistrationRepository:
            return RegistrationRepository(session, actor=actor, correlation_id=request)

        made = by("user", "r-1").register("ada@example.com", consents=[TERMS])
        assert isinstance(made, Registered)
        who = made.registration.id
        VerificationRepository(session, actor="user", correlation_id="r-2").verify_by_token(made.token)
        by("admin:42", "r-3").activate(who)
        by("system", None).update_profile(who, {"name": "Ada", "city": "London"})
        ConsentRepository(session, actor="user", correlation_id="r-4").record(who, [Consent("news", "7")])
        PrivacyRepository(session, correlation_id="r-5").erase(who)

    events = list_events(who)

    assert [
        (1, "registered", "user", "r-1"),
        (2, "verified", "user", "r-2"),
        (3, "activated", "admin:42", "r-3"),
        (4, "profile_updated", "system", None),
        (5, "consents_recorded", "user", "r-4"),
        (6, "erased", "system", "r-5"),
    ] == summaries(events)
    assert [
        {"consents": ["terms"]},
        {},
        {},
        {"fields": ["city", "name"]},
        {"granted": ["news"], "withdrawn": []},
        {},
    ] == [event.data for event in events]
    stored = rows(f"SELECT * FROM registration_events WHERE registration_id = '{who}' ORDER BY seq")
    assert [Event(**row) for row in stored] == list(events)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (
            lambda session, made: RegistrationRepository(session, actor="admin:1").cancel(made.registration.id),
            (2, "cancelled", "admin:1", None),
        ),
        (
            lambda session, _: (
                session.execute(text("UPDATE registrations SET expires_at = now() - interval '1 s'")),
                Retention(session, correlation_id="nightly").expire_due(),
            ),
            (2, "expired", "system", "nightly"),
        ),
    ],
    ids=["cancelled", "expired"],
)
def test_events_outlive_their_registration(
    database: Database,
    sign_up: SignUp,
    list_events: ListEvents,
    end: Callable[[Session, Registered], object],
    expected: tuple[Any, ...],
) -> None:
    """The events of a purged registration can still be read."""
    made = sign_up()
    with database.session() as session:
        end(session, made)
    before = list_events(made.registration.id)
    with database.session() as session:
        assert 1 == Retention(session).purge_closed(datetime.now(UTC) + timedelta(days=1))
        assert RegistrationRepository(session).get(made.registration.id) is None

    assert [(1, "registered", "user", None), expected] == summaries(before)
    assert before == list_events(made.registration.id)


def test_the_first_event_of_an_import(database: Database, list_events: ListEvents) -> None:
    """The first event has the imported status and the actor of the import."""
    with database.session() as session:
        bulk_import(
            session, [ImportRow("ada@example.com", consents=(TERMS,))], actor="admin:1", correlation_id="file.csv"
        )
        (imported,) = RegistrationRepository(session).list_page().items

    (event,) = list_events(imported.id)

    assert (1, "imported", "admin:1", "file.csv") == (event.seq, event.type, event.actor, event.correlation_id)
    assert {"status": "active", "consents": ["terms"]} == event.data


def test_events_are_read_in_pages(
    registrations: RegistrationRepository, sign_up: SignUp, list_events: ListEvents
) -> None:
    """If each page starts after the last event of the page before, each event is read once."""
    made = sign_up().registration
    for number in range(4):
        registrations.update_profile(made.id, {"number": number})
    events = list_events(made.id)
    assert [1, 2, 3, 4, 5] == [event.seq for event in events]

    assert events[:2] == list_events(made.id, limit=2)
    assert events[2:4] == list_events(made.id, after=2, limit=2)
    assert events[4:] == list_events(made.id, after=4, limit=2)
    assert () == list_events(made.id, after=5)
    assert events == list_events(made.id, after=0, limit=1000)
    assert () == list_events(made.id, after=2**31 - 1)


def test_an_unknown_id_has_no_events(sign_up: SignUp, list_events: ListEvents) -> None:
    """The events of other registrations are not returned."""
    sign_up()

    assert () == list_events(uuid4())


def test_events_are_ordered_by_number(
    database: Database, registrations: RegistrationRepository, sign_up: SignUp, list_events: ListEvents
) -> None:
    """A clock that was set back, and events in the default partition, change neither order nor numbers."""
    made = sign_up().registration
    for number in range(3):
        registrations.update_profile(made.id, {"number": number})
    with database.session() as session:
        session.execute(text("UPDATE registration_events SET occurred_at = now() - seq * interval '40 days'"))

    events = list_events(made.id)

    assert [1, 2, 3, 4] == [event.seq for event in events]
    assert sorted((event.occurred_at for event in events), reverse=True) == [event.occurred_at for event in events]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"registration_id": "ada@example.com"}, "the id of the registration is a str: expected a uuid.UUID"),
        ({"registration_id": None}, "the id of the registration is a NoneType: expected a uuid.UUID"),
        ({"after": -1}, "after is not a whole number from 0 to 2147483647"),
        ({"after": 2**31}, "after is not a whole number from 0 to 2147483647"),
        ({"after": None}, "after is not a whole number from 0 to 2147483647"),
        ({"after": True}, "after is not a whole number from 0 to 2147483647"),
        ({"after": 1.0}, "after is not a whole number from 0 to 2147483647"),
        ({"after": "ada@example.com"}, "after is not a whole number from 0 to 2147483647"),
        ({"limit": 0}, "the limit is not a whole number from 1 to 1000"),
        ({"limit": 1001}, "the limit is not a whole number from 1 to 1000"),
        ({"limit": True}, "the limit is not a whole number from 1 to 1000"),
        ({"limit": "ada@example.com"}, "the limit is not a whole number from 1 to 1000"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    """The error names the argument and its range, and no statement is sent: the session has no server."""
    with pytest.raises(InvalidInput) as raised:
        EventRepository(Session()).list_events(**{"registration_id": uuid4(), **arguments})

    assert message == str(raised.value)


REPOSITORIES = (
    RegistrationRepository,
    VerificationRepository,
    ConsentRepository,
    EventRepository,
    Retention,
    PrivacyRepository,
)


@pytest.mark.parametrize("repository", REPOSITORIES)
@pytest.mark.parametrize(
    ("who", "message"),
    [
        ({"correlation_id": "ada@example.com"}, "the correlation id is not 1 to 64 letters, digits"),
        ({"correlation_id": "@"}, "the correlation id is not 1 to 64 letters, digits"),
        ({"actor": "ada@example.com"}, "the actor is unknown"),
        ({"actor": "admin:ada@example.com"}, "the actor is unknown"),
    ],
)
def test_the_event_log_rejects_addresses(
    repository: Callable[..., object],
    who: dict[str, Any],
    message: str,
) -> None:
    """Events outlive an erasure, so they cannot hold a mailbox, and the error does not quote it."""
    with pytest.raises(InvalidInput, match=f"^{message}") as raised:
        repository(Session(), **who)

    assert "ada" not in str(raised.value)
