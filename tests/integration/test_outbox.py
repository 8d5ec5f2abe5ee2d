"""Tests of `OutboxRepository`: claims, leases, retries and dead letters."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TERMS, Change, Rows, SignUp

from registration_persistence import (
    ConsentRepository,
    Database,
    ImportRow,
    OutboxRepository,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.errors import InvalidInput
from registration_persistence.outcomes import OutboxMessage, Registered
from registration_persistence.repositories.outbox import OutboxPosition

HOUR = timedelta(hours=1)
WHOLE = "SELECT * FROM outbox ORDER BY event_id"
A_MESSAGE = OutboxMessage(uuid4(), uuid4(), "registration.registered", 1, 1, None, datetime.now(UTC), None)

Announce = Callable[[int], list[Any]]


@pytest.fixture
def outbox(database: Database) -> Iterator[OutboxRepository]:
    """A repository in autocommit."""
    with database.session(autocommit=True) as session:
        yield OutboxRepository(session)


@pytest.fixture
def unsent() -> OutboxRepository:
    """A repository without a server: any statement would raise an error of SQLAlchemy."""
    return OutboxRepository(Session())


@pytest.fixture
def announce(database: Database, rows: Rows) -> Announce:
    """Put *number* messages into the outbox, and return the ids of their events in order."""

    def put(number: int) -> list[Any]:
        with database.session() as session:
            bulk_import(session, [ImportRow(f"ada{n}@example.com") for n in range(number)], announce=True)
        return [row["event_id"] for row in rows(WHOLE)]

    return put


def now(rows: Rows) -> datetime:
    """Return the time of the server's clock."""
    moment = rows("SELECT clock_timestamp() AS now")[0]["now"]
    assert isinstance(moment, datetime)
    return moment


def test_the_longest_due_messages_are_claimed_first(
    outbox: OutboxRepository, announce: Announce, change: Change, rows: Rows
) -> None:
    """A batch has at most `limit` messages, those that are due longest, in the order of their events."""
    first, second, third, fourth = announce(4)
    change(
        "UPDATE outbox o SET available_at = now() - n * interval '1 min'"
        " FROM (SELECT event_id, row_number() OVER (ORDER BY event_id) AS n FROM outbox) r"
        " WHERE r.event_id = o.event_id"
    )

    assert [third, fourth] == [message.event_id for message in outbox.claim(2)]
    assert [second] == [message.event_id for message in outbox.claim(1)]
    assert [first] == [message.event_id for message in outbox.claim()]
    assert [] == [row for row in rows(WHOLE) if row["attempts"] != 1]


def test_a_claimed_message_is_leased(outbox: OutboxRepository, announce: Announce, change: Change, rows: Rows) -> None:
    """No other claim gets it until the lease ends; then it is claimed again, and the attempt counts."""
    (event_id,) = announce(1)
    before = now(rows)

    (claimed,) = outbox.claim(lease=HOUR)

    assert before <= claimed.available_at - HOUR <= now(rows)
    assert (event_id, 1, None, None) == (claimed.event_id, claimed.attempts, claimed.last_error, claimed.dead_at)
    assert () == outbox.claim()
    change("UPDATE outbox SET available_at = now()")
    (again,) = outbox.claim()
    assert (event_id, 2) == (again.event_id, again.attempts)


def test_a_claim_skips_locked_messages(database: Database, outbox: OutboxRepository, announce: Announce) -> None:
    """Messages that another transaction is claiming are skipped; after a rollback they can be claimed again."""
    first, second = announce(2)
    with pytest.raises(RuntimeError, match="gone"), database.session() as session:
        assert [first] == [message.event_id for message in OutboxRepository(session).claim(1)]
        assert [second] == [message.event_id for message in outbox.claim()]
        raise RuntimeError("gone")

    assert [(first, 1)] == [(message.event_id, message.attempts) for message in outbox.claim()]


def test_acknowledging_removes_a_message(outbox: OutboxRepository, announce: Announce, rows: Rows) -> None:
    """A delivered message is deleted once, and the other messages stay."""
    announce(3)
    first, second, third = outbox.claim()

    assert outbox.ack(message for message in (first, third)) == 2
    assert outbox.ack([first, third]) == 0
    assert [second.event_id] == [row["event_id"] for row in rows(WHOLE)]


def test_a_claim_deletes_delivered_messages(
    outbox: OutboxRepository, announce: Announce, change: Change, rows: Rows
) -> None:
    """One statement deletes them and claims others; it does not claim them, even if their lease has ended."""
    event_ids = announce(5)
    first, second, third = outbox.claim(3, lease=HOUR)

    others = outbox.claim_from(OutboxPosition(), 1, delivered=iter([first])).messages
    assert [event_ids[3]] == [message.event_id for message in others]
    assert event_ids[1:] == [row["event_id"] for row in rows(WHOLE)]

    change("UPDATE outbox SET available_at = now() - interval '1 s'")
    rest = outbox.claim_from(OutboxPosition(), delivered=[first, second, third]).messages
    assert event_ids[3:] == [message.event_id for message in rest]
    assert event_ids[3:] == [row["event_id"] for row in rows(WHOLE)]
    nothing = outbox.claim_from(OutboxPosition(), delivered=rest)
    assert ((), OutboxPosition()) == nothing
    assert [] == rows(WHOLE)


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(minutes=7)])
def test_a_message_is_tried_again_after_a_delay(
    outbox: OutboxRepository, announce: Announce, rows: Rows, delay: timedelta
) -> None:
    """The message is due when the delay is over, and keeps its reason and its number of attempts."""
    announce(1)
    (message,) = outbox.claim()
    before = now(rows)

    assert outbox.retry(message, "smtp:421", delay) is True

    (row,) = rows(WHOLE)
    assert before <= row["available_at"] - delay <= now(rows)
    assert (1, "smtp:421", None) == (row["attempts"], row["last_error"], row["dead_at"])
    assert (not delay) == bool(outbox.claim())


def test_a_released_message_is_due_at_once(outbox: OutboxRepository, announce: Announce, rows: Rows) -> None:
    """The attempt does not count, and messages claimed by others are not released."""
    announce(2)
    first, second = outbox.claim(lease=HOUR)

    assert outbox.release([first]) == 1

    given_back, kept = rows(WHOLE)
    assert (0, None) == (given_back["attempts"], given_back["last_error"])
    assert (1, second.available_at) == (kept["attempts"], kept["available_at"])
    assert [(first.event_id, 1)] == [(message.event_id, message.attempts) for message in outbox.claim()]


def test_a_buried_message_waits_for_an_operator(
    outbox: OutboxRepository, announce: Announce, change: Change, rows: Rows
) -> None:
    """It is not claimed, and is listed as a dead letter with its reason, until it is revived with all its attempts."""
    announce(1)
    (message,) = outbox.claim()
    before = now(rows)

    assert outbox.bury(message, "smtp:550") is True

    change("UPDATE outbox SET available_at = now()")
    assert () == outbox.claim()
    (dead,) = outbox.dead()
    assert dead.dead_at is not None
    assert before <= dead.dead_at <= now(rows)
    assert (message.event_id, message.registration_id, 1, 1, "smtp:550") == (
        dead.event_id,
        dead.registration_id,
        dead.seq,
        dead.attempts,
        dead.last_error,
    )

    assert outbox.revive(event_id for event_id in [dead.event_id, uuid4()]) == 1

    assert () == outbox.dead()
    assert [(0, None)] == [(row["attempts"], row["dead_at"]) for row in rows(WHOLE)]
    assert [(message.event_id, 1)] == [(m.event_id, m.attempts) for m in outbox.claim()]


def test_revived_messages_are_due_at_once(outbox: OutboxRepository, announce: Announce) -> None:
    """The lease from before the burial is cleared."""
    announce(1)
    (message,) = outbox.claim(lease=HOUR)
    outbox.bury(message, "smtp:550")
    outbox.revive([message.event_id])

    assert [message.event_id] == [revived.event_id for revived in outbox.claim()]


def test_only_dead_letters_are_revived(outbox: OutboxRepository, announce: Announce, rows: Rows) -> None:
    """A message that is being delivered stays leased."""
    announce(1)
    (message,) = outbox.claim(lease=HOUR)
    claimed = rows(WHOLE)

    assert outbox.revive([message.event_id]) == 0
    assert claimed == rows(WHOLE)


def test_dead_letters_are_listed_in_order_of_burial(outbox: OutboxRepository, announce: Announce) -> None:
    """The message that was buried first comes first, and at most `limit` messages are returned."""
    announce(3)
    first, second, third = outbox.claim()
    for message in (second, third, first):
        outbox.bury(message, "smtp:550")

    assert [second.event_id, third.event_id] == [dead.event_id for dead in outbox.dead(2)]
    assert [second.event_id, third.event_id, first.event_id] == [dead.event_id for dead in outbox.dead()]


@pytest.mark.parametrize("meanwhile", ["claimed", "delivered", "buried"])
def test_a_late_worker_changes_nothing(
    outbox: OutboxRepository, announce: Announce, change: Change, rows: Rows, meanwhile: str
) -> None:
    """A worker whose lease has ended cannot change a message that another one has claimed, delivered or buried."""
    announce(1)
    (late,) = outbox.claim()
    change("UPDATE outbox SET available_at = now()")
    if meanwhile == "claimed":
        outbox.claim(lease=HOUR)
    if meanwhile == "delivered":
        outbox.ack(outbox.claim())
    if meanwhile == "buried":
        outbox.bury(late, "smtp:550")
    left = rows(WHOLE)

    assert outbox.retry(late, "smtp:421", timedelta(0)) is False
    assert outbox.bury(late, "smtp:421") is False
    assert outbox.release([late]) == 0
    assert left == rows(WHOLE)


def test_a_late_worker_can_acknowledge(outbox: OutboxRepository, announce: Announce, change: Change) -> None:
    """The message was delivered, so it is deleted, even if another worker has claimed it since."""
    announce(1)
    (late,) = outbox.claim()
    change("UPDATE outbox SET available_at = now()")
    outbox.claim()

    assert outbox.ack([late]) == 1


def test_an_empty_batch_changes_nothing(outbox: OutboxRepository, announce: Announce, rows: Rows) -> None:
    """`ack`, `release` and `revive` accept an empty batch, and change no message."""
    announce(1)
    outbox.claim()
    before = rows(WHOLE)

    assert (0, 0, 0) == (outbox.ack([]), outbox.release([]), outbox.revive([]))
    assert before == rows(WHOLE)


def test_every_committed_event_has_one_message(
    database: Database, verified: Registration, sign_up: SignUp, rows: Rows
) -> None:
    """Each event, whichever method stored it, has one message with its id and number."""
    closed, overdue = sign_up("eve@example.com").registration, sign_up("bob@example.com").registration
    with database.session() as session:
        registrations, retention = RegistrationRepository(session), Retention(session)
        privacy = PrivacyRepository(session)
        registrations.update_profile(verified.id, {"name": "Ada"})
        registrations.activate(verified.id)
        ConsentRepository(session).record(verified.id, [TERMS])
        privacy.erase(verified.id)
        registrations.cancel(closed.id)
        session.execute(text("UPDATE registrations SET expires_at = now() WHERE id = :id"), {"id": overdue.id})
        retention.expire_due()
        bulk_import(session, [ImportRow("eve@example.com"), ImportRow("bob@example.com")], announce=True)

    events = rows("SELECT id, registration_id, 'registration.' || type AS type, seq FROM registration_events")
    with database.session() as session:
        messages = OutboxRepository(session).claim(1000)

    assert {
        "registered", "verified", "profile_updated", "activated", "consents_recorded", "erased", "cancelled",
        "expired", "imported",
    } == {event["type"].removeprefix("registration.") for event in events}  # fmt: skip
    assert sorted((event["id"], event["registration_id"], event["type"], event["seq"]) for event in events) == [
        (message.event_id, message.registration_id, message.type, message.seq) for message in messages
    ]


def test_a_rolled_back_change_has_no_message(
    database: Database, outbox: OutboxRepository, sign_up: SignUp, rows: Rows
) -> None:
    """The message is stored or rolled back together with its change."""
    made = sign_up()
    before = rows(WHOLE)
    with pytest.raises(RuntimeError, match="no"), database.session() as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session)
        verification.verify_by_token(made.token)
        assert isinstance(registrations.register("eve@example.com"), Registered)
        raise RuntimeError("no")

    assert before == rows(WHOLE)
    assert [1] == [message.seq for message in outbox.claim()]


def test_a_reason_may_have_200_characters(outbox: OutboxRepository, announce: Announce, rows: Rows) -> None:
    """The longest reason, with every allowed punctuation character, is stored unchanged."""
    announce(2)
    reason = "smtplib.SMTP_Error:5-50" + "x" * 177
    first, second = outbox.claim()

    assert outbox.retry(first, reason, HOUR)
    assert outbox.bury(second, reason)
    assert [reason, reason] == [row["last_error"] for row in rows(WHOLE)]


@pytest.mark.parametrize(
    "reason",
    [
        "550 ada@example.com unknown",
        "ada@example.com",
        "550 unknown",
        "smtp:550\n",
        "caf\u00e9",
        "",
        "x" * 201,
        None,
        550,
        b"smtp:550",
    ],
)
def test_a_reason_that_could_hold_a_mailbox_is_rejected(unsent: OutboxRepository, reason: Any) -> None:
    """A reason may only have letters, digits and `_.:-`; any other one is neither stored nor quoted."""
    with pytest.raises(InvalidInput, match="could quote a mailbox") as retried:
        unsent.retry(A_MESSAGE, reason, HOUR)
    with pytest.raises(InvalidInput, match="could quote a mailbox") as buried:
        unsent.bury(A_MESSAGE, reason)

    assert "ada@" not in f"{retried.value} {buried.value}"


@pytest.mark.parametrize("message", [A_MESSAGE.event_id, str(A_MESSAGE.event_id), None, 7, {"event_id": 1}])
def test_an_id_is_no_message(unsent: OutboxRepository, message: Any) -> None:
    """An id is rejected, because the number of attempts identifies the claim."""
    calls: list[Callable[[], object]] = [
        lambda: unsent.ack([A_MESSAGE, message]),
        lambda: unsent.ack(message),
        lambda: unsent.release([message]),
        lambda: unsent.retry(message, "smtp:421", HOUR),
        lambda: unsent.bury(message, "smtp:550"),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="expected OutboxMessage objects, as claim returned them"):
            call()


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda outbox: outbox.claim(0), "the limit"),
        (lambda outbox: outbox.claim(1001), "the limit"),
        (lambda outbox: outbox.claim(limit=True), "the limit"),
        (lambda outbox: outbox.claim(lease=timedelta(0)), "the lease"),
        (lambda outbox: outbox.claim(lease="60"), "the lease"),
        (lambda outbox: outbox.dead(0), "the limit"),
        (lambda outbox: outbox.dead(1001), "the limit"),
        (lambda outbox: outbox.retry(A_MESSAGE, "smtp:421", timedelta(seconds=-1)), "the delay"),
        (lambda outbox: outbox.retry(A_MESSAGE, "smtp:421", "5"), "the delay"),
        (lambda outbox: outbox.revive([A_MESSAGE.event_id, str(A_MESSAGE.event_id)]), "the event ids"),
        (lambda outbox: outbox.revive([A_MESSAGE]), "the event ids"),
    ],
)
def test_invalid_arguments_are_rejected(unsent: OutboxRepository, call: Callable[[Any], object], problem: str) -> None:
    """Limits, leases, delays and ids are checked before any statement is sent, and the error names the argument."""
    with pytest.raises(InvalidInput, match=problem):
        call(unsent)


def test_a_late_worker_changes_nothing_after_a_revival(
    outbox: OutboxRepository, announce: Announce, change: Change
) -> None:
    """Both claims have the same number of attempts, and yet the old claim cannot change the message."""
    announce(1)
    (late,) = outbox.claim()
    change("UPDATE outbox SET available_at = now()")
    (given_up,) = outbox.claim()
    outbox.bury(given_up, "smtp:550")
    outbox.revive([late.event_id])
    (held,) = outbox.claim()

    assert held.attempts == late.attempts
    assert not outbox.retry(late, "smtp:421", timedelta(0))
    assert outbox.release([late]) == 0
    assert outbox.bury(held, "smtp:550")
