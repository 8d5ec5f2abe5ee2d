"""Tests of the ways in which an `AsyncOutboxWorker` ends: an event, a cancellation, and an error."""

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from outbox_queue import TIMEOUT_SECONDS, Queue
from outbox_tasks import run_in_time, until
from sqlalchemy import text

from registration_persistence import AsyncDatabase, AsyncOutboxWorker, Database, DatabaseSettings
from registration_persistence.errors import SchemaOutdated
from registration_persistence.outcomes import OutboxMessage

HOUR = 3600.0


def test_a_stop_lets_the_deliveries_finish(one_connection: AsyncDatabase, queue: Queue) -> None:
    """No further call begins, the rest is released at once, and what is delivered then is deleted."""
    event_ids = queue.put(10)
    begun: list[UUID] = []

    async def main() -> None:
        stop, gate = asyncio.Event(), asyncio.Event()

        async def deliver(message: OutboxMessage) -> None:
            begun.append(message.event_id)
            await gate.wait()

        worker = AsyncOutboxWorker(one_connection, deliver, concurrency=3, batch=10, acknowledge="batch")
        running = asyncio.create_task(worker.run(stop))
        await until(lambda: len(begun) == 3, "three calls run")
        stop.set()
        await until(lambda: sum(row["due"] for row in queue.rows()) == 7, "the rest is released")
        assert not running.done()
        gate.set()
        await asyncio.wait_for(running, TIMEOUT_SECONDS)
        assert {"delivered": 3, "released": 7} == worker.counts
        await worker.run(stop)
        assert await worker.run_once(stop) == 7
        assert {"delivered": 3, "released": 14} == worker.counts

    run_in_time(main())
    assert event_ids[:3] == begun
    assert [(event_id, 0, True) for event_id in event_ids[3:]] == [
        (row["event_id"], row["attempts"], row["due"]) for row in queue.rows()
    ]


def test_runs_until_it_is_stopped(one_connection: AsyncDatabase, queue: Queue) -> None:
    """A full batch is followed by the next at once; new messages are found; a stop ends the wait for them."""
    queue.put(4)
    delivered: list[UUID] = []

    async def deliver(message: OutboxMessage) -> None:
        delivered.append(message.event_id)

    async def main() -> None:
        stop = asyncio.Event()
        worker = AsyncOutboxWorker(one_connection, deliver, concurrency=2, batch=2)
        slow = asyncio.create_task(worker.run(stop, poll=HOUR))
        await until(lambda: len(delivered) == 4, "two full batches are delivered")
        await asyncio.sleep(0.1)  # it waits now
        stop.set()
        await asyncio.wait_for(slow, TIMEOUT_SECONDS)
        stop.clear()
        quick = asyncio.create_task(worker.run(stop, poll=0.01))
        await asyncio.sleep(0.1)
        queue.put(1)
        await until(lambda: len(delivered) == 5, "the new message is delivered")
        stop.set()
        await asyncio.wait_for(quick, TIMEOUT_SECONDS)

    run_in_time(main())
    assert [] == queue.rows()


def test_a_permanent_error_is_raised_when_the_deliveries_have_ended(
    one_connection: AsyncDatabase, queue: Queue
) -> None:
    """An error of the database ends the worker, but no running call."""
    queue.put(3)
    ended: list[UUID] = []

    async def deliver(message: OutboxMessage) -> None:
        if not ended:
            queue.change("ALTER TABLE outbox RENAME TO gone")
        ended.append(message.event_id)
        if len(ended) > 1:
            await asyncio.sleep(0.1)
            ended.append(message.event_id)

    async def main() -> None:
        worker = AsyncOutboxWorker(one_connection, deliver)
        with pytest.raises(SchemaOutdated):
            await worker.run(asyncio.Event())
        assert len(ended) == 5

    run_in_time(main())


async def by_cancellation(running: Awaitable[None], begun: asyncio.Event) -> None:
    """Cancel the task."""
    task = asyncio.ensure_future(running)
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_timeout(running: Awaitable[None], begun: asyncio.Event) -> None:
    """Let a time limit end."""

    async def expire(limit: asyncio.Timeout) -> None:
        await begun.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            expiry = asyncio.create_task(expire(limit))
            await running
    await expiry


async def by_group(running: Awaitable[None], begun: asyncio.Event) -> None:
    """Let another task of the same group fail."""

    async def run() -> None:
        await running

    async def fail() -> None:
        await begun.wait()
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            group.create_task(fail())
    assert [ZeroDivisionError] == [type(error) for error in raised.value.exceptions]


@pytest.mark.parametrize("end", [by_cancellation, by_timeout, by_group])
def test_a_cancellation_ends_the_deliveries_first(
    one_connection: AsyncDatabase,
    queue: Queue,
    end: Callable[[Awaitable[None], asyncio.Event], Awaitable[None]],
) -> None:
    """Running calls are cancelled and awaited; what they delivered is deleted; what was not tried is released."""
    finishing, cancelled, *others = queue.put(6)
    ended: list[UUID] = []

    async def main() -> None:
        begun, before = asyncio.Event(), asyncio.all_tasks()

        async def deliver(message: OutboxMessage) -> None:
            try:
                if message.event_id == cancelled:
                    begun.set()
                await asyncio.sleep(TIMEOUT_SECONDS)
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)
                ended.append(message.event_id)
                if message.event_id != finishing:
                    raise

        worker = AsyncOutboxWorker(one_connection, deliver, concurrency=2, lease=HOUR)
        await end(worker.run(asyncio.Event()), begun)
        assert {finishing, cancelled} == set(ended)
        assert {"delivered": 1, "released": 4} == worker.counts
        assert before == asyncio.all_tasks()

    run_in_time(main())
    assert [(cancelled, 1, None, False), *((event_id, 0, None, True) for event_id in others)] == [
        (row["event_id"], row["attempts"], row["last_error"], row["due"]) for row in queue.rows()
    ]


def test_a_cancelled_worker_does_not_wait_for_the_database(
    database: Database, database_settings: DatabaseSettings, queue: Queue
) -> None:
    """If the delivered messages cannot be deleted soon, the cancellation ends, and the next run deletes them."""
    queue.put(1)
    patient = AsyncDatabase(replace(database_settings, pool="lambda", lock_timeout=60))

    async def main() -> None:
        begun = asyncio.Event()

        async def deliver(_message: OutboxMessage) -> None:
            begun.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(TIMEOUT_SECONDS)

        worker = AsyncOutboxWorker(patient, deliver)
        with database.session() as session:
            running = asyncio.create_task(worker.run(asyncio.Event()))
            await begun.wait()
            session.execute(text("LOCK TABLE outbox"))
            started = time.monotonic()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert 0.9 < time.monotonic() - started < 5
            assert {} == worker.counts
        assert await worker.run_once() == 0
        assert {"delivered": 1} == worker.counts

    run_in_time(main())
    patient.close_idle()
    assert [] == queue.rows()


def test_random_cancellations_lose_no_message(one_connection: AsyncDatabase, queue: Queue) -> None:
    """Workers are cancelled at random moments, some twice; each message is delivered, and no connection is lost."""
    event_ids, chance = queue.put(120), random.SystemRandom()
    delivered: Counter[UUID] = Counter()

    async def deliver(message: OutboxMessage) -> None:
        await asyncio.sleep(chance.uniform(0, 0.01))
        delivered[message.event_id] += 1

    async def main() -> None:
        before = asyncio.all_tasks()
        worker = AsyncOutboxWorker(one_connection, deliver, concurrency=4, batch=12, max_attempts=10_000, lease=HOUR)
        await one_connection.ping()
        for _ in range(40):
            running = asyncio.create_task(worker.run(asyncio.Event(), poll=0.01))
            await asyncio.sleep(chance.uniform(0, 0.05))
            running.cancel()
            if chance.random() < 0.3:
                await asyncio.sleep(chance.uniform(0, 0.005))
                running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            queue.end_leases()
        while await worker.run_once():
            pass
        pool: Any = one_connection.engine.pool
        assert pool.checkedout() == 0
        assert before == asyncio.all_tasks()

    run_in_time(main())
    assert set(event_ids) == set(delivered)
    assert [] == queue.rows()


def test_an_event_loop_that_is_closed_meanwhile_leaves_the_messages(
    one_connection: AsyncDatabase, queue: Queue
) -> None:
    """Nobody can wait then, so the messages are delivered again after their lease, by the next event loop."""
    event_ids = queue.put(3)
    begun: list[UUID] = []
    hangs = True

    async def deliver(message: OutboxMessage) -> None:
        begun.append(message.event_id)
        if hangs:
            await asyncio.sleep(TIMEOUT_SECONDS)

    worker = AsyncOutboxWorker(one_connection, deliver, concurrency=3)
    loop = asyncio.new_event_loop()
    running = loop.create_task(worker.run(asyncio.Event()))
    loop.run_until_complete(until(lambda: len(begun) == 3, "three calls run"))
    loop.close()
    del running
    gc.collect()

    hangs = False
    queue.end_leases()
    run_in_time(worker.run_once())
    assert event_ids == begun[3:]
    assert {"delivered": 3} == worker.counts
    assert [] == queue.rows()
