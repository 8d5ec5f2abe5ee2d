"""Wrong uses of an `AsyncDatabase`: each has one clear error, and none hangs."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from awaited.conftest import MakeAsyncDatabase
from sqlalchemy import select, text
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.schema import ForeignKey
from support import untyped

from registration_persistence import (
    AsyncDatabase,
    Database,
    DatabaseSettings,
    RegistrationRepository,
    Retention,
    bulk_import,
)

Observer = psycopg.Connection[tuple[Any, ...]]


async def deferred(session: Session) -> int:
    """Never executed."""
    return int(session.scalar(text("SELECT 1")) or 0)


def returns_awaitable(session: Session) -> object:
    """Return something that would have to be awaited."""
    session.execute(text("INSERT INTO marks VALUES (1)"))
    return deferred(session)


_FIX = (
    "expected a plain function, because the body of a coroutine or of a generator would never be executed; use def "
    r"instead of async def, and no await: in `await AsyncDatabase.run\(work\)`, each statement of a plain function "
    "lets the other tasks of the event loop run"
)


@pytest.mark.parametrize("single", [False, True])
def test_work_must_be_a_plain_function(
    make: MakeAsyncDatabase,
    database_settings: DatabaseSettings,
    observer: Observer,
    single: bool,  # noqa: FBT001 parametrized
) -> None:
    """The error is the same on both sides, and its fix is right for both."""
    observer.execute("CREATE TABLE marks (n int); GRANT ALL ON marks TO public")
    database, blocking = make(), Database(database_settings)

    async def run(work: object) -> None:
        await database.run(untyped(work), single=untyped(single))

    def run_blocking(work: object) -> None:
        blocking.run(untyped(work), single=untyped(single))

    runs: list[Callable[[object], None]] = [run_blocking, lambda work: asyncio.run(run(work))]
    for call in runs:
        with pytest.raises(TypeError, match=f"^the unit of work is a coroutine function or .*: {_FIX}$"):
            call(deferred)
        with pytest.raises(TypeError, match=f"^the unit of work returned a coroutine: {_FIX}$"):
            call(returns_awaitable)
        with pytest.raises(TypeError, match=f"^the unit of work is of type str: {_FIX}$"):
            call("work")
    # In a transaction, nothing was kept.
    assert observer.execute("SELECT count(*) FROM marks").fetchone() == (2 if single else 0,)
    blocking.dispose()


@pytest.mark.parametrize("first", [True, False])
def test_two_tasks_use_a_session_at_once(
    make: MakeAsyncDatabase,
    observer: Observer,
    first: bool,  # noqa: FBT001 parametrized
) -> None:
    """One of them gets an error, whether the session has a connection or not; the database stays usable."""
    observer.execute("CREATE TABLE marks (n int); GRANT ALL ON marks TO public")
    database = make(pool_size=2)
    slow = text("INSERT INTO marks SELECT 1 FROM pg_sleep(0.3)")

    async def main() -> list[BaseException]:
        async with database.session() as session:
            if not first:
                await session.execute(text("SELECT 1"))
            results = await asyncio.gather(session.execute(slow), session.execute(slow), return_exceptions=True)
            errors = [each for each in results if isinstance(each, BaseException)]
            await session.rollback()
        for _ in range(4):
            assert await database.run(lambda session: session.scalar(text("SELECT count(*) FROM marks"))) == 0
        return errors

    (error,) = asyncio.run(main())
    expected = "concurrent operations are not permitted" if first else "a session was used by two tasks at once"
    assert expected in str(error)
    pool: Any = database.engine.pool
    assert pool.checkedout() == 0


def test_the_block_of_a_session_ends_while_a_task_uses_it(make: MakeAsyncDatabase, observer: Observer) -> None:
    """Nothing is kept; the other task gets an error, and no other connection is disturbed."""
    observer.execute("CREATE TABLE marks (n int); GRANT ALL ON marks TO public")
    database = make(pool_size=2)
    slow = text("INSERT INTO marks SELECT 1 FROM pg_sleep(0.5)")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="a session was used by two tasks at once"):
            async with database.session() as session:
                await session.execute(text("INSERT INTO marks VALUES (1)"))
                other = asyncio.create_task(session.execute(slow))
                await asyncio.sleep(0.11)  # the other task has just begun a wait of 0.05 s
        others = [database.run(lambda each: each.execute(text("SELECT pg_sleep(0.1)")).close()) for _ in range(4)]
        await asyncio.gather(*others)
        with pytest.raises(Exception, match=r"lost|closed|This result object"):
            await other

    asyncio.run(main())
    assert database.events.count("wait") == 0, "the socket of a new connection was disturbed"
    assert observer.execute("SELECT count(*) FROM marks").fetchone() == (0,)
    pool: Any = database.engine.pool
    assert pool.checkedout() == 0


def test_run_inside_run(make: MakeAsyncDatabase) -> None:
    """A unit of work cannot await another one; it calls the other function with its own session."""
    database = make(pool="lambda")

    def nested(_session: Session) -> object:
        return database.run(lambda session: session.scalar(text("SELECT 1")))

    def blocking(session: Session) -> None:
        session.execute(text("SELECT 1"))
        coroutine = database.run(lambda session: session.scalar(text("SELECT 1")))
        try:
            asyncio.run(coroutine)
        finally:
            coroutine.close()

    async def main() -> None:
        with pytest.raises(TypeError, match="the unit of work returned a coroutine: expected a plain function"):
            await database.run(nested)
        with pytest.raises(RuntimeError, match=r"asyncio.run\(\) cannot be called from a running event loop"):
            await database.run(blocking)
        assert (await database.ping()).writable

    asyncio.run(main())


def test_use_after_dispose(make: MakeAsyncDatabase) -> None:
    """The next use opens a new connection, as with `Database`; so does a use after `abort_connections`."""
    database = make(pool="lambda")

    async def main() -> None:
        processes = set()
        for end in (database.dispose, database.dispose, None):
            async with database.session() as session:
                processes.add(await session.scalar(text("SELECT pg_backend_pid()")))
            if end:
                await end()
                assert untyped(database.engine.pool).checkedin() == 0
        assert len(processes) == 3
        database.abort_connections()
        assert (await database.ping()).writable

    asyncio.run(main())
    assert database.events.count("connection_opened") == 4


class _Base(DeclarativeBase):
    pass


class _Parent(_Base):
    __tablename__ = "parents"
    id: Mapped[int] = mapped_column(primary_key=True)
    children: Mapped[list["_Child"]] = relationship()


class _Child(_Base):
    __tablename__ = "children"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))


def test_a_use_without_await(make: MakeAsyncDatabase, observer: Observer) -> None:
    """A lazy attribute, or the session in another thread: nothing is sent, and the session is usable."""
    observer.execute("CREATE TABLE parents (id int); CREATE TABLE children (id int, parent_id int)")
    observer.execute("INSERT INTO parents VALUES (1); INSERT INTO children VALUES (2, 1)")
    observer.execute("GRANT ALL ON parents, children TO public")
    database = make(pool="lambda")
    message = "the asynchronous database was used without await, so nothing was sent: .*session.run_sync"

    async def refused(session: AsyncSession, use: Callable[[], object]) -> None:
        with pytest.raises(MissingGreenlet, match=message):
            use()
        with ThreadPoolExecutor(1) as thread, pytest.raises(MissingGreenlet, match=message):
            thread.submit(use).result()
        assert (await session.scalars(select(_Parent.id))).one() == 1

    async def main() -> None:
        async with database.session() as session:
            await refused(session, lambda: session.sync_session.execute(text("SELECT 1")))
            await session.rollback()
        async with database.session() as session:
            parent = (await session.scalars(select(_Parent))).one()
            await refused(session, lambda: parent.children)
            assert [2] == await session.run_sync(lambda _: [child.id for child in parent.children])
        assert [2] == [child.id for child in parent.children]

    asyncio.run(main())
    assert database.events.count("connection_opened") == 1


def test_a_repository_needs_the_synchronous_session(make: MakeAsyncDatabase) -> None:
    """The error names `run_sync`, which is the fix; a database instead of its session is an error, too."""
    database = make()

    async def main() -> None:
        async with database.session() as session, database.engine.connect() as connection:
            for target in (session, connection):
                for use in (RegistrationRepository, Retention, lambda given: bulk_import(given, [])):
                    with pytest.raises(TypeError, match=f"of type {type(target).__name__}: .*session.run_sync"):
                        use(untyped(target))
            assert [] == (await session.run_sync(lambda s: list(RegistrationRepository(s).list_page(limit=1).items)))

    asyncio.run(main())
    with pytest.raises(TypeError, match="of type AsyncDatabase: expected a session or a connection"):
        RegistrationRepository(untyped(database))


def test_a_wrong_argument(make: MakeAsyncDatabase) -> None:
    """The checks are those of `Database`."""
    database = make()

    async def main() -> None:
        with pytest.raises(ValueError, match="autocommit and read_only are both true"):
            database.session(autocommit=True, read_only=True)
        with pytest.raises(ValueError, match="single is true with autocommit or read_only"):
            await untyped(database).run(print, single=True, autocommit=True)
        with pytest.raises(ValueError, match="attempts is out of range"):
            await database.run(print, attempts=0)

    asyncio.run(main())
    assert isinstance(database, AsyncDatabase)
    assert database.events.count("connection_opened") == 0
