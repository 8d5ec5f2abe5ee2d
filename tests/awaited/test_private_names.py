"""The names of SQLAlchemy and psycopg that the asynchronous side uses although they are private, or may change."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import psycopg
import pytest
from awaited.conftest import MakeAsyncDatabase
from psycopg import generators, waiting
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import Pool, base
from sqlalchemy.util import concurrency
from sqlalchemy.util.concurrency import greenlet_spawn

from registration_persistence.database.awaited_connection import AwaitedConnection, AwaitedCursor, AwaitedServerCursor
from registration_persistence.database.pool import BoundedPool


def parameters(function: Callable[..., object]) -> str:
    """Return the names of the parameters."""
    return " ".join(inspect.signature(function).parameters)


def test_the_signatures() -> None:
    """Each function is there, with these parameters."""
    connection = psycopg.Connection
    expected: dict[Callable[..., object], str] = {
        waiting.wait_async: "gen fileno interval timeout",
        waiting.wait_conn_async: "gen interval timeout",
        connection.wait: "self gen interval timeout",
        connection._connect_gen: "conninfo",
        connection._cancel_gen: "self",
        connection._start_query: "self",
        concurrency.greenlet_spawn: "fn args _require_await kwargs",
        concurrency.await_: "awaitable",
        concurrency.in_greenlet: "",
        concurrency.is_cancellation_exception: "e",
        Pool._do_get: "self",
        Pool._do_return_conn: "self record",
        Pool._create_connection: "self",
        Pool._close_connection: "self connection terminate",
        Pool._invalidate: "self connection exception _checkin",
        base._ConnectionRecord.checkin: "self _fairy_was_created",
        base._ConnectionRecord.invalidate: "self e soft",
        base._finalize_fairy: (
            "dbapi_connection connection_record pool echo transaction_was_reset fairy is_gc_cleanup"
        ),
    }
    assert expected == {function: parameters(function) for function in expected}
    assert inspect.iscoroutinefunction(waiting.wait_async)
    assert inspect.iscoroutinefunction(waiting.wait_conn_async)
    assert inspect.isgeneratorfunction(connection._connect_gen), "it is awaited as a generator"
    assert concurrency.is_cancellation_exception(asyncio.CancelledError())
    assert not concurrency.is_cancellation_exception(GeneratorExit())


def test_psycopg_waits_in_the_functions_that_are_replaced(
    make: MakeAsyncDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of psycopg waits for a socket or for a lock in another way than the one that is awaited.

    `wait_conn` gets a generator that has a result at once; `wait` and the lock of `threading` are not used at all.
    """
    database = make(pool="lambda")
    connecting: list[bool] = []

    def wait_conn(gen: Iterator[Any], *_arguments: object, **_named: object) -> Any:
        try:
            next(gen)
        except StopIteration as done:
            connecting.append(True)
            return done.value
        raise AssertionError("psycopg waits for the socket of an attempt to connect")

    def refused(*_arguments: object, **_named: object) -> None:
        raise AssertionError("psycopg waits for a socket without await")

    locked: list[str] = []

    async def main() -> None:
        async with database.session() as session:
            connection: Any = await session.run_sync(lambda each: each.connection().connection.dbapi_connection)
            assert type(connection.lock).__name__ == "_OneTask", "psycopg has replaced the lock"
            monkeypatch.setattr(type(connection.lock), "__enter__", _noting(type(connection.lock).__enter__, locked))
            await session.execute(text("CREATE TABLE marks (n int)"))
            await greenlet_spawn(_use, connection)
            assert isinstance(connection, AwaitedConnection)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await database.run(lambda session: session.execute(text("SELECT pg_sleep(5)")).close())
        assert (await database.ping()).writable

    with monkeypatch.context() as patch:
        patch.setattr(waiting, "wait_conn", wait_conn)
        for name in ("wait", "wait_selector", "wait_select", "wait_epoll", "wait_poll"):
            patch.setattr(waiting, name, refused, raising=name == "wait")
        asyncio.run(main())
    assert connecting
    assert len(locked) >= 8


def _noting(enter: Callable[[Any], None], calls: list[str]) -> Callable[[Any], None]:
    def noting(lock: Any) -> None:
        calls.append("lock")
        enter(lock)

    return noting


def _use(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO marks VALUES (1)")
        cursor.executemany("INSERT INTO marks VALUES (%s)", [(2,), (3,)])
        with cursor.copy("COPY marks FROM STDIN") as copy:
            copy.write_row((4,))
        with cursor.copy("COPY marks TO STDOUT") as copy:
            assert len(list(copy)) == 4
        assert [(1,), (2,)] == list(cursor.stream("SELECT n FROM marks ORDER BY n LIMIT 2"))
    with connection.cursor("named") as cursor:
        assert cursor.execute("SELECT n FROM marks ORDER BY n").fetchmany(2) == [(1,), (2,)]
    with connection.pipeline():
        connection.execute("SELECT 1")
    with connection.transaction():
        connection.execute("SELECT 1")


def test_the_cancellation_of_psycopg_is_a_generator(make: MakeAsyncDatabase) -> None:
    """Libpq cancels without blocking, and `_cancel_gen` says for which socket it waits."""
    database = make(pool="lambda")

    def cancel(driver: Any) -> None:
        steps = driver._cancel_gen()
        socket, _ = next(steps)
        assert isinstance(socket, int)
        steps.close()

    async def main() -> None:
        async with database.session() as session:
            await session.run_sync(lambda each: cancel(each.connection().connection.dbapi_connection))

    asyncio.run(main())
    assert psycopg.capabilities.has_cancel_safe()
    assert callable(generators.cancel)


def test_a_session_of_sqlalchemy_uses_ours(make: MakeAsyncDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AsyncSession` takes its session from a callable, and closes cursors with `_async_soft_close`."""
    database = make(pool="lambda")
    closed: list[str] = []

    async def close(cursor: object) -> None:
        closed.append(type(cursor).__name__)

    monkeypatch.setattr(AwaitedCursor, "_async_soft_close", close)

    async def main() -> None:
        async with database.session() as session:
            assert type(session.sync_session).__name__ == "OutcomeTrackingSession", "sync_session_class is called"
            assert isinstance(session, AsyncSession)
            await session.execute(text("SELECT 1"))
            stream = await session.stream(text("SELECT generate_series(1, 3)"))
            assert [1, 2, 3] == [row[0] async for row in stream]
        async with database.engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1

    asyncio.run(main())
    assert set(closed) == {"AwaitedCursor"}, "AsyncSession.execute does not await _async_soft_close"
    assert inspect.iscoroutinefunction(AwaitedServerCursor._async_soft_close)
    assert isinstance(database.engine, AsyncEngine)


def test_the_pool_of_sqlalchemy(make: MakeAsyncDatabase) -> None:
    """A record is in use until it is checked in, and knows a proxy that was collected."""
    database = make(pool="lambda")

    async def main() -> None:
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            (record,) = database._awaited._records
            entry: Any = record
            assert entry.in_use
            assert not entry.needs_gc
        assert not record.in_use

    asyncio.run(main())
    pool = database.engine.pool
    assert isinstance(pool, BoundedPool)
    for name in ("_pre_ping", "_recycle", "_orig_logging_name", "_reset_on_return", "_dialect", "_creator"):
        assert hasattr(pool, name), f"Pool has no {name}, which `recreate` copies"
    assert pool._dialect.is_async
    assert pool._dialect.has_terminate


def test_the_greenlet_of_sqlalchemy() -> None:
    """It is told from others, shares the context of its task, and gets the error of the task unchanged."""
    variable: ContextVar[int] = ContextVar("variable", default=0)
    error = asyncio.CancelledError("the original")

    async def fail() -> None:
        raise error

    def work() -> int:
        assert concurrency.in_greenlet()
        variable.set(1)
        with pytest.raises(asyncio.CancelledError) as raised:
            concurrency.await_(fail())
        assert raised.value is error
        return concurrency.await_(asyncio.sleep(0, 2))

    async def main() -> int:
        assert not concurrency.in_greenlet()
        result = await concurrency.greenlet_spawn(work)
        assert variable.get() == 1
        return result

    assert asyncio.run(main()) == 2
