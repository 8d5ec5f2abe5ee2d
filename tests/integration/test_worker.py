"""`OutboxWorker`: what becomes of messages that are delivered, fail, lose their worker or lose their database."""

import dataclasses
import logging
import os
import signal
import smtplib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Event, Thread, Timer
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, ImportRow, OutboxRepository, OutboxWorker, bulk_import
from registration_persistence.errors import InvalidInput, SchemaOutdated, Undeliverable
from registration_persistence.outcomes import OutboxMessage

HOUR = timedelta(hours=1)
MAILBOX = "ada@example.com"
# Seconds after which a test gives up instead of hanging.
TOO_LONG = 60


class Queue:
    """The outbox as the server holds it, seen through connections that the worker does not use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, number: int) -> list[UUID]:
        """Put so many messages into it, and return the ids of all there are, in order."""
        with self._database.session() as session:
            bulk_import(session, [ImportRow("ada@example.com", "pending")] * number, announce=True)
        return [row["event_id"] for row in self.rows()]

    def rows(self) -> list[dict[str, Any]]:
        """Everything that is in it."""
        with self._database.session() as session:
            found = session.execute(text("SELECT *, available_at <= now() AS due FROM outbox ORDER BY event_id"))
            return [dict(row) for row in found.mappings()]

    def change(self, sql: str) -> None:
        """Change it behind the worker's back."""
        with self._database.session() as session:
            session.execute(text(sql))

    def has_client(self, pid: int) -> bool:
        """Whether the server process *pid* is still there."""
        with self._database.session() as session:
            return bool(session.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")))

    def end_leases(self) -> None:
        """Make every message due."""
        self.change("UPDATE outbox SET available_at = now()")

    def now(self) -> datetime:
        """What the server's clock says."""
        with self._database.session() as session:
            moment = session.scalar(text("SELECT clock_timestamp()"))
        assert isinstance(moment, datetime)
        return moment


@pytest.fixture
def queue(database: Database) -> Queue:
    """The outbox of the test's own database."""
    return Queue(database)


@pytest.fixture
def narrow(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database for a worker, with one connection, so that it fails where it delivers inside a session."""
    made = Database(dataclasses.replace(database_settings, pool="lambda"))
    yield made
    made.dispose()


def failing(error: BaseException) -> Callable[[OutboxMessage], None]:
    """A function to deliver with, which always raises *error*."""

    def deliver(_message: OutboxMessage) -> None:
        raise error

    return deliver


def terminate(database: Database, queue: Queue) -> None:
    """Have the server end the connection that *database* will use next, and wait until it has."""
    with database.session(autocommit=True) as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    queue.change(f"SELECT pg_terminate_backend({pid})")
    deadline = time.monotonic() + TOO_LONG
    while queue.has_client(pid):
        assert time.monotonic() < deadline, "the connection is still there"
        time.sleep(0.01)


def demote(database: Database, _queue: Queue) -> None:
    """Have the connection that *database* will use next lead to a reader, as after a failover."""
    with database.session(autocommit=True) as session:
        session.execute(text("SET default_transaction_read_only = on"))


def run_until(stop: Event, worker: OutboxWorker, poll: float = 0.01) -> None:
    """Run *worker* until *stop* is set, and raise what it raised; where it does not end, fail instead of hanging."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            worker.run(stop, poll=poll)
        except Exception as error:  # noqa: BLE001 raised again below
            raised.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(TOO_LONG)
    ended = not thread.is_alive()
    stop.set()
    assert ended, "the worker did not end"
    for error in raised:
        raise error


def test_delivers_what_is_due(narrow: Database, queue: Queue) -> None:
    """Each message is handed over in order, outside of any session, and removed after that; then there is nothing."""
    event_ids = queue.put(5)
    delivered: list[OutboxMessage] = []

    def deliver(message: OutboxMessage) -> None:
        narrow.ping()
        delivered.append(message)
        assert len(event_ids) - len(delivered) + 1 == len(queue.rows())

    worker = OutboxWorker(narrow, deliver, batch=3)

    assert [3, 2, 0] == [worker.run_once(), worker.run_once(), worker.run_once()]
    assert event_ids == [message.event_id for message in delivered]
    assert {("registration.imported", 1, 1)} == {(m.type, m.seq, m.attempts) for m in delivered}
    assert {"delivered": 5} == worker.counts
    assert [] == queue.rows()


@pytest.mark.parametrize(
    ("failures_before", "seconds"), [(0, 10), (1, 20), (4, 160), (8, 2560), (9, 3600), (999, 3600)]
)
def test_each_failure_doubles_the_delay(database: Database, queue: Queue, failures_before: int, seconds: int) -> None:
    """Up to the longest delay, give or take half, and not the same for all messages of a batch."""
    queue.put(12)
    queue.change(f"UPDATE outbox SET attempts = {failures_before}, last_error = 'builtins.OSError'")
    worker = OutboxWorker(
        database,
        failing(OSError()),
        batch=12,
        max_attempts=2000,
        first_delay=timedelta(seconds=10),
        longest_delay=HOUR,
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


def test_a_failure_does_not_hold_the_others_up(database: Database, queue: Queue) -> None:
    """The rest of the batch is delivered, and the message that failed once is delivered when it is due again."""
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
def test_a_message_is_given_up_after_all_attempts(
    database: Database, queue: Queue, caplog: pytest.LogCaptureFixture, error: Exception, reason: str
) -> None:
    """It is buried under the class of the error; what the error says is neither stored nor logged."""
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
def test_what_is_undeliverable_is_given_up_at_once(
    database: Database, queue: Queue, caplog: pytest.LogCaptureFixture, reason: Any, stored: str
) -> None:
    """The first attempt is the last; the service's reason is kept unless it could hold a mailbox."""
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
def test_a_message_that_kills_its_workers_is_given_up(
    database: Database, queue: Queue, last_error: str, reason: str
) -> None:
    """Claimed as often as it may be and never heard of again, it is buried without being tried once more."""
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


def test_what_ends_the_process_is_no_failure(database: Database, queue: Queue) -> None:
    """`SystemExit` is let through; the message stays leased and has no reason, as if the worker had been killed."""
    queue.put(1)
    worker = OutboxWorker(database, failing(SystemExit()))

    with pytest.raises(SystemExit):
        worker.run_once()

    assert [(1, None, None, False)] == [
        (row["attempts"], row["last_error"], row["dead_at"], row["due"]) for row in queue.rows()
    ]
    assert {} == worker.counts


def test_a_stop_lets_the_delivery_finish(database: Database, queue: Queue) -> None:
    """The message that is being delivered is removed; the rest is due at once, as if it had not been claimed."""
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


def test_no_message_is_delivered_on_a_lease_that_ends(database: Database, queue: Queue) -> None:
    """What is left of a batch when its lease is nearly over is given back and can be claimed at once."""
    event_ids, lease = queue.put(3), timedelta(seconds=0.5)
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        delivered.append(message.event_id)
        time.sleep(lease.total_seconds())

    worker = OutboxWorker(database, deliver, lease=lease)
    worker.run_once()

    # None where the machine was so slow that the claim took the lease.
    assert len(delivered) <= 1
    assert [(event_id, 0, True) for event_id in event_ids[len(delivered) :]] == [
        (row["event_id"], row["attempts"], row["due"]) for row in queue.rows()
    ]
    assert worker.counts["delivered"] == len(delivered)
    assert worker.counts["released"] == 3 - len(delivered)


def test_runs_until_it_is_stopped(database: Database, queue: Queue) -> None:
    """It finds what comes later, ends when it is told to and gives the rest back; told before, it does not begin."""
    queue.put(1)
    stop = Event()
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        delivered.append(message.event_id)
        if len(delivered) == 1:
            queue.put(3)
        else:
            stop.set()

    worker = OutboxWorker(database, deliver)
    run_until(stop, worker)
    run_until(stop, worker)

    assert len(set(delivered)) == len(delivered) == 2
    assert [(0, True), (0, True)] == [(row["attempts"], row["due"]) for row in queue.rows()]


def test_does_not_wait_while_there_is_more(database: Database, queue: Queue) -> None:
    """A full batch is followed by the next without a pause."""
    event_ids, stop = queue.put(4), Event()
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        delivered.append(message.event_id)
        if len(delivered) == 4:
            stop.set()

    run_until(stop, OutboxWorker(database, deliver, batch=2), poll=2 * TOO_LONG)

    assert event_ids == delivered


@pytest.mark.parametrize("fate", [terminate, demote])
def test_outlives_its_connection(
    narrow: Database, queue: Queue, caplog: pytest.LogCaptureFixture, fate: Callable[[Database, Queue], None]
) -> None:
    """A connection that is no good any more is replaced before it is used, and everything is delivered once."""
    event_ids, stop = queue.put(4), Event()
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        if not delivered:
            fate(narrow, queue)
        delivered.append(message.event_id)
        if len(delivered) == len(event_ids):
            stop.set()

    worker = OutboxWorker(narrow, deliver, lease=HOUR)
    run_until(stop, worker)

    assert event_ids == delivered
    assert [] == queue.rows()
    assert {"delivered": 4} == worker.counts
    assert [] == [record for record in caplog.records if record.name == "registration_persistence.outbox_worker"]


def test_outlives_a_lock_that_is_not_free(
    database_settings: DatabaseSettings, database: Database, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that was delivered and could not be removed comes once more, and nothing is missing."""
    event_ids, stop = queue.put(4), Event()
    hasty = Database(dataclasses.replace(database_settings, pool="lambda", lock_timeout=0.2))
    delivered: list[UUID] = []
    locked, release = Event(), Event()

    def hold() -> None:
        with database.session() as session:
            session.execute(text("LOCK TABLE outbox"))
            locked.set()
            release.wait(TOO_LONG)

    holder = Thread(target=hold)
    releaser = Timer(0.5, release.set)

    def deliver(message: OutboxMessage) -> None:
        if not delivered:
            queue.end_leases()
            holder.start()
            locked.wait(TOO_LONG)
            releaser.start()
        delivered.append(message.event_id)
        if set(event_ids) == set(delivered):
            stop.set()

    run_until(stop, OutboxWorker(hasty, deliver, lease=HOUR))
    for thread in (holder, releaser):
        thread.join()
    hasty.dispose()

    assert [event_ids[0], *event_ids] == delivered
    assert [] == queue.rows()
    assert ["LockTimeout"] == [
        record.getMessage().rpartition(": ")[2]
        for record in caplog.records
        if record.name == "registration_persistence.outbox_worker"
    ]


def test_a_failure_that_stays_is_raised(database: Database, queue: Queue) -> None:
    """Where waiting does not help, the one who started the worker is told."""
    queue.change("ALTER TABLE outbox RENAME TO gone")

    with pytest.raises(SchemaOutdated):
        run_until(Event(), OutboxWorker(database, failing(AssertionError())))


def test_two_workers_share_the_work(database_settings: DatabaseSettings, queue: Queue) -> None:
    """Where nothing fails, each of a hundred messages is delivered by one of the two and by that one once."""
    event_ids = queue.put(100)
    both = Barrier(2)

    def work(_number: int) -> list[UUID]:
        delivered: list[UUID] = []

        def deliver(message: OutboxMessage) -> None:
            if not delivered:
                both.wait(TOO_LONG)
            delivered.append(message.event_id)

        database = Database(database_settings)
        worker = OutboxWorker(database, deliver, batch=7)
        while worker.run_once():
            pass
        database.dispose()
        assert {"delivered": len(delivered)} == worker.counts
        return delivered

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(work, range(2))

    assert one
    assert other
    assert event_ids == sorted(one + other)
    assert [] == queue.rows()


PROGRAM = """
import os, sys, threading, time
from registration_persistence import OutboxWorker, get_db

journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)

def deliver(message):
    time.sleep(0.04)
    os.write(journal, f"{message.event_id}\\n".encode())
    os.fsync(journal)
    time.sleep(0.04)

OutboxWorker(get_db(), deliver, batch=5).run(threading.Event(), poll=0.01)
"""


@contextmanager
def working(settings: DatabaseSettings, journal: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, which writes what it delivers to *journal*; killed at the end."""
    environment = {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": settings.host,
        "APP_DATABASE_PORT": str(settings.port),
        "APP_DATABASE_NAME": settings.name,
        "APP_DATABASE_USER": str(settings.user),
        "APP_DATABASE_PASSWORD": str(settings.password),
        "APP_DATABASE_SSLMODE": settings.sslmode,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with subprocess.Popen([sys.executable, "-c", PROGRAM, journal], env={**os.environ, **environment}) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_worker_that_is_killed_loses_nothing(database: Database, queue: Queue, tmp_path: Path) -> None:
    """Wherever SIGKILL meets it, the others deliver the rest, and of what it delivered at most one message again."""
    event_ids, journal = queue.put(18), tmp_path / "journal"
    journal.touch()

    def delivered() -> list[UUID]:
        return [UUID(line) for line in journal.read_text().splitlines()]

    # Between delivering and removing a message; before delivering the next; wherever it is then.
    moments = (0.0, 0.06, 0.08)
    for moment in moments:
        enough, deadline = len(delivered()) + 3, time.monotonic() + TOO_LONG
        with working(database.settings, journal) as process:
            while len(delivered()) < enough:
                assert process.poll() is None, "the worker ended by itself"
                assert time.monotonic() < deadline, "the worker delivers nothing"
                time.sleep(0.005)
            time.sleep(moment)
        assert -signal.SIGKILL == process.returncode
        queue.end_leases()

    by_the_dead = delivered()
    by_the_next: list[UUID] = []
    worker = OutboxWorker(database, lambda message: by_the_next.append(message.event_id))
    while worker.run_once():
        pass

    assert by_the_next
    times = Counter(by_the_dead + by_the_next)
    assert set(event_ids) == set(times)
    assert len(event_ids) <= times.total() <= len(event_ids) + len(moments)
    assert [] == queue.rows()


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
    ],
)
def test_refuses_wrong_arguments(arguments: dict[str, Any], problem: str) -> None:
    """A worker that could try nothing, or wait for nothing, is not made."""
    database = Database(DatabaseSettings(environment="test", host="nowhere.invalid", name="x", user="x", password="x"))
    with pytest.raises(InvalidInput, match=problem):
        OutboxWorker(database, failing(AssertionError()), **arguments)


def test_one_message_that_kills_gets_no_other_buried(database: Database, announce_ten: list[UUID]) -> None:
    """Of ten messages that were claimed by workers that died, the nine that are harmless are delivered."""
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
    """Whether there is a message that was not given up."""
    with database.session() as session:
        return bool(session.scalar(text("SELECT count(*) FROM outbox WHERE dead_at IS NULL")))


@pytest.fixture
def announce_ten(database: Database) -> list[UUID]:
    """The events of ten messages."""
    with database.session() as session:
        bulk_import(session, [ImportRow(f"ada{number}@example.com") for number in range(10)], announce=True)
        return list(session.scalars(text("SELECT event_id FROM outbox ORDER BY event_id")))


async def coroutine(_message: OutboxMessage) -> None:
    """Deliver nothing."""


def generator(_message: OutboxMessage) -> Iterator[None]:
    """Deliver nothing."""
    yield


@pytest.mark.parametrize("deliver", [coroutine, generator, None, "mail:deliver"])
def test_a_function_whose_body_would_not_run_is_refused(database: Database, deliver: Any) -> None:
    """A coroutine or a generator returns at once, and its message would be lost."""
    with pytest.raises(InvalidInput, match="coroutine or generator"):
        OutboxWorker(database, deliver)


def test_a_generator_that_hides_in_a_lambda_loses_nothing(database: Database, announce_ten: list[UUID]) -> None:
    """What could not be seen before is an error when it is returned, and the message stays."""
    worker = OutboxWorker(database, lambda message: generator(message))  # noqa: PLW0108 the point

    with pytest.raises(InvalidInput, match="returned a coroutine or a generator"):
        worker.run_once()

    with database.session() as session:
        assert len(announce_ten) == session.scalar(text("SELECT count(*) FROM outbox"))
