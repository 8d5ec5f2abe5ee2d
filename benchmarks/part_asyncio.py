"""Part `asyncio`: the throughput of one process with many tasks, and with as many threads."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from typing import Any

from delayed_server import delayed
from measurements import Measurement, skip
from part_warm import unit_database
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from unit_clients import Options

from registration_persistence import AsyncDatabase, Database, DatabaseSettings

LATENCY_SECONDS = 0.001
_TASKS = 50
_CONNECTIONS = 20

_INSERT = "INSERT INTO bench_rows (name) VALUES ({name})"
_STATEMENT = text(_INSERT.format(name=":name"))

TASKS, THREADS = f"this package, {_TASKS} tasks", f"this package, {_TASKS} threads"
SQLALCHEMY, PSYCOPG = f"SQLAlchemy asyncio, {_TASKS} tasks", f"psycopg_pool, {_TASKS} tasks"

Unit = Callable[[int], Awaitable[object]]


def measure(runs: int, *, units: int) -> tuple[list[Measurement], list[str]]:
    """Return the measurement, and the version of the server.

    Args:
        runs: The number of blocks of each candidate.
        units: The number of units in a block.
    """
    measurement = Measurement(
        "throughput",
        f"One INSERT in autocommit at 1 ms, {_CONNECTIONS} connections",
        "units/s",
        exact=False,
        better="higher",
        base=PSYCOPG,
    )
    with unit_database() as (server, options), ExitStack() as stack:
        port = stack.enter_context(delayed(options["host"], options["port"], LATENCY_SECONDS))
        threads = _Threads({**options, "host": "127.0.0.1", "port": port})
        stack.callback(threads.close)
        with asyncio.Runner() as loop:
            tasks = loop.run(_Tasks.open({**options, "host": "127.0.0.1", "port": port}))
            for run in range(runs + 1):  # the first block opens the connections
                rates = {name: loop.run(tasks.units_per_second(name, units)) for name in tasks.units}
                rates[THREADS] = threads.units_per_second(units)
                for name, rate in rates.items() if run else ():
                    measurement.add(name, rate)
            loop.run(tasks.closing.aclose())
        return [measurement], [f"PostgreSQL {server.version} without TLS"]


class _Tasks:
    """The candidates that are awaited.

    Args:
        options: Address and login.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.closing = AsyncExitStack()
        self.units: dict[str, Unit] = {}

    @classmethod
    async def open(cls, options: Options) -> "_Tasks":
        """Open the connections of each candidate."""
        tasks = cls(options)
        tasks.units = {TASKS: tasks._package(), SQLALCHEMY: tasks._sqlalchemy()}
        if find_spec("psycopg_pool"):
            tasks.units[PSYCOPG] = await tasks._psycopg()
        else:
            skip("psycopg-pool: it is not installed")
        return tasks

    def _package(self) -> Unit:
        database = AsyncDatabase(_settings(self._options))
        self.closing.push_async_callback(database.dispose)

        async def unit(number: int) -> object:
            return await database.run(
                lambda connection: connection.execute(_STATEMENT, {"name": str(number)}), single=True
            )

        return unit

    def _sqlalchemy(self) -> Unit:
        there = {key: self._options[key] for key in ("user", "password", "host", "port", "name")}
        engine = create_async_engine(
            "postgresql+psycopg://{user}:{password}@{host}:{port}/{name}".format(**there),
            pool_size=_CONNECTIONS,
            max_overflow=0,
            isolation_level="AUTOCOMMIT",
        )
        self.closing.push_async_callback(engine.dispose)

        async def unit(number: int) -> object:
            async with engine.connect() as connection:
                return await connection.execute(_STATEMENT, {"name": str(number)})

        return unit

    async def _psycopg(self) -> Unit:
        pools: Any = import_module("psycopg_pool")
        names = {"host": "host", "port": "port", "user": "user", "password": "password", "name": "dbname"}
        pool = pools.AsyncConnectionPool(
            kwargs={"autocommit": True, **{libpq: self._options[own] for own, libpq in names.items()}},
            min_size=_CONNECTIONS,
            max_size=_CONNECTIONS,
            open=False,
        )
        await pool.open()
        self.closing.push_async_callback(pool.close)
        statement: Any = _INSERT.format(name="%s")

        async def unit(number: int) -> object:
            async with pool.connection() as connection:
                return await connection.execute(statement, (str(number),))

        return unit

    async def units_per_second(self, name: str, units: int) -> float:
        """Return the rate of the candidate *name* in a block of *units*."""
        unit, numbers = self.units[name], count()

        async def work() -> None:
            while (number := next(numbers)) < units:
                await unit(number)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(_TASKS)))
        return units / (time.perf_counter() - started)


class _Threads:
    """This package with threads.

    Args:
        options: Address and login.
    """

    def __init__(self, options: Options) -> None:
        self._database = Database(_settings(options))
        self._threads = ThreadPoolExecutor(_TASKS)

    def units_per_second(self, units: int) -> float:
        """Return the rate in a block of *units*."""
        started = time.perf_counter()
        list(self._threads.map(self._unit, range(units)))
        return units / (time.perf_counter() - started)

    def _unit(self, number: int) -> None:
        self._database.run(lambda connection: connection.execute(_STATEMENT, {"name": str(number)}), single=True)

    def close(self) -> None:
        """End the threads and close the connections."""
        self._threads.shutdown()
        self._database.dispose()


def _settings(options: Options) -> DatabaseSettings:
    settings = DatabaseSettings(environment="test", sslmode="disable", pool="service", **options)
    return replace(settings, pool_size=_CONNECTIONS)
