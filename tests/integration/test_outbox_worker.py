"""Tests of `OutboxWorker.run_once`: deliveries, failures and dead letters."""

import logging
import re
import smtplib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from outbox_queue import Queue, failing
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, ImportRow, OutboxRepository, OutboxWorker, bulk_import
from registration_persistence.errors import InvalidInput, Undeliverable
from registration_persistence.outcomes import OutboxMessage

HOUR = timedelta(hours=1)
MAILBOX = "ada@example.com"


def test_delivers_due_messages(single_connection: Database, queue: Queue) -> None:
    """Each message is delivered in order and outside of any session, and is deleted afterwards."""
    event_ids = queue.put(5)
    delivered: list[OutboxMessage] = []

    def deliver(message: OutboxMessage) -> None:
        single_connection.ping()
        delivered.append(message)
        assert len(event_ids) - len(delivered) + 1 == len(queue.rows())

    worker = OutboxWorker(single_connection, deliver, batch=3)

    assert [3, 2, 0] == [worker.run_once(), worker.run_once(), worker.run_once()]
    assert event_ids == [message.event_id for message in delivered]
    assert {("registration.imported", 1, 1)} == {(m.type, m.seq, m.attempts) for m in delivered}
    assert {"delivered": 5} == worker.counts
    assert [] == queue.rows()


@pytest.mark.parametrize(
    ("failures_before", "seconds"), [(0, 10), (1, 20), (4, 160), (8, 2560), (9, 3600), (999, 3600)]
)
def test_each_failure_doubles_the_delay(database: Database, queue: Queue, failures_before: int, seconds: int) -> None:
    """The delay has a maximum and a jitter of 50 %, which differs between the messages of a batch."""
    queue.put(12)
    queue.change(f"UPDATE outbox SET attempts = {failures_before}, last_error = 'builtins.OSError'")
    worker = OutboxWorker(
        database,
        failing(OSError()),
        batch=12,
        max_attempts=2000,
        first_delay=timedelta(seconds=10),
        longest_delay=HOUR,
        pause_after=13,
    )
    before = queue.now()

    worker.run_once()

    after, messages = queue.now(), queue.rows()
    assert {(failures_before + 1, "builtins.OSError", None)} == {
        (message["attempts"], message["last_error"], message["dead_at"]) for message in messages
    }
    due = [message["available_at"] for message in messages]
    assert before + timedelta(seconds=0.5 * seconds) <= min(due)
    assert max(due) <= after + timedelta(seconds=1.5 * seconds)
    assert max(due) - min(due) > after - before + timedelta(seconds=0.01 * seconds)
    assert {"retried": 12} == worker.counts


def test_a_failure_does_not_delay_other_messages(database: Database, queue: Queue) -> None:
    """The rest of the batch is delivered, and the failed message is delivered when it is due again."""
    first, second, third = queue.put(3)
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        if message.event_id == first and message.attempts == 1:
            raise ConnectionResetError
        delivered.append(message.event_id)

    worker = OutboxWorker(database, deliver)

    assert [3, 0] == [worker.run_once(), worker.run_once()]
    assert [second, third] == delivered
    queue.end_leases()
    assert worker.run_once() == 1
    assert [second, third, first] == delivered
    assert {"delivered": 3, "retried": 1} == worker.counts
    assert [] == queue.rows()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(f"550 {MAILBOX} unknown"), "builtins.ValueError"),
        (smtplib.SMTPRecipientsRefused({MAILBOX: (550, b"unknown")}), "smtplib.SMTPRecipientsRefused"),
        (type("Odd<class>" + "x" * 300, (Exception,), {"__module__": "m"})(MAILBOX), "m.Odd-class-" + "x" * 188),
    ],
    ids=["sentence", "smtp", "odd name"],
)
def test_a_message_is_buried_after_all_attempts(
    database: Database, queue: Queue, caplog: pytest.LogCaptureFixture, error: Exception, reason: str
) -> None:
    """The reason is the class of the error; its message is neither stored nor logged."""
    caplog.set_level(logging.DEBUG)
    (event_id,) = queue.put(1)
    worker = OutboxWorker(database, failing(error), max_attempts=2)

    worker.run_once()
    queue.end_leases()
    worker.run_once()
    queue.end_leases()

    assert worker.run_once() == 0
    (row,) = queue.rows()
    assert (event_id, 2, reason) == (row["event_id"], row["attempts"], row["last_error"])
    assert row["dead_at"] is not None
    assert {"retried": 1, "buried": 1} == worker.counts
    own = [record for record in caplog.records if record.name == "registration_persistence.outbox_worker"]
    assert [logging.WARNING, logging.ERROR] == [record.levelno for record in own]
    assert all(reason in record.getMessage() for record in own)
    assert re.search(r"; trying again in \d+\.\d s$", own[0].getMessage())
    assert all(f"registration {row['registration_id']}" in record.getMessage() for record in own)
    assert MAILBOX not in caplog.text + str([record.__dict__ for record in caplog.records]) + str(row)


@pytest.mark.parametrize(
    ("reason", "stored"),
    [
        ("smtp:550", "smtp:550"),
        (f"550 {MAILBOX} unknown", "registration_persistence.errors.Undeliverable"),
        ("", "registration_persistence.errors.Undeliverable"),
        ("x" * 201, "registration_persistence.errors.Undeliverable"),
        (550, "registration_persistence.errors.Undeliverable"),
    ],
)
def test_an_undeliverable_message_is_buried_at_once(
    database: Database, queue: Queue, caplog: pytest.LogCaptureFixture, reason: Any, stored: str
) -> None:
    """There is one attempt, and the reason of the service is stored unless it could hold a mailbox."""
    caplog.set_level(logging.DEBUG)
    queue.put(1)
    worker = OutboxWorker(database, failing(Undeliverable(reason)))

    worker.run_once()

    (row,) = queue.rows()
    assert (1, stored) == (row["attempts"], row["last_error"])
    assert row["dead_at"] is not None
    assert {"buried": 1} == worker.counts
    assert stored in caplog.text
    assert MAILBOX not in caplog.text + str([record.__dict__ for record in caplog.records])


@pytest.mark.parametrize(
    ("last_error", "reason"), [("NULL", "attempts-used-up"), ("'builtins.OSError'", "builtins.OSError")]
)
def test_a_poison_message_is_buried(database: Database, queue: Queue, last_error: str, reason: str) -> None:
    """After `max_attempts` unreported attempts the message is buried without another attempt."""
    first, second = queue.put(2)
    queue.change(f"UPDATE outbox SET attempts = 3, last_error = {last_error}")
    queue.change(f"UPDATE outbox SET attempts = 2 WHERE event_id = '{second}'")
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        delivered.append(message.event_id)

    worker = OutboxWorker(database, deliver, max_attempts=3)
    worker.run_once()

    assert [second] == delivered
    (row,) = queue.rows()
    assert (first, 4, reason) == (row["event_id"], row["attempts"], row["last_error"])
    assert row["dead_at"] is not None
    assert {"delivered": 1, "buried": 1} == worker.counts


def test_system_exit_is_no_failure(database: Database, queue: Queue) -> None:
    """`SystemExit` is raised; the message stays leased without a reason, as after a crash of the worker."""
    queue.put(1)
    worker = OutboxWorker(database, failing(SystemExit()))

    with pytest.raises(SystemExit):
        worker.run_once()

    assert [(1, None, None, False)] == [
        (row["attempts"], row["last_error"], row["dead_at"], row["due"]) for row in queue.rows()
    ]
    assert {} == worker.counts


def test_a_stop_lets_the_delivery_finish(database: Database, queue: Queue) -> None:
    """The current message is delivered and deleted; the rest is released, and its attempt does not count."""
    event_ids, stop = queue.put(4), Event()
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        delivered.append(message.event_id)
        if len(delivered) == 2:
            stop.set()

    worker = OutboxWorker(database, deliver)

    assert worker.run_once(stop) == 4
    assert event_ids[:2] == delivered
    assert [(event_id, 0, True) for event_id in event_ids[2:]] == [
        (row["event_id"], row["attempts"], row["due"]) for row in queue.rows()
    ]
    assert {"delivered": 2, "released": 2} == worker.counts


def test_no_message_is_delivered_at_the_end_of_its_lease(database: Database, queue: Queue) -> None:
    """The rest of the batch is released, and can be claimed at once."""
    event_ids, lease = queue.put(3), timedelta(seconds=0.5)
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        delivered.append(message.event_id)
        time.sleep(lease.total_seconds())

    worker = OutboxWorker(database, deliver, lease=lease)
    worker.run_once()

    # No message is delivered if the claim alone took longer than the lease.
    assert len(delivered) <= 1
    assert [(event_id, 0, True) for event_id in event_ids[len(delivered) :]] == [
        (row["event_id"], row["attempts"], row["due"]) for row in queue.rows()
    ]
    assert worker.counts["delivered"] == len(delivered)
    assert worker.counts["released"] == 3 - len(delivered)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": -1}, "max_attempts"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": "3"}, "max_attempts"),
        ({"first_delay": timedelta(0)}, "first_delay"),
        ({"first_delay": timedelta(seconds=-1)}, "first_delay"),
        ({"first_delay": timedelta(hours=2)}, "first_delay"),
        ({"longest_delay": timedelta(seconds=1)}, "first_delay"),
        ({"pause_after": 0}, "pause_after"),
        ({"pause_after": 10_001}, "pause_after"),
        ({"pause_after": True}, "pause_after"),
        ({"longest_pause": timedelta(0)}, "longest_pause"),
        ({"acknowledge": "never"}, "acknowledge"),
        ({"takes_batch": 1}, "takes_batch"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], problem: str) -> None:
    """The constructor rejects a worker without attempts or without a delay."""
    database = Database(DatabaseSettings(environment="test", host="nowhere.invalid", name="x", user="x", password="x"))
    with pytest.raises(InvalidInput, match=problem):
        OutboxWorker(database, failing(AssertionError()), **arguments)


def test_a_poison_message_does_not_bury_others(database: Database, announce_ten: list[UUID]) -> None:
    """Of ten messages that crashed workers had claimed, the nine harmless ones are delivered."""
    poison, *harmless = announce_ten
    delivered: list[UUID] = []
    with database.session() as session:
        session.execute(text("UPDATE outbox SET attempts = 10"))

    def deliver(message: OutboxMessage) -> None:
        if message.event_id == poison:
            raise SystemExit
        delivered.append(message.event_id)

    worker = OutboxWorker(database, deliver, max_attempts=12)
    while database_has_messages(database):
        with suppress(SystemExit):
            worker.run_once()
        with database.session() as session:
            session.execute(text("UPDATE outbox SET available_at = now()"))

    assert sorted(harmless) == sorted(delivered)
    with database.session() as session:
        assert [poison] == [message.event_id for message in OutboxRepository(session).dead()]


def database_has_messages(database: Database) -> bool:
    """Return whether there is a message that is not buried."""
    with database.session() as session:
        return bool(session.scalar(text("SELECT count(*) FROM outbox WHERE dead_at IS NULL")))


@pytest.fixture
def announce_ten(database: Database) -> list[UUID]:
    """The event ids of ten stored messages."""
    with database.session() as session:
        bulk_import(session, [ImportRow(f"ada{number}@example.com") for number in range(10)], announce=True)
        return list(session.scalars(text("SELECT event_id FROM outbox ORDER BY event_id")))


async def coroutine(_message: OutboxMessage) -> None:
    """Deliver nothing."""


def generator(_message: OutboxMessage) -> Iterator[None]:
    """Deliver nothing."""
    yield


async def async_generator(_message: OutboxMessage) -> AsyncIterator[None]:
    """Deliver nothing."""
    yield


@pytest.mark.parametrize("deliver", [coroutine, generator, async_generator, None, "mail:deliver"])
def test_coroutine_and_generator_functions_are_rejected(database: Database, deliver: Any) -> None:
    """Their body would not be executed, and the message would be lost."""
    with pytest.raises(InvalidInput, match="coroutine or generator"):
        OutboxWorker(database, deliver)


@pytest.mark.parametrize("deferred", [coroutine, generator, async_generator])
def test_a_returned_coroutine_or_generator_loses_no_message(
    database: Database, announce_ten: list[UUID], deferred: Callable[[OutboxMessage], object]
) -> None:
    """If `deliver` returns a coroutine or a generator, an error is raised and the message stays."""
    worker = OutboxWorker(database, lambda message: deferred(message))  # noqa: PLW0108 the lambda hides the kind of the function

    with pytest.raises(InvalidInput, match="returned a coroutine or a generator"):
        worker.run_once()

    with database.session() as session:
        assert len(announce_ten) == session.scalar(text("SELECT count(*) FROM outbox"))
