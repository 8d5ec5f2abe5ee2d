"""Tests of `RegistrationRepository.activate` and `cancel`."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from support import Rows, SignUp, untyped

from registration_persistence import Database, Registration, RegistrationRepository, Status
from registration_persistence.domain.status import CancelReason
from registration_persistence.errors import IllegalTransition, InvalidInput, RegistrationNotFound, StaleVersion
from registration_persistence.outcomes import Cancelled


def test_activates_a_verified_registration(
    registrations: RegistrationRepository, verified: Registration, rows: Rows
) -> None:
    """The registration becomes active without an expiry time, and one event and one message are stored."""
    active = registrations.activate(verified.id, expected_version=2)

    assert (Status.ACTIVE, 3, None) == (active.status, active.version, active.expires_at)
    assert active.activated_at is not None
    assert registrations.get(verified.id) == active
    assert ["registered", "verified", "activated"] == [
        row["type"] for row in rows("SELECT type FROM registration_events ORDER BY seq")
    ]
    assert [{"n": 3}] == rows("SELECT count(*) AS n FROM outbox")


def test_an_unverified_registration_cannot_be_activated(registrations: RegistrationRepository, sign_up: SignUp) -> None:
    """The error names the current status of the registration."""
    pending = sign_up().registration

    with pytest.raises(IllegalTransition, match=f"{pending.id} is pending and cannot become active"):
        registrations.activate(pending.id)

    assert registrations.get(pending.id) == pending


def test_a_registration_cannot_be_activated_twice(
    registrations: RegistrationRepository, verified: Registration, rows: Rows
) -> None:
    """The second call raises an error and adds no event."""
    registrations.activate(verified.id)

    with pytest.raises(IllegalTransition, match="is active and cannot become active"):
        registrations.activate(verified.id)

    assert [{"n": 3}] == rows("SELECT count(*) AS n FROM registration_events")


def test_a_lapsed_registration_cannot_be_activated(
    database: Database, registrations: RegistrationRepository, verified: Registration
) -> None:
    """A verified registration past its `expires_at` counts as expired before the sweep has changed its row."""
    with database.session() as session:
        session.execute(text("UPDATE registrations SET expires_at = now() - interval '1 s'"))

    with pytest.raises(IllegalTransition, match="is expired and cannot become active"):
        registrations.activate(verified.id)


def test_a_stale_version_is_rejected(registrations: RegistrationRepository, verified: Registration) -> None:
    """Both methods name the expected and the current version, and change nothing."""
    with pytest.raises(StaleVersion, match=f"{verified.id} is at version 2, not 1"):
        registrations.activate(verified.id, expected_version=1)
    with pytest.raises(StaleVersion) as raised:
        registrations.cancel(verified.id, expected_version=7)

    assert (verified.id, 7, 2) == (raised.value.registration_id, raised.value.expected, raised.value.actual)
    assert registrations.get(verified.id) == verified


def test_an_unknown_id_is_rejected(registrations: RegistrationRepository) -> None:
    """The errors of both methods name the id that does not exist."""
    unknown = uuid4()

    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        registrations.activate(unknown)
    with pytest.raises(RegistrationNotFound, match=str(unknown)):
        registrations.cancel(unknown)


@pytest.mark.parametrize("reason", ["user", "admin", "superseded"])
def test_cancels_a_pending_registration(
    registrations: RegistrationRepository, sign_up: SignUp, rows: Rows, reason: CancelReason
) -> None:
    """The registration is closed with the given reason, and one event and one message are stored."""
    pending = sign_up().registration

    outcome = registrations.cancel(pending.id, reason, expected_version=1)

    assert outcome.changed
    closed = outcome.registration
    assert (Status.CANCELLED, 2, reason, None) == (
        closed.status,
        closed.version,
        closed.close_reason,
        closed.expires_at,
    )
    assert closed.closed_at is not None
    assert registrations.get(pending.id) == closed
    assert ["registration.registered", "registration.cancelled"] == [
        row["type"] for row in rows("SELECT type FROM outbox ORDER BY event_id")
    ]


def test_cancels_a_verified_registration(registrations: RegistrationRepository, verified: Registration) -> None:
    """After the cancellation the mailbox can be registered again."""
    registrations.cancel(verified.id)

    assert registrations.find_by_email("ada@example.com") is None


def test_cancelling_again_changes_nothing(registrations: RegistrationRepository, sign_up: SignUp, rows: Rows) -> None:
    """The second call succeeds, reports that nothing changed, and keeps the first reason."""
    pending = sign_up().registration
    first = registrations.cancel(pending.id, "user")

    assert Cancelled(first.registration, changed=False) == registrations.cancel(pending.id, "admin", expected_version=1)
    assert [{"n": 2}] == rows("SELECT count(*) AS n FROM registration_events")


def test_an_active_registration_cannot_be_cancelled(
    registrations: RegistrationRepository, verified: Registration
) -> None:
    """An active registration ends by erasure, not by cancellation."""
    active = registrations.activate(verified.id)

    with pytest.raises(IllegalTransition, match="is active and cannot become cancelled"):
        registrations.cancel(verified.id)

    assert registrations.get(verified.id) == active


def test_an_unknown_reason_is_rejected(registrations: RegistrationRepository, sign_up: SignUp) -> None:
    """The error lists the known reasons."""
    with pytest.raises(InvalidInput, match="expected one of user, admin, superseded"):
        registrations.cancel(sign_up().registration.id, untyped("ttl"))


def test_a_string_is_no_id(registrations: RegistrationRepository) -> None:
    """A string instead of a UUID is rejected before any statement is sent."""
    with pytest.raises(InvalidInput, match=r"a str: expected a uuid\.UUID"):
        registrations.activate(untyped(str(uuid4())))


def test_the_event_names_the_actor(database: Database, sign_up: SignUp, rows: Rows) -> None:
    """The event holds the actor and the correlation id."""
    made = sign_up()
    with database.session() as session:
        RegistrationRepository(session, actor="admin:42", correlation_id="1-5759e988").cancel(made.registration.id)

    (event,) = rows("SELECT * FROM registration_events WHERE seq = 2")
    assert ("admin:42", "1-5759e988") == (event["actor"], event["correlation_id"])


@pytest.mark.parametrize("version", ["2", True, 2.4, 0, -1, 2**31, float("nan"), [2]])
def test_an_invalid_version_is_rejected(
    registrations: RegistrationRepository, verified: Registration, version: Any
) -> None:
    """Only integers are accepted; no value is rounded or converted."""
    with pytest.raises(InvalidInput, match="expected_version"):
        registrations.activate(verified.id, expected_version=version)

    assert registrations.get(verified.id) == verified
