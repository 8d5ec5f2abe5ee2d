"""The invariants of the domain: after each step, and from each step to the next."""

from datetime import timedelta
from uuid import UUID

from expectations import MAX_ATTEMPTS
from world import CLOSED, MAILBOXES, OPEN, Row, World, events_of

from registration_persistence import Status
from registration_persistence.domain.email import normalise_email
from registration_persistence.domain.status import MOVES

MOVES_OF_STATUS = {(source, move.target) for move in MOVES.values() for source in move.sources}
STATUS_AFTER = {event: move.target for event, move in MOVES.items()} | {"registered": Status.PENDING}
COLUMNS_WITHOUT_EVENT = ("tokens_issued", "token_issued_at")


def assert_registration_is_consistent(world: World, identity: UUID, row: Row) -> None:
    """Version, events, status, times, tokens and consents of a registration agree."""
    events = events_of(world, identity)
    assert list(range(1, row["version"] + 1)) == [event["seq"] for event in events]
    status = None
    for event in events:
        status = event["data"]["status"] if event["type"] == "imported" else STATUS_AFTER.get(event["type"], status)
    assert status == row["status"], "the event log has another status"
    assert (row["status"] in OPEN) == (row["expires_at"] is not None)
    assert (row["status"] in CLOSED) == (row["closed_at"] is not None)
    tokens = world.of("verification_tokens", identity)
    assert sum(not token["replaced_at"] for token in tokens) <= 1
    for token in tokens:
        assert token["attempts"] <= MAX_ATTEMPTS
        if token["used_at"]:
            assert "verified" in [event["type"] for event in events]
            assert not token["replaced_at"]
            assert token["used_at"] < token["expires_at"]
    for consent in world.of("registration_consents", identity):
        assert events[consent["seq"] - 1]["type"] in ("registered", "imported", "consents_recorded")


def assert_no_mailbox_is_left(world: World) -> None:
    """A mailbox is nowhere in the database if no registration has it."""
    stored_keys = {row["email_key"] for row in world.registrations.values()}
    contents = repr([list(table.values()) for table in world.tables.values()]).casefold()
    for email in MAILBOXES:
        if normalise_email(email).key not in stored_keys:
            assert email.casefold() not in contents


def assert_step_is_legal(before: World, after: World) -> None:
    """Check that one step changed only rows and columns that it may change."""
    for identity in {*before.registrations, *after.registrations}:
        was, is_now = before.registrations.get(identity), after.registrations.get(identity)
        new = [key for key in after.registration_events if key[0] == identity and key not in before.registration_events]
        if was is None:
            assert is_now is not None
            assert [(identity, 1)] == new
        elif is_now is None:
            assert was["status"] in (Status.EXPIRED, Status.CANCELLED), "an open registration was purged"
        else:
            assert set(new) == {(identity, seq) for seq in range(was["version"] + 1, is_now["version"] + 1)}
            if was["status"] != is_now["status"]:
                assert (was["status"], is_now["status"]) in MOVES_OF_STATUS
            if not new:
                assert without_columns(was, COLUMNS_WITHOUT_EVENT) == without_columns(is_now, COLUMNS_WITHOUT_EVENT)
    assert before.registration_events.items() <= after.registration_events.items(), "an event was changed"
    for identity, token in before.verification_tokens.items():
        assert_token_moves_once(before, after, token, after.verification_tokens.get(identity))
    for identity, consent in before.registration_consents.items():
        gone = consent["registration_id"] not in after.registrations
        assert gone or after.registration_consents[identity] == consent, "a consent was changed"


def assert_token_moves_once(before: World, after: World, was: Row, is_now: Row | None) -> None:
    """A token is used or replaced once, and deleted only if it has ended or its registration is erased or purged."""
    if is_now is None:
        registration = after.registrations.get(was["registration_id"])
        gone = registration is None or registration["status"] == Status.ERASED
        assert gone or was["expires_at"] < before.now + timedelta(seconds=10)
        return
    if was["used_at"] or was["replaced_at"]:
        assert without_columns(was, ("attempts",)) == without_columns(is_now, ("attempts",))
    else:
        assert without_columns(was, ("attempts", "used_at", "replaced_at")) == without_columns(
            is_now, ("attempts", "used_at", "replaced_at")
        )
    assert was["attempts"] <= is_now["attempts"] <= was["attempts"] + 1


def without_columns(row: Row, names: tuple[str, ...]) -> Row:
    """Return *row* without some of its columns."""
    return {name: value for name, value in row.items() if name not in names}
