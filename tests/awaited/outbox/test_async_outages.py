"""Tests of `AsyncOutboxWorker` with an outage of the database, several workers, and a killed worker."""

import asyncio
import signal
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from outbox_queue import TIMEOUT_SECONDS, Queue
from outbox_tasks import run_in_time
from processes import running
from support import variables_of

from registration_persistence import AsyncDatabase, AsyncOutboxWorker, Database, DatabaseSettings, OutboxWorker
from registration_persistence.outbox_worker.delivery_loop import Acknowledge
from registration_persistence.outcomes import OutboxMessage
from registration_persistence.sandbox import TcpProxy, wait_until

HOUR = 3600.0


def test_an_outage_of_the_database_ends_no_delivery(
    database_settings: DatabaseSettings, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The running calls finish, their messages are deleted when the database is back, and the event loop stays free."""
    event_ids = queue.put(12)
    delivered: list[UUID] = []
    longest_delay = 0.0

    async def tick() -> None:
        nonlocal longest_delay
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest_delay = max(longest_delay, time.monotonic() - before - 0.01)

    async def main(proxy: TcpProxy, database: AsyncDatabase) -> None:
        down = asyncio.Event()

        async def deliver(message: OutboxMessage) -> None:
            if message.event_id == event_ids[1]:
                proxy.stop_accepting()
                proxy.cut()
                down.set()
            elif message.event_id in event_ids[2:6]:
                await asyncio.sleep(0.5)
            delivered.append(message.event_id)

        worker = AsyncOutboxWorker(database, deliver, concurrency=4, batch=8, lease=HOUR)
        stop = asyncio.Event()
        ticker = asyncio.create_task(tick())
        running = asyncio.create_task(worker.run(stop, poll=0.01))
        await down.wait()
        await asyncio.sleep(2.5)
        assert not running.done()
        assert len(delivered) >= 4, "the running calls have ended"
        proxy.resume_accepting()
        # The part of the batch that had not been tried waits for the end of its lease.
        end = time.monotonic() + TIMEOUT_SECONDS
        while len(delivered) < len(event_ids):
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
            await asyncio.to_thread(queue.end_leases)
        stop.set()
        await asyncio.wait_for(running, TIMEOUT_SECONDS)
        ticker.cancel()
        assert worker.counts["delivered"] == len(event_ids)

    with TcpProxy(database_settings.host, database_settings.port) as proxy:
        here = replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable", connect_timeout=2)
        database = AsyncDatabase(replace(here, pool="lambda"))
        run_in_time(main(proxy, database))
        database.close_idle()

    assert event_ids == sorted(delivered)
    assert [] == queue.rows()
    assert longest_delay < 0.5
    assert "the outbox cannot be read" in caplog.text


def test_two_workers_share_the_messages(database_settings: DatabaseSettings, queue: Queue) -> None:
    """Without failures, each of 200 messages is delivered once, by one of the two."""
    event_ids = queue.put(200)
    delivered: dict[str, list[UUID]] = {"one": [], "other": []}

    async def main() -> None:
        databases = [AsyncDatabase(replace(database_settings, pool="lambda")) for _ in delivered]
        stop = asyncio.Event()
        workers = []
        for name, database in zip(delivered, databases, strict=True):

            async def deliver(message: OutboxMessage, name: str = name) -> None:
                await asyncio.sleep(0.01)
                delivered[name].append(message.event_id)

            workers.append(AsyncOutboxWorker(database, deliver, concurrency=5, batch=20))
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run(stop, poll=0.01))
            while sum(worker.counts["delivered"] for worker in workers) < len(event_ids):  # noqa: ASYNC110 no event
                await asyncio.sleep(0.01)
            stop.set()
        for database in databases:
            await database.dispose()

    run_in_time(main())
    assert all(delivered.values())
    assert event_ids == sorted([*delivered["one"], *delivered["other"]])
    assert [] == queue.rows()


PROGRAM = """
import asyncio, os, sys
from registration_persistence import AsyncOutboxWorker, get_async_db

journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)

async def deliver(message):
    await asyncio.sleep(0.02)
    os.write(journal, f"{message.event_id}\\n".encode())
    await asyncio.sleep(0.02)

worker = AsyncOutboxWorker(get_async_db(), deliver, concurrency=4, batch=20, acknowledge=sys.argv[2])
asyncio.run(worker.run(asyncio.Event(), poll=0.01))
"""


def test_a_killed_worker_loses_no_message(database: Database, queue: Queue, tmp_path: Path) -> None:
    """After SIGKILL, others deliver the rest, and at most *concurrency* messages, or a batch, are delivered again."""
    event_ids, journal = queue.put(60), tmp_path / "journal"
    journal.touch()

    def delivered() -> list[UUID]:
        return [UUID(line) for line in journal.read_text().splitlines()]

    def has_delivered(number: int) -> bool:
        return len(delivered()) >= number

    kills: tuple[tuple[Acknowledge, int, float], ...] = (("message", 4, 0.03), ("batch", 20, 0.0))
    for acknowledge, most_again, moment in kills:
        enough = len(delivered()) + 6
        with running(PROGRAM, str(journal), acknowledge, **variables_of(database.settings)) as process:
            wait_until(partial(has_delivered, enough), "messages are delivered", timeout=TIMEOUT_SECONDS)
            time.sleep(moment)
        assert -signal.SIGKILL == process.returncode
        left = {row["event_id"] for row in queue.rows()}
        assert len(left & set(delivered())) <= most_again
        queue.end_leases()

    by_the_next: list[UUID] = []
    worker = OutboxWorker(database, lambda message: by_the_next.append(message.event_id), acknowledge="batch")
    while worker.run_once():
        pass

    assert by_the_next
    assert set(event_ids) == set(Counter(delivered() + by_the_next))
    assert [] == queue.rows()
