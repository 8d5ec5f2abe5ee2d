"""Tasks that are cancelled at random moments: no connection is lost or shared, and no row is lost or doubled."""

import asyncio
import gc
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from awaited.conftest import MakeAsyncDatabase
from sqlalchemy import Connection, text

from registration_persistence import AsyncDatabase

_logger = logging.getLogger(__name__)

_TASKS, _CONNECTIONS = 10, 5

_INSERT = text("INSERT INTO marks VALUES (:number, :part)")

_SESSIONS = """
SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class _Units:
    """Units of work that insert their number; each says how many rows it must have kept.

    Args:
        database: The database.
        generator: Chooses the units.
    """

    def __init__(self, database: AsyncDatabase, generator: random.Random) -> None:
        self._database, self._generator = database, generator
        self._users: Counter[int] = Counter()
        self.kept: dict[int, int] = {}
        self.unknown: dict[int, int] = {}
        self.cancelled = 0
        # The time that a unit takes on this machine.
        self.seconds = 0.3

    async def run(self, number: int) -> None:
        """Run a unit of work until it ends or is cancelled."""
        began = time.monotonic()
        rows, start = self._generator.choice([self._transaction, self._autocommit, self._single, self._block])(number)
        try:
            await start()
            self.kept[number] = rows
            self.seconds += 0.1 * (time.monotonic() - began - self.seconds)
        except asyncio.CancelledError as error:
            self.cancelled += 1
            (outcome,) = [note.rpartition(", ")[2] for note in getattr(error, "__notes__", [])] or ["none"]
            match outcome:
                case "none" | "which was not kept":
                    pass
                case "which was kept":
                    self.kept[number] = rows
                case _:
                    self.unknown[number] = rows

    def _work(self, target: Any, number: int, parts: int) -> None:
        process = target.execute(text("SELECT pg_backend_pid()")).scalar()
        self._users[process] += 1
        try:
            assert self._users[process] == 1, "two units of work share a connection"
            for part in range(parts):
                if self._generator.random() < 0.3:
                    target.execute(text("SELECT pg_sleep(0.003)"))
                target.execute(_INSERT, {"number": number, "part": part})
        finally:
            self._users[process] -= 1

    def _transaction(self, number: int) -> tuple[int, Callable[[], Any]]:
        return 2, lambda: self._database.run(lambda session: self._work(session, number, 2))

    def _autocommit(self, number: int) -> tuple[int, Callable[[], Any]]:
        return 1, lambda: self._database.run(lambda session: self._work(session, number, 1), autocommit=True)

    def _single(self, number: int) -> tuple[int, Callable[[], Any]]:
        def insert(connection: Connection) -> None:
            connection.execute(_INSERT, {"number": number, "part": 0})

        return 1, lambda: self._database.run(insert, single=True)

    def _block(self, number: int) -> tuple[int, Callable[[], Any]]:
        async def block() -> None:
            async with self._database.session() as session:
                await session.execute(_INSERT, {"number": number, "part": 0})
                await asyncio.sleep(0.001)
                await session.run_sync(self._work, number, 1)

        return 2, block


async def _cancel_at_random(units: _Units, generator: random.Random, cancellations: int) -> int:
    """Run units in parallel until so many were cancelled; return the number of the units."""
    loop, slots, number, tasks = asyncio.get_running_loop(), asyncio.Semaphore(_TASKS), 0, set[asyncio.Task[None]]()
    while units.cancelled < cancellations:
        await slots.acquire()
        task = asyncio.create_task(units.run(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _task: slots.release())
        if generator.random() < 0.7:
            moment = generator.uniform(0, 1.5 * units.seconds)
            loop.call_later(moment, task.cancel)
            if generator.random() < 0.2:
                loop.call_later(moment + generator.uniform(0, 0.003), task.cancel)
        number += 1
    await asyncio.gather(*tasks, return_exceptions=True)
    return number


@pytest.mark.parametrize("cancellations", [300, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_random_cancellations(
    make: MakeAsyncDatabase, observer: psycopg.Connection[tuple[Any, ...]], cancellations: int
) -> None:
    """Each row that is reported as kept is there once, the others are missing, and all connections are free."""
    observer.execute("CREATE TABLE marks (number int, part int); GRANT ALL ON marks TO public")
    seed = random.randrange(1_000_000)  # noqa: S311 not for cryptography
    generator = random.Random(seed)  # noqa: S311 not for cryptography
    database = make(pool_size=_CONNECTIONS)
    units = _Units(database, generator)
    problems: list[dict[str, Any]] = []

    async def main() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
        async with asyncio.timeout(cancellations * 0.2):
            number = await _cancel_at_random(units, generator, cancellations)
        assert await database.run(lambda session: session.scalar(text("SELECT 1")), attempts=1) == 1
        return number

    started = time.monotonic()
    number = asyncio.run(main())

    _logger.info("%s of %s units cancelled in %.1f s", units.cancelled, number, time.monotonic() - started)
    _logger.info("%s kept, %s unknown, seed %s", len(units.kept), len(units.unknown), seed)
    _logger.info("%s connections were opened", database.events.count("connection_opened"))
    gc.collect()  # the loop reports the error of a task that was not awaited
    assert not problems, seed
    rows = observer.execute("SELECT number, count(*) FROM marks GROUP BY number").fetchall()
    there = {each: count for each, count in rows if each not in units.unknown}
    assert units.kept == there, seed
    assert all(count == units.unknown[each] for each, count in rows if each in units.unknown), seed
    pool: Any = database.engine.pool
    assert (pool.checkedout(), len(pool._line)) == (0, 0), seed
    assert pool.checkedin() <= _CONNECTIONS
    open_connections = sum(record.dbapi_connection is not None for record in pool._idle)
    for _ in range(100):  # the server may still end the sessions of connections that were closed
        if observer.execute(_SESSIONS).fetchone() == (open_connections, 0):
            break
        time.sleep(0.05)
    assert (open_connections, 0) == observer.execute(_SESSIONS).fetchone(), seed
