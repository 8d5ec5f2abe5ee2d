"""Tests of `AsyncOutboxWorker.run_once`: several deliveries at a time, their acknowledgement, failures and pauses."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import uvloop
from outbox_queue import Queue
from outbox_tasks import run_in_time, until
from support import sent_statements

from registration_persistence import AsyncDatabase, AsyncOutboxWorker, Database
from registration_persistence.database.async_database import awaited_part
from registration_persistence.errors import InvalidInput, Undeliverable
from registration_persistence.outbox_worker.delivery_loop import Acknowledge
from registration_persistence.outcomes import OutboxMessage


class Calls:
    """A `deliver` function whose calls take *seconds*, and the messages and the number of calls at a time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.begun: list[UUID] = []
        self.running = self.most = 0
        self._seconds = seconds

    async def __call__(self, message: OutboxMessage) -> None:
        """Note the message."""
        self.begun.append(message.event_id)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self._seconds)
        self.running -= 1


def drain(worker: AsyncOutboxWorker, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> list[int]:
    """Call `run_once` in one event loop until no message is due, and return its results."""

    async def main() -> list[int]:
        claimed = []
        while number := await worker.run_once():
            claimed.append(number)
        return claimed

    return run_in_time(main(), new_loop)


def test_the_deliveries_run_at_a_time_and_never_more_than_allowed(one_connection: AsyncDatabase, queue: Queue) -> None:
    """They begin in the order of the queue, outside of any session, and a new event loop goes on with the worker."""
    event_ids = queue.put(12)
    calls, begun = Calls(0.02), list[UUID]()

    async def deliver(message: OutboxMessage) -> None:
        begun.append(message.event_id)
        await one_connection.ping()
        await calls(message)

    worker = AsyncOutboxWorker(one_connection, deliver, concurrency=3, batch=5)

    assert 5 == run_in_time(worker.run_once())
    assert [5, 2] == drain(worker)
    assert (event_ids[:3], event_ids) == (begun[:3], sorted(begun))
    assert (3, {"delivered": 12}) == (calls.most, worker.counts)
    assert [] == queue.rows()

    queue.put(3)
    ten = Calls(0.02)
    run_in_time(AsyncOutboxWorker(one_connection, ten).run_once())
    assert ten.most == 3
    queue.put(25)
    run_in_time(AsyncOutboxWorker(one_connection, ten).run_once())
    assert (10, []) == (ten.most, queue.rows())
    one_by_one = Calls(0.0)
    event_ids = queue.put(4)
    run_in_time(AsyncOutboxWorker(one_connection, one_by_one, concurrency=1, batch=1000).run_once())
    assert (1, event_ids) == (one_by_one.most, one_by_one.begun)


@pytest.mark.parametrize("new_loop", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_fifty_deliveries_at_a_time_take_a_fiftieth_of_the_time(
    one_connection: AsyncDatabase, queue: Queue, new_loop: Callable[[], asyncio.AbstractEventLoop] | None
) -> None:
    """200 deliveries of 50 ms take 10 s one after the other; those that end together are deleted together."""
    queue.put(200)
    calls = Calls(0.05)
    worker = AsyncOutboxWorker(one_connection, calls, concurrency=50)
    database, _enter = awaited_part(one_connection)

    started = time.monotonic()
    with sent_statements(database) as sent:
        assert [200] == drain(worker, new_loop)
    seconds = time.monotonic() - started

    assert (50, 200) == (calls.most, worker.counts["delivered"])
    assert seconds < 5
    assert len(sent) < 100
    assert [] == queue.rows()


@pytest.mark.parametrize("acknowledge", ["message", "batch"])
def test_a_message_is_deleted_while_an_earlier_one_is_still_being_delivered(
    one_connection: AsyncDatabase, queue: Queue, acknowledge: Acknowledge
) -> None:
    """Messages are deleted in the order in which their deliveries end; none waits for a longer one."""
    first, second, third = queue.put(3)
    gates = {first: asyncio.Event(), second: asyncio.Event(), third: asyncio.Event()}

    async def deliver(message: OutboxMessage) -> None:
        await gates[message.event_id].wait()

    worker = AsyncOutboxWorker(one_connection, deliver, acknowledge=acknowledge)

    def are_left(others: list[UUID]) -> bool:
        return others == [row["event_id"] for row in queue.rows()]

    async def main() -> None:
        running = asyncio.create_task(worker.run_once())
        for ended, others in ((third, [first, second]), (second, [first]), (first, [])):
            gates[ended].set()
            await until(partial(are_left, others), "the message is deleted")
        assert await running == 3

    run_in_time(main())
    assert {"delivered": 3} == worker.counts


def test_each_message_is_settled_by_its_own_result(one_connection: AsyncDatabase, queue: Queue) -> None:
    """Failures are retried, or buried with the last attempt; `Undeliverable` buries at once; the others are deleted."""
    good, failing, last, refused, odd, used_up = queue.put(6)
    queue.change(f"UPDATE outbox SET attempts = 1, last_error = 'builtins.OSError' WHERE event_id = '{last}'")
    queue.change(f"UPDATE outbox SET attempts = 2, last_error = 'builtins.OSError' WHERE event_id = '{used_up}'")
    called: list[UUID] = []

    async def deliver(message: OutboxMessage) -> None:
        called.append(message.event_id)
        await asyncio.sleep(0)
        if message.event_id in (failing, last):
            raise ConnectionResetError
        if message.event_id == refused:
            raise Undeliverable("smtp:550")
        if message.event_id == odd:
            never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            never.cancel()
            await never

    worker = AsyncOutboxWorker(one_connection, deliver, max_attempts=2)

    assert [6] == drain(worker)
    assert [good, failing, last, refused, odd] == called
    assert {
        failing: ("builtins.ConnectionResetError", False),
        last: ("builtins.ConnectionResetError", True),
        refused: ("smtp:550", True),
        odd: ("asyncio.exceptions.CancelledError", False),
        used_up: ("builtins.OSError", True),
    } == {row["event_id"]: (row["last_error"], row["dead_at"] is not None) for row in queue.rows()}
    assert {"delivered": 1, "retried": 2, "buried": 3} == worker.counts


def test_a_poison_message_is_delivered_alone_and_last(one_connection: AsyncDatabase, queue: Queue) -> None:
    """The others are delivered and deleted before; a second poison message waits for the next batch."""
    poison, other_poison, *harmless = queue.put(6)
    queue.change(f"UPDATE outbox SET attempts = 3 WHERE event_id IN ('{poison}', '{other_poison}')")
    left: dict[UUID, list[UUID]] = {}

    async def deliver(message: OutboxMessage) -> None:
        left[message.event_id] = [row["event_id"] for row in queue.rows()]
        await asyncio.sleep(0.02)

    worker = AsyncOutboxWorker(one_connection, deliver, acknowledge="batch")

    assert [6, 1] == drain(worker)
    assert [*harmless, poison, other_poison] == list(left)
    assert [poison, other_poison] == left[poison]
    assert [other_poison] == left[other_poison]
    assert {"delivered": 6, "released": 1} == worker.counts


def test_an_outage_of_the_mail_server_uses_up_few_attempts(one_connection: AsyncDatabase, queue: Queue) -> None:
    """After five failures no call begins; trials fail without using up attempts, and the first delivery ends it."""
    queue.put(30)
    calls, is_down = Calls(0.01), True

    async def deliver(message: OutboxMessage) -> None:
        await calls(message)
        if is_down:
            raise ConnectionRefusedError

    worker = AsyncOutboxWorker(one_connection, deliver, concurrency=4, batch=30, longest_pause=0.4)

    async def after_the_pause() -> int:
        while not (claimed := await worker.run_once()):  # noqa: ASYNC110 a pause has no event
            await asyncio.sleep(0.005)
        return claimed

    async def main() -> None:
        nonlocal is_down
        assert await worker.run_once() == 30
        assert {"retried": 5, "released": 25} == worker.counts
        assert len(calls.begun) <= 5 + 4
        assert await worker.run_once() == 0, "nothing is claimed during the pause"
        assert [5, 5] == [await after_the_pause() for _ in range(2)]
        assert {"retried": 5, "released": 35} == worker.counts
        is_down = False
        assert await after_the_pause() == 5
        assert await worker.run_once() == 20

    run_in_time(main())
    assert [("builtins.ConnectionRefusedError", 1, None)] * 5 == [
        (row["last_error"], row["attempts"], row["dead_at"]) for row in queue.rows()
    ]


def test_a_function_gets_a_whole_batch(one_connection: AsyncDatabase, queue: Queue) -> None:
    """One call runs at a time, and its result tells which messages were not delivered."""
    event_ids = queue.put(7)
    batches: list[list[UUID]] = []

    async def deliver(messages: Sequence[OutboxMessage]) -> Mapping[UUID, Exception]:
        await asyncio.sleep(0)
        batches.append([message.event_id for message in messages])
        return {event_ids[1]: OSError(), event_ids[2]: Undeliverable("smtp:550")} if len(batches) == 1 else {}

    worker = AsyncOutboxWorker(one_connection, deliver, takes_batch=True, batch=5)

    assert [5, 2] == drain(worker)
    assert [event_ids[:5], event_ids[5:]] == batches
    assert {"delivered": 5, "retried": 1, "buried": 1} == worker.counts


@pytest.mark.parametrize("takes_batch", [False, True])
def test_a_wrong_result_is_one_error(one_connection: AsyncDatabase, queue: Queue, *, takes_batch: bool) -> None:
    """The message stays; the calls that are running finish, and their messages are deleted."""
    event_ids = queue.put(4)
    queue.change(f"UPDATE outbox SET attempts = 3 WHERE event_id = '{event_ids[3]}'")  # alone and last

    async def work() -> None:
        """Do nothing."""

    async def deliver(message: OutboxMessage) -> object:
        await asyncio.sleep(0.01 if message.event_id == event_ids[0] else 0.05)
        return work() if message.event_id == event_ids[0] else None

    async def deliver_batch(_messages: Sequence[OutboxMessage]) -> object:
        return ["sent"]

    function: Any = deliver_batch if takes_batch else deliver
    worker = AsyncOutboxWorker(one_connection, function, takes_batch=takes_batch)

    problem = "something else than None or a mapping" if takes_batch else "returned a coroutine or a generator"
    with pytest.raises(InvalidInput, match=problem):
        run_in_time(worker.run_once())

    left = event_ids if takes_batch else [event_ids[0], event_ids[3]]
    assert left == [row["event_id"] for row in queue.rows()]
    assert worker.counts["delivered"] == 4 - len(left)


def test_one_task_at_a_time_runs_a_worker(database: Database, one_connection: AsyncDatabase, queue: Queue) -> None:
    """A second task gets an error, and the first one goes on; afterwards the worker can be used again."""
    queue.put(2)
    worker = AsyncOutboxWorker(one_connection, Calls(0.05))

    async def main() -> None:
        first, second = await asyncio.gather(worker.run_once(), worker.run_once(), return_exceptions=True)
        assert first == 2
        assert isinstance(second, RuntimeError)
        assert "create a worker for each task" in str(second)
        assert await worker.run_once() == 0

    run_in_time(main())
    assert [] == queue.rows()
    assert database.ping().writable
