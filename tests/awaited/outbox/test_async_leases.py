"""Tests of `AsyncOutboxWorker` with deliveries that take as long as their lease, or longer."""

import asyncio
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from outbox_queue import TIMEOUT_SECONDS, Queue
from outbox_tasks import run_in_time
from processes import python_environment
from support import variables_of

from registration_persistence import AsyncDatabase, AsyncOutboxWorker, Database, OutboxWorker
from registration_persistence.outcomes import OutboxMessage
from registration_persistence.sandbox import wait_until


def test_a_lease_that_ends_is_noticed(one_connection: AsyncDatabase, queue: Queue) -> None:
    """No call begins after 90 % of the lease, when the rest is released; running calls are cancelled at its end."""
    event_ids, lease = queue.put(6), 2.0
    begun: list[UUID] = []
    due_at_the_end: list[int] = []
    started = time.monotonic()

    async def deliver(message: OutboxMessage) -> None:
        begun.append(message.event_id)
        try:
            await asyncio.sleep(0.7 * lease if message.event_id in event_ids[:2] else TIMEOUT_SECONDS)
        except asyncio.CancelledError:
            due_at_the_end.append(sum(row["due"] for row in queue.rows()))
            raise

    worker = AsyncOutboxWorker(one_connection, deliver, concurrency=2, lease=lease)

    async def main() -> None:
        assert await worker.run_once() == 6

    run_in_time(main())
    assert lease - 0.1 < time.monotonic() - started < lease + 2
    assert event_ids[:4] == begun
    assert [2, 2] == due_at_the_end, "the rest is released before the running calls end"
    assert {"delivered": 2, "retried": 2, "released": 2} == worker.counts
    assert [
        *((event_id, 1, "builtins.TimeoutError", False) for event_id in event_ids[2:4]),
        *((event_id, 0, None, True) for event_id in event_ids[4:]),
    ] == [(row["event_id"], row["attempts"], row["last_error"], row["due"]) for row in queue.rows()]


def test_a_delivery_that_ends_despite_its_cancellation_counts(one_connection: AsyncDatabase, queue: Queue) -> None:
    """A function may finish what it has begun, when its lease ends."""
    queue.put(2)

    async def deliver(_message: OutboxMessage) -> None:
        try:
            await asyncio.sleep(2 * TIMEOUT_SECONDS)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)

    worker = AsyncOutboxWorker(one_connection, deliver, lease=0.3)
    run_in_time(worker.run_once())

    assert {"delivered": 2} == worker.counts
    assert [] == queue.rows()


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_blocked_event_loop_starts_no_delivery_after_the_lease(
    one_connection: AsyncDatabase, queue: Queue, *, is_cancelled: bool
) -> None:
    """The calls that had been about to begin are not made, and their messages are released, also in a cancellation."""
    event_ids, lease = queue.put(5), 0.5
    begun: list[UUID] = []
    tasks: list[asyncio.Task[int]] = []

    async def deliver(message: OutboxMessage) -> None:
        begun.append(message.event_id)
        time.sleep(lease)  # noqa: ASYNC251 the loop stands still
        if is_cancelled:
            tasks[0].cancel()

    worker = AsyncOutboxWorker(one_connection, deliver, concurrency=3, lease=lease)

    async def main() -> None:
        tasks.append(asyncio.create_task(worker.run_once()))
        await asyncio.wait(tasks)
        assert tasks[0].cancelled() == is_cancelled

    run_in_time(main())

    assert begun == event_ids[: len(begun)]
    assert len(begun) <= 1, "none, if the claim alone took longer"
    assert (len(begun), 5 - len(begun)) == (worker.counts["delivered"], worker.counts["released"])
    assert [(0, True)] * (5 - len(begun)) == [(row["attempts"], row["due"]) for row in queue.rows()]


PROGRAM = """
import asyncio, os, sys
from registration_persistence import AsyncOutboxWorker, get_async_db

journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)

async def deliver(message):
    os.write(journal, b"begun\\n")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        os.write(journal, b"cancelled\\n")
        raise

worker = AsyncOutboxWorker(get_async_db(), deliver, concurrency=2, lease=1.5)
asyncio.run(worker.run_once())
os.write(journal, f"{dict(worker.counts)}\\n".encode())
"""


def test_a_frozen_process_notices_that_its_lease_has_ended(database: Database, queue: Queue, tmp_path: Path) -> None:
    """Its running calls are cancelled, it begins no other, and changes nothing of what another worker has done."""
    event_ids, journal = queue.put(4), tmp_path / "journal"
    journal.touch()

    def has_lines(number: int) -> bool:
        return len(journal.read_text().splitlines()) >= number

    environment = python_environment(**variables_of(database.settings))
    by_other: list[UUID] = []
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(journal)], env=environment) as process:
        try:
            wait_until(partial(has_lines, 2), "two calls have begun", timeout=TIMEOUT_SECONDS)
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
            wait_until(lambda: all(row["due"] for row in queue.rows()), "the lease is over", timeout=TIMEOUT_SECONDS)
            OutboxWorker(database, lambda message: by_other.append(message.event_id)).run_once()
            process.send_signal(signal.SIGCONT)
            assert process.wait(TIMEOUT_SECONDS) == 0
        finally:
            process.kill()

    assert event_ids == by_other
    assert ["begun", "begun", "cancelled", "cancelled"] == journal.read_text().splitlines()[:4]
    assert ["{'released': 0, 'retried': 0}"] == journal.read_text().splitlines()[4:]
    assert [] == queue.rows()
