"""Tests of `RegistrationRepository.update_profile`."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import Rows, SignUp, all_rows

from registration_persistence import (
    Database,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    Status,
    VerificationRepository,
)
from registration_persistence.errors import (
    IllegalTransition,
    InvalidInput,
    InvalidProfile,
    ProfileTooLarge,
    RegistrationNotFound,
    StaleVersion,
)
from registration_persistence.outcomes import Registered

ADA = {"name": "Ada", "city": "London", "born": 1815}

Step = Callable[[Session, Registered], object]


def changed_fields(rows: Rows) -> list[list[str]]:
    """Return the names of the changed fields that each event lists, in order."""
    return [
        row["data"]["fields"]
        for row in rows("SELECT data FROM registration_events WHERE type = 'profile_updated' ORDER BY seq")
    ]


def test_fields_are_set_replaced_and_removed(database: Database, sign_up: SignUp, rows: Rows) -> None:
    """Other fields stay, the event lists the names of the changed fields, and a message is stored."""
    made = sign_up(profile=ADA).registration
    with database.session() as session:
        registrations = RegistrationRepository(session, actor="admin:7", correlation_id="1-5759e988")
        patch = {"tags": ["maths", None], "name": "Augusta", "city": None, "born": 1815, "absent": None}
        updated = registrations.update_profile(made.id, patch, expected_version=1)

    assert {"name": "Augusta", "born": 1815, "tags": ["maths", None]} == updated.profile
    assert (made.id, Status.PENDING, 2) == (updated.id, updated.status, updated.version)
    assert (made.email, made.created_at, made.expires_at) == (updated.email, updated.created_at, updated.expires_at)
    assert made.updated_at < updated.updated_at
    with database.session() as session:
        assert updated == RegistrationRepository(session).get(made.id)
    (event,) = rows("SELECT * FROM registration_events WHERE seq = 2")
    assert (made.id, "profile_updated", {"fields": ["city", "name", "tags"]}, "admin:7", "1-5759e988") == (
        event["registration_id"],
        event["type"],
        event["data"],
        event["actor"],
        event["correlation_id"],
    )
    (message,) = rows(f"SELECT * FROM outbox WHERE event_id = '{event['id']}'")
    assert (made.id, "registration.profile_updated", {"seq": 2}) == (
        message["registration_id"],
        message["type"],
        message["payload"],
    )


def test_each_change_is_one_event_and_one_message(
    registrations: RegistrationRepository, sign_up: SignUp, rows: Rows
) -> None:
    """Each change increases the version by one, and stores one event and one message."""
    made = sign_up(profile=ADA).registration

    versions = [registrations.update_profile(made.id, {"name": name}).version for name in ("Augusta", "Ada", "A")]

    assert [2, 3, 4] == versions
    assert [["name"]] * 3 == changed_fields(rows)
    assert [{"seq": 2}, {"seq": 3}, {"seq": 4}] == [
        row["payload"] for row in rows("SELECT * FROM outbox WHERE type LIKE '%profile%' ORDER BY event_id")
    ]


@pytest.mark.parametrize(
    "patch",
    [{}, {"name": "Ada"}, {"absent": None}, ADA, {"born": 1815.0}],
    ids=["empty", "same", "absent", "all", "1815.0"],
)
def test_a_patch_that_changes_nothing_writes_nothing(
    registrations: RegistrationRepository, sign_up: SignUp, rows: Rows, patch: dict[str, Any]
) -> None:
    """The registration is returned unchanged, and neither an event nor a message is stored."""
    made = sign_up(profile=ADA).registration
    before = all_rows(rows)

    assert made == registrations.update_profile(made.id, patch, expected_version=1)
    assert before == all_rows(rows)


def test_only_the_first_level_is_patched(registrations: RegistrationRepository, sign_up: SignUp) -> None:
    """A nested object is replaced as a whole, and a `None` inside it is a value."""
    made = sign_up(profile={"address": {"street": "Dorset Street", "city": "London"}}).registration

    updated = registrations.update_profile(made.id, {"address": {"street": None}})

    assert {"address": {"street": None}} == updated.profile


@pytest.mark.parametrize("name", ["ada@example.com", "Ada Lovelace", "+44 20 7946", "", "n" * 65])
def test_a_field_name_that_may_be_personal_is_not_in_the_event(
    registrations: RegistrationRepository, sign_up: SignUp, rows: Rows, name: str
) -> None:
    """Such a field can be set, changed and removed; the event lists only names in the usual form."""
    made = sign_up("eve@example.com").registration

    assert {name: 1, "city": "x"} == registrations.update_profile(made.id, {name: 1, "city": "x"}).profile
    assert {name: 2, "city": "x"} == registrations.update_profile(made.id, {name: 2}).profile
    assert {} == registrations.update_profile(made.id, {name: None, "city": None}).profile
    assert [["city"], [], ["city"]] == changed_fields(rows)


@pytest.mark.parametrize("patch", [{"name": "Augusta"}, {"name": "Ada"}, {}], ids=["change", "same", "empty"])
def test_a_stale_version_is_rejected(
    registrations: RegistrationRepository, sign_up: SignUp, rows: Rows, patch: dict[str, Any]
) -> None:
    """The error names both versions, also if the patch would change nothing, and nothing is written."""
    made = sign_up(profile=ADA).registration
    registrations.update_profile(made.id, {"city": "Ockham"}, expected_version=1)
    before = all_rows(rows)

    with pytest.raises(StaleVersion, match=f"{made.id} is at version 2, not 1"):
        registrations.update_profile(made.id, patch, expected_version=1)

    assert before == all_rows(rows)


def verify(session: Session, made: Registered) -> object:
    """Verify the registration."""
    return VerificationRepository(session).verify_by_token(made.token)


def activate(session: Session, made: Registered) -> object:
    """Verify and activate the registration."""
    verify(session, made)
    return RegistrationRepository(session).activate(made.registration.id)


def lapse(session: Session, _made: Registered) -> object:
    """Set `expires_at` of all registrations to a time in the past."""
    return session.execute(text("UPDATE registrations SET expires_at = now() - interval '1 s'"))


def sweep(session: Session, made: Registered) -> object:
    """Let all registrations lapse, and expire them."""
    lapse(session, made)
    return Retention(session).expire_due()


@pytest.mark.parametrize(
    ("step", "version"), [(lambda *_: None, 1), (verify, 2), (activate, 3)], ids=["pending", "verified", "active"]
)
def test_an_open_registration_can_be_patched(
    database: Database, registrations: RegistrationRepository, sign_up: SignUp, step: Step, version: int
) -> None:
    """A pending, verified or active registration keeps its status and its times."""
    made = sign_up()
    with database.session() as session:
        step(session, made)
    before = registrations.get(made.registration.id)
    assert before is not None

    updated = registrations.update_profile(before.id, {"name": "Ada"}, expected_version=version)

    assert (before.status, version + 1, {"name": "Ada"}) == (updated.status, updated.version, updated.profile)
    assert (before.expires_at, before.verified_at, before.activated_at) == (
        updated.expires_at,
        updated.verified_at,
        updated.activated_at,
    )


@pytest.mark.parametrize(
    ("status", "step"),
    [
        ("cancelled", lambda session, made: RegistrationRepository(session).cancel(made.registration.id)),
        ("erased", lambda session, made: PrivacyRepository(session).erase(made.registration.id)),
        ("expired", lapse),
        ("expired", sweep),
    ],
    ids=["cancelled", "erased", "overdue", "swept"],
)
@pytest.mark.parametrize("patch", [{"name": "Ada"}, {}], ids=["change", "empty"])
def test_a_closed_registration_cannot_be_patched(
    database: Database, sign_up: SignUp, rows: Rows, *, status: str, step: Step, patch: dict[str, Any]
) -> None:
    """The error names the status, also if the patch would change nothing; nothing is written."""
    made = sign_up()
    with database.session() as session:
        step(session, made)
    before = all_rows(rows)

    with database.session() as session, pytest.raises(IllegalTransition, match="cannot be changed any more") as raised:
        RegistrationRepository(session).update_profile(made.registration.id, patch)

    assert (made.registration.id, status, None) == (
        raised.value.registration_id,
        raised.value.current,
        raised.value.wanted,
    )
    assert before == all_rows(rows)


def test_an_unknown_id_is_rejected(registrations: RegistrationRepository, sign_up: SignUp, rows: Rows) -> None:
    """The error names the id."""
    sign_up()
    before, unknown = all_rows(rows), uuid4()

    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        registrations.update_profile(unknown, {"name": "Ada"})

    assert before == all_rows(rows)


FULL = {"a": "x" * 4000, "b": "y" * 4174}
"""A profile of 8192 bytes of JSON."""

DEEP: list[Any] = []
for _ in range(40):
    DEEP = [DEEP]


def test_an_oversized_profile_may_shrink(database: Database, sign_up: SignUp) -> None:
    """A profile that exceeds the current limit can be reduced or left unchanged, but cannot grow."""
    made = sign_up().registration
    with database.session() as session:
        session.execute(text("UPDATE registrations SET profile = jsonb_build_object('a', repeat('x', 9000), 'b', 1)"))
        registrations = RegistrationRepository(session)
        assert made.version == registrations.update_profile(made.id, {}).version
        with pytest.raises(ProfileTooLarge):
            registrations.update_profile(made.id, {"c": 1})
        assert ["a"] == list(registrations.update_profile(made.id, {"b": None}).profile)


def test_a_profile_may_grow_up_to_its_limit(database: Database, sign_up: SignUp, rows: Rows) -> None:
    """If the merged profile is too large, the error names its size, and the transaction continues and commits."""
    made = sign_up(profile={"a": FULL["a"]}).registration
    with database.session() as session:
        registrations = RegistrationRepository(session)
        with pytest.raises(ProfileTooLarge, match="would take 8193 bytes of JSON: expected at most 8192"):
            registrations.update_profile(made.id, {"b": FULL["b"] + "y"})
        assert made == registrations.get(made.id)
        full = registrations.update_profile(made.id, {"b": FULL["b"]})
        with pytest.raises(ProfileTooLarge, match="would take"):
            registrations.update_profile(made.id, {"c": None, "b": FULL["b"][:-1] + "é"})
        smaller = registrations.update_profile(made.id, {"a": None, "c": "é"})

    assert FULL == full.profile
    assert {"b": FULL["b"], "c": "é"} == smaller.profile
    assert [["b"], ["a", "c"]] == changed_fields(rows)


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ({"patch": ["name"]}, InvalidProfile, "the profile is a list: expected an object"),
        ({"patch": None}, InvalidProfile, "the profile is a NoneType: expected an object"),
        ({"patch": {"x": "a\0b"}}, InvalidProfile, "contains NUL"),
        ({"patch": {"a\0b": None}}, InvalidProfile, "contains NUL"),
        ({"patch": {"x": float("nan")}}, InvalidProfile, "cannot be written as JSON"),
        ({"patch": {"x": [float("-inf")]}}, InvalidProfile, "cannot be written as JSON"),
        ({"patch": {"x": timedelta(1)}}, InvalidProfile, "cannot be written as JSON"),
        ({"patch": {"\ud800": None}}, InvalidProfile, "cannot be written as JSON"),
        ({"patch": {1: "x"}}, InvalidProfile, "would be read back with other values"),
        (
            {"patch": {"x": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}},
            InvalidProfile,
            "nested",
        ),
        ({"patch": {"x": "y" * 8192}}, ProfileTooLarge, "the profile takes 8201 bytes of JSON"),
        ({"patch": {}, "expected_version": 0}, InvalidInput, "expected_version is not a whole number"),
        ({"patch": {}, "expected_version": True}, InvalidInput, "expected_version is not a whole number"),
    ],
)
def test_an_invalid_patch_is_rejected(
    database: Database, sign_up: SignUp, *, argument: dict[str, Any], error: type[InvalidInput], message: str
) -> None:
    """The error names the problem, no statement is sent, and the transaction continues and commits."""
    made = sign_up(profile=ADA).registration
    with database.session() as session:
        registrations = RegistrationRepository(session)
        with pytest.raises(error, match=message) as raised:
            registrations.update_profile(made.id, **argument)
        assert error is raised.type
        assert made == registrations.get(made.id)
        updated = registrations.update_profile(made.id, {"city": None})

    assert {"name": "Ada", "born": 1815} == updated.profile
