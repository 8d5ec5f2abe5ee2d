"""Tests of `OutboxWorker.run`: stopping, lost connections, locks, several workers and killed workers."""

import dataclasses
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Barrier, Event, Thread, Timer
from uuid import UUID

import pytest
from outbox_queue import TIMEOUT_SECONDS, Queue, failing
from processes import running
from sqlalchemy import text
from support import variables_of

from registration_persistence import Database, DatabaseSettings, OutboxWorker
from registration_persistence.errors import SchemaOutdated
from registration_persistence.outbox_worker.delivery_loop import Acknowledge
from registration_persistence.outcomes import OutboxMessage
from registration_persistence.sandbox import wait_until

HOUR = timedelta(hours=1)


def terminate(database: Database, queue: Queue) -> None:
    """Terminate the backend that *database* uses next, and wait for its end."""
    with database.session(autocommit=True) as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    queue.change(f"SELECT pg_terminate_backend({pid})")
    wait_until(lambda: not queue.has_client(pid), "the connection is gone", timeout=TIMEOUT_SECONDS)


def demote(database: Database, _queue: Queue) -> None:
    """Make the next connection of *database* read-only, as after a failover."""
    with database.session(autocommit=True) as session:
        session.execute(text("SET default_transaction_read_only = on"))


def run_until(stop: Event, worker: OutboxWorker, poll: float = 0.01) -> None:
    """Run *worker* until *stop* is set, and raise its exception; fail if it does not end."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            worker.run(stop, poll=poll)
        except Exception as error:  # noqa: BLE001 it is raised again below
            raised.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    ended = not thread.is_alive()
    stop.set()
    assert ended, "the worker did not end"
    for error in raised:
        raise error


def test_runs_until_it_is_stopped(database: Database, queue: Queue) -> None:
    """The worker finds new messages, and releases the rest when it is stopped; if stopped before, it claims none."""
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


def test_a_full_batch_is_followed_by_the_next(database: Database, queue: Queue) -> None:
    """The worker does not wait between them."""
    event_ids, stop = queue.put(4), Event()
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        delivered.append(message.event_id)
        if len(delivered) == 4:
            stop.set()

    run_until(stop, OutboxWorker(database, deliver, batch=2), poll=2 * TIMEOUT_SECONDS)

    assert event_ids == delivered


@pytest.mark.parametrize("fault", [terminate, demote])
def test_a_lost_connection_is_replaced(
    single_connection: Database,
    queue: Queue,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[Database, Queue], None],
) -> None:
    """The connection is replaced before it is used again, and each message is delivered once."""
    event_ids, stop = queue.put(4), Event()
    delivered: list[UUID] = []

    def deliver(message: OutboxMessage) -> None:
        if not delivered:
            fault(single_connection, queue)
        delivered.append(message.event_id)
        if len(delivered) == len(event_ids):
            stop.set()

    worker = OutboxWorker(single_connection, deliver, lease=HOUR)
    run_until(stop, worker)

    assert event_ids == delivered
    assert [] == queue.rows()
    assert {"delivered": 4} == worker.counts
    assert [] == [record for record in caplog.records if record.name == "registration_persistence.outbox_worker"]


def test_a_deletion_that_failed_is_repeated(
    database_settings: DatabaseSettings, database: Database, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that was delivered but could not be deleted is deleted later, also if its lease has ended meanwhile."""
    event_ids, stop = queue.put(4), Event()
    short_limits = Database(dataclasses.replace(database_settings, pool="lambda", lock_timeout=0.2))
    delivered: list[UUID] = []
    locked, release = Event(), Event()

    def hold() -> None:
        with database.session() as session:
            session.execute(text("LOCK TABLE outbox"))
            locked.set()
            release.wait(TIMEOUT_SECONDS)

    holder = Thread(target=hold)
    releaser = Timer(0.5, release.set)

    def deliver(message: OutboxMessage) -> None:
        if not delivered:
            queue.end_leases()
            holder.start()
            locked.wait(TIMEOUT_SECONDS)
            releaser.start()
        delivered.append(message.event_id)
        if set(event_ids) == set(delivered):
            stop.set()

    run_until(stop, OutboxWorker(short_limits, deliver, lease=HOUR))
    for thread in (holder, releaser):
        thread.join()
    short_limits.dispose()

    assert event_ids == delivered
    assert [] == queue.rows()
    assert ["LockTimeout"] == [
        record.getMessage().rpartition(": ")[2]
        for record in caplog.records
        if record.name == "registration_persistence.outbox_worker"
    ]


def test_a_permanent_error_is_raised(database: Database, queue: Queue) -> None:
    """If the error is not retryable, `run` raises it."""
    queue.change("ALTER TABLE outbox RENAME TO gone")

    with pytest.raises(SchemaOutdated):
        run_until(Event(), OutboxWorker(database, failing(AssertionError())))


@pytest.mark.parametrize("acknowledge", ["message", "batch"])
def test_two_workers_share_the_messages(
    database_settings: DatabaseSettings, queue: Queue, acknowledge: Acknowledge
) -> None:
    """Without failures, each of a hundred messages is delivered once, by one of the two."""
    event_ids = queue.put(100)
    both = Barrier(2)

    def work(_number: int) -> list[UUID]:
        delivered: list[UUID] = []

        def deliver(message: OutboxMessage) -> None:
            if not delivered:
                both.wait(TIMEOUT_SECONDS)
            delivered.append(message.event_id)

        database = Database(database_settings)
        worker = OutboxWorker(database, deliver, batch=7, acknowledge=acknowledge)
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

OutboxWorker(get_db(), deliver, batch=5, acknowledge=sys.argv[2]).run(threading.Event(), poll=0.01)
"""


@pytest.mark.parametrize(("acknowledge", "most_again"), [("message", 1), ("batch", 5)])
def test_a_killed_worker_loses_no_message(
    database: Database, queue: Queue, tmp_path: Path, acknowledge: str, most_again: int
) -> None:
    """After SIGKILL at any moment, others deliver the rest, and at most a message, or a batch, is delivered again."""
    event_ids, journal = queue.put(18), tmp_path / "journal"
    journal.touch()

    def delivered() -> list[UUID]:
        return [UUID(line) for line in journal.read_text().splitlines()]

    def has_delivered(number: int) -> bool:
        return len(delivered()) >= number

    # Between delivering and deleting a message, before the next delivery, and at an arbitrary moment.
    moments = (0.0, 0.06, 0.08)
    for moment in moments:
        enough = len(delivered()) + 3
        with running(PROGRAM, str(journal), acknowledge, **variables_of(database.settings)) as process:
            wait_until(partial(has_delivered, enough), "messages are delivered", timeout=TIMEOUT_SECONDS)
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
    assert len(event_ids) <= times.total() <= len(event_ids) + len(moments) * most_again
    assert [] == queue.rows()
