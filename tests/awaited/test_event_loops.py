"""Event loops that end, run again, or run at once; forks, snapshots and SIGTERM."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import psycopg
import pytest
import uvloop
from awaited.conftest import MakeAsyncDatabase
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import variables_of

from registration_persistence import DatabaseSettings, deadline
from registration_persistence.errors import StatementTimeout
from registration_persistence.sandbox import wait_until

NewLoop = Callable[[], asyncio.AbstractEventLoop]

each_loop = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)

_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def run(new_loop: NewLoop, work: Coroutine[Any, Any, Any]) -> Any:
    """Run *work* in a new loop of this kind."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)


def process_of(session: Session) -> int:
    """Return the process of the server."""
    return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def nap(session: Session) -> None:
    """Hold a connection for a short time."""
    session.execute(text("SELECT pg_sleep(0.01)"))


def sleep(session: Session) -> None:
    """Hold a connection for a long time."""
    session.execute(text("SELECT pg_sleep(5)"))


@each_loop
def test_a_loop_for_each_invocation(make: MakeAsyncDatabase, new_loop: NewLoop) -> None:
    """Connections belong to no loop: each new one goes on with them, also if its tasks have waited for a place."""
    database = make(pool_size=2)

    async def invocation() -> set[int]:
        await asyncio.gather(*(database.run(nap, attempts=1) for _ in range(10)))
        async with database.session() as session:
            assert await session.scalar(text("SELECT 1")) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await database.run(sleep)
        with deadline(0.1, reserve=0), pytest.raises(StatementTimeout):
            await database.run(sleep)
        return {await database.run(process_of) for _ in range(4)}

    processes = [run(new_loop, invocation()) for _ in range(4)]
    assert len(set().union(*processes)) == 2
    assert database.events.count("connection_opened") == 2


@each_loop
def test_a_loop_that_is_closed_with_pending_tasks(
    make: MakeAsyncDatabase,
    observer: psycopg.Connection[tuple[Any, ...]],
    caplog: pytest.LogCaptureFixture,
    new_loop: NewLoop,
) -> None:
    """Their connections are closed and their places free at the next use, without a warning."""
    observer.execute("CREATE TABLE marks (n int); GRANT ALL ON marks TO public")
    database = make(pool_size=3, connect_timeout=5)
    insert = text("INSERT INTO marks VALUES (1)")

    def slow(session: Session) -> None:
        session.execute(insert)
        session.execute(text("SELECT pg_sleep(30)"))

    def slow_in_driver(session: Session) -> None:
        session.execute(insert)
        driver: Any = session.connection().connection.dbapi_connection
        driver.execute("SELECT pg_sleep(30)")

    async def block() -> None:
        async with database.session() as session:
            await session.execute(insert)
            await asyncio.sleep(30)

    async def start() -> list[asyncio.Task[Any]]:
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(database.run(work)) for work in (slow, slow_in_driver)]
        tasks.append(asyncio.create_task(block()))
        await asyncio.sleep(0.5)
        tasks += [asyncio.create_task(database.run(process_of)) for _ in range(2)]
        await asyncio.sleep(0.1)
        return tasks

    async def use() -> None:
        async with database.engine.connect() as connection:  # SQLAlchemy's own API
            await connection.execute(text("SELECT 1"))
        await asyncio.gather(*(database.run(nap, attempts=1) for _ in range(6)))

    pool: Any
    for keeps_tasks in (True, False):
        tasks = _abandoned(new_loop, start())
        if not keeps_tasks:
            tasks.clear()
            gc.collect()
        for _ in range(2):
            run(new_loop, use())
            pool = database.engine.pool
            assert (pool.checkedout(), len(pool._line)) == (0, 0)
            tasks.clear()
            gc.collect()
        observer.execute(f"SELECT pg_cancel_backend(pid) {_OTHERS} AND state = 'active'")
        wait_until(lambda: observer.execute(f"SELECT {_OTHERS} AND state <> 'idle'").fetchone() is None, "none is open")
        assert observer.execute(f"SELECT count(*) {_OTHERS}").fetchone() == (pool.checkedin(),)
    assert observer.execute("SELECT count(*) FROM marks").fetchone() == (0,)
    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def _abandoned(new_loop: NewLoop, start: Coroutine[Any, Any, list[asyncio.Task[Any]]]) -> list[asyncio.Task[Any]]:
    """Return the pending tasks of a loop that was closed."""
    loop = new_loop()
    tasks: list[Any] = loop.run_until_complete(start)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task._log_destroy_pending = False  # asyncio's own message
    loop.close()
    return tasks


@each_loop
def test_two_loops_at_once_are_refused(make: MakeAsyncDatabase, new_loop: NewLoop) -> None:
    """The second one gets one error, the first one goes on, and the second one may follow it."""
    database = make(pool="lambda")
    entered, release = Event(), Event()

    async def first() -> int:
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            entered.set()
            await asyncio.to_thread(release.wait, 10)
        return await database.run(process_of)

    async def second() -> None:
        uses = (
            database.run(process_of),
            database.ping(),
            database.warm_up(),
            database.session().__aenter__(),
            database.engine.connect().__aenter__(),
        )
        for use in uses:
            with pytest.raises(RuntimeError, match="is used by another event loop, which is running in another thread"):
                await use

    with ThreadPoolExecutor(1) as thread:
        process = thread.submit(run, new_loop, first())
        assert entered.wait(10)
        run(new_loop, second())
        release.set()
        assert process.result() == run(new_loop, database.run(process_of))
    assert database.events.count("connection_opened") == 1


def test_a_forked_child_has_its_own_connections(make: MakeAsyncDatabase) -> None:
    """Also if the parent forks while its loop runs, and while a connection is in use."""
    database = make(pool_size=2)

    async def parent() -> None:
        async with database.session() as session:
            process = await session.scalar(text("SELECT pg_backend_pid()"))
            child = os.fork()
            if child == 0:
                _end_child(lambda: asyncio.run(database.run(process_of)) not in {process, 0})
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert await session.scalar(text("SELECT pg_backend_pid()")) == process

    asyncio.run(parent())
    child = os.fork()
    if child == 0:
        _end_child(lambda: asyncio.run(database.run(process_of)) > 0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert asyncio.run(database.run(process_of))


def _end_child(is_right: Callable[[], bool]) -> None:
    """End this process, which is a forked child."""
    signal.alarm(20)
    code = 1
    try:
        code = 0 if is_right() else 2
    finally:
        os._exit(code)


_SERVICE = """
import asyncio, os, signal, sys, types
import uvloop

hooks = types.ModuleType("snapshot_restore_py")
hooks.before, hooks.after = [], []
hooks.register_before_snapshot, hooks.register_after_restore = hooks.before.append, hooks.after.append
sys.modules["snapshot_restore_py"] = hooks
os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "sign-up"

from sqlalchemy import text
from registration_persistence import async_session_scope, get_async_db, get_db

def process(session):
    return session.scalar(text("SELECT pg_backend_pid()"))

async def invocation():
    return await get_async_db().run(process)

first = asyncio.run(invocation())
assert first == asyncio.run(invocation()), "one connection for both loops"
assert len(hooks.before) == 2 and len(hooks.after) == 4, (hooks.before, hooks.after)
for hook in hooks.before:
    hook()
assert get_async_db().engine.pool.checkedin() == 0
for hook in hooks.after:
    hook()
assert first != asyncio.run(invocation()), "a new connection after the snapshot"

async def end():
    async with async_session_scope() as session:
        await session.execute(text("CREATE TABLE never (n int)"))
        print("ready", flush=True)
        await session.execute(text("SELECT pg_sleep(30)"))

asyncio.run(end())
"""


def test_snapshots_and_sigterm(
    database_settings: DatabaseSettings, observer: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Idle connections are closed before a snapshot; SIGTERM closes those in use, so the server rolls back at once."""
    environment = {**os.environ, **variables_of(database_settings)}
    with subprocess.Popen([sys.executable, "-c", _SERVICE], env=environment, stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == b"ready\n"
        sleeping = f"SELECT count(*) {_OTHERS} AND query LIKE '%pg_sleep%' AND state = 'active'"
        while observer.execute(sleeping).fetchone() == (0,):
            time.sleep(0.02)
        service.terminate()
        started = time.monotonic()
        assert service.wait() == -signal.SIGTERM
        assert time.monotonic() - started < 10
    assert observer.execute("SELECT to_regclass('never')").fetchone() == (None,)


_IMPORTS = """
import sys
import registration_persistence
from registration_persistence import Database, DatabaseSettings, get_db

ours = {name for name in sys.modules if name.startswith("registration_persistence.") and "awaited" in name}
more = {"greenlet", "sqlalchemy.ext.asyncio", "registration_persistence.database.async_database"} & sys.modules.keys()
assert not ours | more, ours | more
assert {"AsyncDatabase", "get_async_db", "async_session_scope"} <= set(registration_persistence.__all__)

sys.modules["greenlet"] = None
try:
    settings = DatabaseSettings(host="localhost", name="x", user="u", password="p", environment="test")
    registration_persistence.AsyncDatabase(settings)
except ImportError as error:
    assert str(error) == (
        "AsyncDatabase needs the package greenlet: pip install 'registration-persistence[async]'"
    ), error
else:
    raise AssertionError("no error")
"""


def test_nothing_is_loaded_for_a_synchronous_service() -> None:
    """Neither greenlet nor a module of the asynchronous side; without greenlet, the error names the extra."""
    finished = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=False)
    assert (0, "") == (finished.returncode, finished.stderr)
