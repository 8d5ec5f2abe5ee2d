"""Deliver messages with queues of other projects, for `outbox.py`; each is imported only if it is measured."""

import asyncio
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

Peer = Callable[[str, int, int], float]
"""Delivers messages, and returns the seconds from the first to the last; see `deliver_with_pgqueuer`."""


class Stopwatch:
    """Measures the time from the first to the last call of a function that receives messages."""

    def __init__(self) -> None:
        self.calls = 0
        self._first = self._last = 0.0

    def note(self) -> None:
        """Note a message."""
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self.calls += 1

    def seconds(self, messages: int) -> float:
        """Return the seconds from the first to the last message, of which there must be *messages*."""
        if self.calls != messages:
            raise SystemExit(f"{self.calls} messages were delivered: expected {messages}")
        return self._last - self._first


def deliver_with_pgqueuer(conninfo: str, messages: int, batch: int) -> float:
    """Store and deliver messages with pgqueuer: its psycopg driver, a function that does nothing.

    Args:
        conninfo: The connection string of an empty database.
        messages: The number of messages.
        batch: How many are claimed, and at most how many are logged as done, at once.
    """
    return asyncio.run(_deliver_with_pgqueuer(conninfo, messages, batch))


async def _deliver_with_pgqueuer(conninfo: str, messages: int, batch: int) -> float:
    psycopg, pgqueuer = import_module("psycopg"), import_module("pgqueuer")
    queries = import_module("pgqueuer.queries").Queries
    drain = import_module("pgqueuer.types").QueueExecutionMode.drain
    driver = import_module("pgqueuer.db").PsycopgDriver
    watch = Stopwatch()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        queue = queries(driver(connection))
        await queue.install()
        await queue.enqueue(["deliver"] * messages, [None] * messages, [0] * messages)
        worker = pgqueuer.PgQueuer(driver(connection))

        async def deliver(_job: Any) -> None:
            watch.note()

        worker.entrypoint("deliver")(deliver)
        await worker.run(batch_size=batch, mode=drain)
    return watch.seconds(messages)


def deliver_with_procrastinate(conninfo: str, messages: int, batch: int) -> float:
    """Store and deliver messages with procrastinate, which claims them one by one: a task that does nothing.

    Args:
        conninfo: The connection string of an empty database.
        messages: The number of messages.
        batch: How many tasks may run at the same time.
    """
    return asyncio.run(_deliver_with_procrastinate(conninfo, messages, batch))


async def _deliver_with_procrastinate(conninfo: str, messages: int, batch: int) -> float:
    procrastinate = import_module("procrastinate")
    watch = Stopwatch()
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))

    async def deliver() -> None:
        watch.note()

    task = app.task(name="deliver")(deliver)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await task.batch_defer_async(*[{}] * messages)
        await app.run_worker_async(wait=False, concurrency=batch, delete_jobs="always", install_signal_handlers=False)
    return watch.seconds(messages)


SHARES: Mapping[str, int] = {"pgqueuer": 1, "procrastinate": 10}
"""By how much the number of messages is divided, because the queue is slow."""

PEERS: Mapping[str, Peer] = {
    name: peer
    for name, peer in {"pgqueuer": deliver_with_pgqueuer, "procrastinate": deliver_with_procrastinate}.items()
    if find_spec(name)
}
"""The projects that are installed here."""
