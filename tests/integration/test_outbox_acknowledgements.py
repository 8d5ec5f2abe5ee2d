"""Tests of the moments at which an `OutboxWorker` with `acknowledge="batch"` deletes what it has delivered."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest
from outbox_queue import TIMEOUT_SECONDS, Queue
from processes import python_environment
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from support import losing_database, sent_statements, variables_of

from registration_persistence import Database, DatabaseSettings, OutboxWorker
from registration_persistence.errors import LockTimeout
from registration_persistence.outbox_worker import claims, settlement
from registration_persistence.outcomes import OutboxMessage
from registration_persistence.sandbox import wait_until

HOUR = 3600.0


@pytest.fixture
def no_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletions that wait for the end of their batch, and claims of one statement, however slow this machine is."""
    monkeypatch.setattr(settlement, "_SECONDS_BETWEEN_DELETIONS", HOUR)
    monkeypatch.setattr(claims, "_SECONDS_BETWEEN_WHOLE_READS", 0.0)


@contextmanager
def running(worker: OutboxWorker, stop: Event) -> Iterator[None]:
    """Run *worker* in a thread; at the end of the block stop it, and wait for it."""
    thread = Thread(target=worker.run, args=(stop,), kwargs={"poll": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(TIMEOUT_SECONDS)
    assert not thread.is_alive()


def kinds_of(statements: Sequence[str]) -> list[str]:
    """Return what each statement does."""
    names = {"WITH due": "claim", "WITH deleted": "ack and claim", "DELETE FROM": "ack", "UPDATE outbox": "settle"}
    return [names[" ".join(statement.split()[:2])] for statement in statements]


def delivering_to(delivered: list[UUID]) -> Callable[[OutboxMessage], None]:
    """Return a `deliver` function that notes the event ids."""
    return lambda message: delivered.append(message.event_id)


@pytest.mark.usefixtures("no_time_limits")
def test_a_worker_sends_one_statement_for_each_batch(database: Database, queue: Queue) -> None:
    """`run` deletes a full batch together with the next claim: 4 statements for 300 messages in batches of 100."""
    queue.put(320)
    worker = OutboxWorker(database, lambda _message: None, batch=100, acknowledge="batch")
    with sent_statements(database) as sent, running(worker, Event()):
        wait_until(lambda: worker.counts["delivered"] == 320, "all are deleted", timeout=TIMEOUT_SECONDS)

    assert ["claim", "ack and claim", "ack and claim", "ack and claim", "ack"] == kinds_of(sent)[:5]
    assert set(kinds_of(sent)[5:]) <= {"claim"}
    assert [] == queue.rows()


def test_slow_deliveries_are_acknowledged_one_by_one(database: Database, queue: Queue) -> None:
    """A delivered message waits for others for a tenth of a second only, so a crash redelivers few."""
    event_ids = queue.put(3)
    left: list[int] = []

    def deliver(_message: OutboxMessage) -> None:
        left.append(len(queue.rows()))
        time.sleep(0.11)

    OutboxWorker(database, deliver, acknowledge="batch").run_once()

    assert [3, 2, 1] == left
    assert len(event_ids) == 3


@pytest.mark.usefixtures("no_time_limits")
def test_a_failure_delays_no_acknowledgement(database: Database, queue: Queue) -> None:
    """The messages before and after a failed one are deleted together at the end of the batch."""
    event_ids = queue.put(5)

    def deliver(message: OutboxMessage) -> None:
        if message.event_id == event_ids[2]:
            raise ConnectionResetError

    worker = OutboxWorker(database, deliver, acknowledge="batch")
    with sent_statements(database) as sent:
        worker.run_once()

    assert ["claim", "settle", "ack"] == kinds_of(sent)
    assert {"delivered": 4, "retried": 1} == worker.counts
    assert [event_ids[2]] == [row["event_id"] for row in queue.rows()]


@pytest.mark.parametrize("takes_batch", [False, True])
def test_a_failure_that_cannot_be_stored_loses_no_acknowledgement(
    database: Database, queue: Queue, *, takes_batch: bool
) -> None:
    """If the statement that schedules the next attempt fails, those that were delivered before it are deleted."""
    event_ids = queue.put(4)
    queue.change("ALTER TABLE outbox ADD CONSTRAINT no_failures CHECK (last_error IS NULL)")

    def deliver(message: OutboxMessage) -> None:
        if message.event_id == event_ids[2]:
            raise ConnectionResetError

    def deliver_batch(_messages: Sequence[OutboxMessage]) -> Mapping[UUID, Exception]:
        return {event_ids[2]: ConnectionResetError()}

    function: Any = deliver_batch if takes_batch else deliver
    worker = OutboxWorker(database, function, takes_batch=takes_batch, acknowledge="batch")
    with pytest.raises(IntegrityError):
        worker.run_once()

    left = event_ids[2:3] if takes_batch else event_ids[2:]
    assert left == [row["event_id"] for row in queue.rows()]
    assert {"delivered": 4 - len(left)} == worker.counts


@pytest.mark.usefixtures("no_time_limits")
def test_an_interrupt_is_raised_even_if_the_server_refuses_the_deletion(database: Database, queue: Queue) -> None:
    """Otherwise an error of the database would replace it, and the process would not end."""
    event_ids = queue.put(2)
    queue.change("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    queue.change("CREATE TRIGGER refuses BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()")

    def deliver(message: OutboxMessage) -> None:
        if message.event_id == event_ids[1]:
            raise KeyboardInterrupt

    worker = OutboxWorker(database, deliver, acknowledge="batch")
    with pytest.raises(KeyboardInterrupt):
        worker.run_once()
    with pytest.raises(ProgrammingError, match="RaiseException"):
        worker.run_once()
    assert [row["event_id"] for row in queue.rows()] == event_ids


@pytest.mark.usefixtures("no_time_limits")
def test_the_others_are_deleted_before_a_poison_message_is_tried(database: Database, queue: Queue) -> None:
    """If it kills the worker again, none of the others is delivered again."""
    poison, *others = queue.put(4)
    queue.change(f"UPDATE outbox SET attempts = 3 WHERE event_id = '{poison}'")
    left: dict[UUID, int] = {}

    def deliver(message: OutboxMessage) -> None:
        left[message.event_id] = len(queue.rows())

    OutboxWorker(database, deliver, acknowledge="batch").run_once()

    assert {**dict.fromkeys(others, 4), poison: 1} == left
    assert [] == queue.rows()


PROGRAM = """
import os, signal, sys, threading
from registration_persistence import OutboxWorker, get_db
from registration_persistence.outbox_worker import claims, settlement

settlement._SECONDS_BETWEEN_DELETIONS = 3600.0
journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
number = 0

def deliver(message):
    global number
    number += 1
    if number == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(journal, f"{message.event_id}\\n".encode())

OutboxWorker(get_db(), deliver, batch=5, acknowledge="batch").run(threading.Event())
"""


def test_a_crash_redelivers_the_unacknowledged_messages(database: Database, queue: Queue, tmp_path: Path) -> None:
    """A worker that is killed in its second batch has delivered two messages of it, which are delivered again."""
    event_ids, journal = queue.put(12), tmp_path / "journal"
    journal.touch()
    environment = python_environment(**variables_of(database.settings))
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(journal)], env=environment, timeout=TIMEOUT_SECONDS, check=False
    )

    assert -signal.SIGKILL == process.returncode
    assert event_ids[:7] == [UUID(line) for line in journal.read_text().splitlines()]
    attempts = [(row["event_id"], row["attempts"]) for row in queue.rows()]
    assert [*((event_id, 1) for event_id in event_ids[5:10]), *((event_id, 0) for event_id in event_ids[10:])] == (
        attempts
    )
    queue.end_leases()
    again: list[UUID] = []
    OutboxWorker(database, delivering_to(again), batch=100).run_once()
    assert event_ids[5:] == again
    assert [] == queue.rows()


@pytest.mark.usefixtures("no_time_limits")
def test_an_ended_lease_loses_no_message(database: Database, queue: Queue) -> None:
    """Another worker delivers the batch of a slow one again; the slow one then deletes what is left of it."""
    event_ids = queue.put(4)
    by_slow: list[UUID] = []
    by_other: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        by_slow.append(message.event_id)
        if len(by_slow) == 2:
            queue.end_leases()
            other.run_once()

    other = OutboxWorker(database, delivering_to(by_other), batch=3)
    slow = OutboxWorker(database, deliver, acknowledge="batch")
    slow.run_once()

    assert event_ids == by_slow
    assert event_ids[:3] == by_other
    assert [] == queue.rows()


@pytest.mark.usefixtures("no_time_limits")
def test_a_lost_reply_redelivers_nothing(database_settings: DatabaseSettings, queue: Queue) -> None:
    """If the reply of deletion and claim is lost, both were kept: the claimed messages wait for the end of their lease.

    The deletion is repeated, which changes nothing.
    """
    event_ids, stop = queue.put(6), Event()
    delivered: list[tuple[UUID, int]] = []
    with losing_database(database_settings) as (database, proxy):

        def deliver(message: OutboxMessage) -> None:
            delivered.append((message.event_id, message.attempts))
            if len(delivered) == 3:
                proxy.lose_next_reply()

        worker = OutboxWorker(database, deliver, batch=3, lease=HOUR, acknowledge="batch")
        with running(worker, stop):
            wait_until(lambda: proxy.lost_replies == 1, "the reply is lost", timeout=TIMEOUT_SECONDS)
            assert event_ids[3:] == [row["event_id"] for row in queue.rows()]
            wait_until(lambda: worker.counts["delivered"] == 3, "the worker has gone on", timeout=TIMEOUT_SECONDS)
            queue.end_leases()
            wait_until(lambda: worker.counts["delivered"] == 6, "all are deleted", timeout=TIMEOUT_SECONDS)

    assert [*((event_id, 1) for event_id in event_ids[:3]), *((event_id, 2) for event_id in event_ids[3:])] == delivered
    assert [] == queue.rows()


@pytest.mark.usefixtures("no_time_limits")
def test_the_next_call_repeats_a_deletion_that_failed(
    database_settings: DatabaseSettings, database: Database, queue: Queue
) -> None:
    """`run_once` raises, and the next call deletes the messages and delivers none of them again."""
    event_ids = queue.put(4)
    delivered: list[UUID] = []
    short_limits = Database(replace(database_settings, lock_timeout=0.1))
    with database.session() as session:

        def deliver(message: OutboxMessage) -> None:
            delivered.append(message.event_id)
            if len(delivered) == 2:
                session.execute(text("LOCK TABLE outbox"))

        worker = OutboxWorker(short_limits, deliver, batch=2, acknowledge="batch")
        with pytest.raises(LockTimeout):
            worker.run_once()
        with pytest.raises(LockTimeout):
            worker.run_once()
        assert {} == worker.counts
    queue.end_leases()

    assert worker.run_once() == 2
    short_limits.dispose()

    assert event_ids == delivered
    assert {"delivered": 4} == worker.counts
    assert [] == queue.rows()


def test_two_running_workers_deliver_each_message_once(database_settings: DatabaseSettings, queue: Queue) -> None:
    """While both claim and delete at the same time, none is lost, and without a failure none is delivered twice."""
    event_ids = queue.put(400)
    delivered: list[UUID] = []
    stop = Event()
    databases = [Database(database_settings) for _ in range(2)]
    workers = [OutboxWorker(one, delivering_to(delivered), batch=10, acknowledge="batch") for one in databases]
    with running(workers[0], stop), running(workers[1], stop):
        wait_until(lambda: not queue.rows(), "all are deleted", timeout=TIMEOUT_SECONDS)
    for database in databases:
        database.dispose()

    assert event_ids == sorted(delivered)
    assert sum((worker.counts for worker in workers), Counter()) == {"delivered": 400}
