"""The pool of an `AsyncDatabase`: a fair waiting line of tasks, turns with one connection, and clear errors."""

import asyncio
import gc
import re
import time
import weakref
from threading import Event
from typing import Any

import pytest
from awaited.conftest import MakeAsyncDatabase
from sqlalchemy import text
from sqlalchemy.orm import Session

from registration_persistence import Credentials, CredentialSource, deadline
from registration_persistence.errors import PoolExhausted, SecretRefused


def one(session: Session) -> int:
    """Return the process of the server."""
    return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def nap(session: Session) -> None:
    """Hold a connection for a short time."""
    session.execute(text("SELECT pg_sleep(0.002)"))


def test_a_thousand_tasks_share_five_connections(make: MakeAsyncDatabase) -> None:
    """All are served in the order in which they came, and a second thousand needs no more memory than the first."""
    database = make(pool_size=5, connect_timeout=60)

    async def thousand() -> list[int]:
        served: list[int] = []

        async def use(number: int) -> None:
            await database.run(nap, attempts=1)
            served.append(number)

        await asyncio.gather(*(use(number) for number in range(1000)))
        return served

    async def measured() -> tuple[list[int], int]:
        served = await thousand()
        gc.collect()
        before = len(gc.get_objects())
        await thousand()
        gc.collect()
        return served, len(gc.get_objects()) - before

    served, more_objects = asyncio.run(measured())
    assert sorted(served) == list(range(1000))
    # Five are served at a time, so a task can end a few places later than it came, but not many.
    assert max(abs(place - number) for place, number in enumerate(served)) < 20
    assert more_objects < 200
    assert database.events.count("connection_opened") == 5
    pool: Any = database.engine.pool
    assert (0, 5, 0) == (pool.checkedout(), pool.checkedin(), len(pool._line))


def test_no_task_waits_longer_than_its_deadline(make: MakeAsyncDatabase) -> None:
    """A hundred tasks with different deadlines give up in time, while others hold all connections."""
    database = make(pool_size=2, connect_timeout=30)

    async def main() -> list[tuple[float, PoolExhausted]]:
        release = asyncio.Event()

        async def hold() -> None:
            async with database.session() as session:
                await session.execute(text("SELECT 1"))
                await release.wait()

        async def wait(limit: float) -> tuple[float, PoolExhausted]:
            started = time.monotonic()
            with deadline(limit, reserve=0), pytest.raises(PoolExhausted) as raised:
                await database.run(nap)
            return time.monotonic() - started - limit, raised.value

        holders = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0.3)
        results = await asyncio.gather(*(wait(0.2 + number / 200) for number in range(100)))
        release.set()
        await asyncio.gather(*holders)
        assert await database.run(one)
        return results

    results = asyncio.run(main())
    assert max(late for late, _ in results) < 0.5
    errors = {re.sub(r"[\d.]+ s", "n s", str(error)) for _, error in results}
    fix = "close sessions sooner, or raise APP_DATABASE_POOL_SIZE"
    assert {f"all 2 connections of this process stayed checked out for n s: {fix}"} == errors
    assert all(error.retryable for _, error in results)


def test_tasks_take_turns_with_the_one_connection_of_lambda(make: MakeAsyncDatabase) -> None:
    """A task that returns the connection can ask for it again at once, behind those who wait."""
    database = make(pool="lambda", connect_timeout=30)

    async def use(order: list[int], number: int) -> set[int]:
        processes = set()
        for _ in range(10):
            processes.add(await database.run(one, attempts=1))
            order.append(number)
        return processes

    async def main() -> list[int]:
        order: list[int] = []
        used = await asyncio.gather(*(use(order, number) for number in range(10)))
        assert len(set().union(*used)) == 1
        return order

    order = asyncio.run(main())
    rounds = [order[start : start + 10] for start in range(0, 100, 10)]
    assert all(len(set(each)) == 10 for each in rounds[1:-1])
    assert database.events.count("connection_opened") == 1


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"pool": "lambda"}, "set APP_DATABASE_POOL=service if requests run in parallel"),
        ({"pool_size": 1}, "raise APP_DATABASE_POOL_SIZE"),
    ],
)
def test_an_exhausted_pool_says_what_to_change(make: MakeAsyncDatabase, settings: dict[str, Any], fix: str) -> None:
    """A task that holds the connection is told at once; another one waits for it, until its deadline."""
    database = make(**settings, connect_timeout=30)
    nested = f"is already checked out: use the session that is open instead of opening another inside it, or {fix}"
    waiting = f"the one connection of this process stayed checked out for 0.2 s: close sessions sooner, or {fix}"

    async def main() -> None:
        async def wait() -> None:
            with deadline(0.2, reserve=0), pytest.raises(PoolExhausted, match=waiting) as raised:
                await database.run(one)
            assert raised.value.retryable

        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            started = time.monotonic()
            with pytest.raises(PoolExhausted, match=nested) as raised:
                await database.run(one)
            with pytest.raises(PoolExhausted, match=nested):
                async with database.session() as another:
                    await another.execute(text("SELECT 1"))
            assert time.monotonic() - started < 5
            assert not raised.value.retryable
            await asyncio.create_task(wait())
            assert await session.scalar(text("SELECT 1")) == 1
        assert await database.run(one)

    asyncio.run(main())


def test_a_cancelled_task_passes_its_place_on(make: MakeAsyncDatabase) -> None:
    """It is cancelled while it waits, or at the moment at which it gets the connection."""
    database = make(pool="lambda", connect_timeout=30)

    async def main(when: str) -> None:
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            first = asyncio.create_task(database.run(one))
            second = asyncio.create_task(database.run(one))
            await asyncio.sleep(0.1)
            if when == "while it waits":
                first.cancel()
        if when == "when it gets the connection":
            pool: Any = database.engine.pool
            assert (len(pool._line), pool.checkedin()) == (1, 0)
            first.cancel()
        async with asyncio.timeout(2):
            assert await second
        with pytest.raises(asyncio.CancelledError):
            await first

    for when in ("while it waits", "when it gets the connection"):
        asyncio.run(main(when))
    assert database.events.count("connection_opened") == 1


class _FailsFirst(CredentialSource):
    """The first login waits for *release*, and then has no credentials; the later ones have."""

    def __init__(self, credentials: Credentials) -> None:
        self.release, self._credentials, self._calls = Event(), credentials, 0

    def current(self) -> Credentials:
        self._calls += 1
        if self._calls == 1:
            self.release.wait(10)
            raise SecretRefused("the first read is refused")
        return self._credentials


@pytest.mark.parametrize("ends", ["fails", "is cancelled"])
def test_an_attempt_to_connect_that_ends_frees_its_place(make: MakeAsyncDatabase, ends: str) -> None:
    """The first task that waits for a place opens a connection at once."""
    settings = make().settings
    source = _FailsFirst(Credentials(settings.user or "", settings.password or ""))
    database = make(source, pool_size=1, connect_timeout=10)

    async def main() -> float:
        first = asyncio.create_task(database.run(one))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(database.run(one))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        if ends == "fails":
            source.release.set()
        else:
            first.cancel()
        assert await second
        with pytest.raises(SecretRefused if ends == "fails" else asyncio.CancelledError):
            await first
        return time.monotonic() - started

    try:
        assert asyncio.run(main()) < 3
    finally:
        source.release.set()


def test_a_disposed_pool_closes_what_returns(make: MakeAsyncDatabase) -> None:
    """Those who wait get a place of it, the next use opens a new connection, and none is left over."""
    database = make(pool="lambda", connect_timeout=30)

    async def main() -> None:
        old: Any = database.engine.pool
        async with database.session() as session:
            process = await session.scalar(text("SELECT pg_backend_pid()"))
            waiting = asyncio.create_task(database.run(one))
            await asyncio.sleep(0.1)
            await database.dispose()
        assert await waiting != process
        assert await database.run(one) not in {await waiting, process}
        assert (old.checkedin(), old.checkedout()) == (0, 0)

    asyncio.run(main())


def test_a_task_that_goes_on_for_long_holds_no_connection(make: MakeAsyncDatabase) -> None:
    """Without a pool each unit of work has a connection of its own; none is referred to after its end."""
    database = make(pool="proxy")
    found: list[weakref.ref[object]] = []

    def work(session: Session) -> None:
        found.append(weakref.ref(session.connection().connection))

    async def main() -> None:
        for _ in range(4):
            await database.run(work)
        gc.collect()
        assert sum(reference() is not None for reference in found) <= 1

    asyncio.run(main())
