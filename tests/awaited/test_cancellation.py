"""A task that is cancelled: the server ends its statement, its transaction is rolled back, its connection is free."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from awaited.conftest import MakeAsyncDatabase
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session
from support import SLOW_COMMIT, OneLossProxy

from registration_persistence import AsyncDatabase, DatabaseSettings, RegistrationRepository, deadline
from registration_persistence.database import commit_guard
from registration_persistence.database.operations import Operation
from registration_persistence.errors import ConnectionLost
from registration_persistence.sandbox import TcpProxy

PUBLIC = "GRANT ALL ON ALL TABLES IN SCHEMA public TO public"

Observer = psycopg.Connection[tuple[Any, ...]]

_TABLES = f"""
CREATE TABLE marks (n int);
CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$;
CREATE TABLE naps (n int);
CREATE TRIGGER nap AFTER INSERT ON naps FOR EACH STATEMENT EXECUTE FUNCTION nap();
{SLOW_COMMIT}
CREATE FUNCTION check_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(0.6);
    IF NEW.n < 0 THEN RAISE check_violation; END IF;
    RETURN NULL;
END $$;
CREATE TABLE checked_later (n int);
CREATE CONSTRAINT TRIGGER check_later AFTER INSERT ON checked_later
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_later();
"""

_SLEEP = text("SELECT pg_sleep(10)")
_MARK = text("INSERT INTO marks VALUES (1)")

_BUSY = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_RUNNING = f"{_BUSY} AND state = 'active'"
_OPEN = f"{_BUSY} AND state <> 'idle'"


def driver_of(target: Session | Connection) -> psycopg.Connection[Any]:
    """Return the psycopg connection under *target*."""
    connection = target.connection() if isinstance(target, Session) else target
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def first_statement(session: Session) -> None:
    """Wait in the flight that holds BEGIN too."""
    session.execute(_SLEEP)


def later_statement(session: Session) -> None:
    """Wait after a change in the same transaction."""
    session.execute(_MARK)
    session.execute(_SLEEP)


def simple_statement(target: Any) -> None:
    """Wait in a change."""
    target.execute(text("INSERT INTO marks SELECT 1 FROM pg_sleep(10)"))


def executemany(session: Session) -> None:
    """Wait in the pipeline of psycopg's `executemany`."""
    session.execute(_MARK)
    with driver_of(session).cursor() as cursor:
        cursor.executemany("INSERT INTO naps VALUES (%s)", [(number,) for number in range(100)])


def copy_in(session: Session) -> None:
    """Wait at the end of COPY FROM."""
    with driver_of(session).cursor() as cursor, cursor.copy("COPY naps FROM STDIN") as copy:
        copy.write_row((1,))


def copy_out(session: Session) -> None:
    """Wait for a row of COPY TO."""
    session.execute(_MARK)
    with (
        driver_of(session).cursor() as cursor,
        cursor.copy("COPY (SELECT pg_sleep(10) FROM generate_series(1, 9)) TO STDOUT") as copy,
    ):
        copy.read()


def server_cursor(session: Session) -> None:
    """Wait for the first rows of a cursor on the server."""
    session.execute(_MARK)
    rows = text("SELECT pg_sleep(10) FROM generate_series(1, 9)")
    session.execute(rows, execution_options={"stream_results": True}).fetchone()


def savepoint(session: Session) -> None:
    """Wait in a savepoint."""
    session.execute(_MARK)
    with session.begin_nested():
        session.execute(_SLEEP)


def pipeline(session: Session) -> None:
    """Wait in a block in pipeline mode."""
    session.execute(_MARK)
    with driver_of(session).pipeline():
        driver_of(session).execute("SELECT pg_sleep(10)").fetchone()


def transaction_block(session: Session) -> None:
    """Wait in a block of psycopg's own."""
    driver = driver_of(session)
    with driver.transaction():
        driver.execute("INSERT INTO marks VALUES (1)")
        driver.execute("SELECT pg_sleep(10)")


WORKS: list[tuple[Callable[[Any], None], dict[str, bool], str]] = [
    (first_statement, {}, "kept"),
    (first_statement, {"read_only": True}, "kept"),
    (later_statement, {}, "kept"),
    (simple_statement, {"autocommit": True}, "kept"),
    (simple_statement, {"single": True}, "kept"),
    (executemany, {}, "any"),
    (copy_in, {}, "any"),
    (copy_out, {}, "any"),
    (server_cursor, {}, "kept"),
    (savepoint, {}, "kept"),
    (pipeline, {}, "any"),
    (transaction_block, {}, "any"),
]


async def cancelled_while(
    started: Awaitable[Any], observer: Observer, *, running: str = _RUNNING, times: int = 1
) -> asyncio.CancelledError:
    """Cancel *started* as soon as the server executes a statement, and return the error with which it ended."""
    task = asyncio.ensure_future(started)
    for _ in range(500):
        await asyncio.sleep(0.01)
        if observer.execute(running).fetchone() != (0,):
            break
    else:
        raise AssertionError("no statement is running")
    for number in range(times):
        task.cancel(f"number {number}")
        await asyncio.sleep(0)
    return await error_of(task)


async def error_of(task: "asyncio.Future[Any]", *, limit: float = 1) -> asyncio.CancelledError:
    """Return the error of a task that was cancelled, which ends within *limit*."""
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert task.cancelled()
    assert time.monotonic() - began < limit
    return raised.value


async def assert_free(database: AsyncDatabase, observer: Observer) -> None:
    """Check that nothing is running, no transaction is open, no connection is in use, and the database works."""
    # If a busy machine confirms no cancellation in 0.2 s, the connection is closed, and the server sleeps on.
    for _ in range(600):
        if observer.execute(_OPEN).fetchone() == (0,):
            break
        await asyncio.sleep(0.02)
    assert observer.execute(_OPEN).fetchone() == (0,)
    pool: Any = database.engine.pool
    assert pool.checkedout() == 0
    assert await database.run(lambda session: session.scalar(text("SELECT count(*) FROM marks")), attempts=1) == 0


def test_a_statement_is_cancelled_on_the_server(make: MakeAsyncDatabase, observer: Observer) -> None:
    """However it is sent: nothing is kept, the original error is raised, and the connection can be used again."""
    observer.execute(_TABLES)
    observer.execute(PUBLIC)
    database = make(pool="lambda")

    async def is_settled(work: Callable[[Any], None], options: dict[str, bool], connection: str) -> bool:
        opened = max(database.events.count("connection_opened"), 1)
        run: Any = database.run
        error = await cancelled_while(run(work, **options), observer)
        assert ("number 0",) == error.args
        await assert_free(database, observer)
        in_autocommit = bool(options.keys() & {"autocommit", "single"})
        notes = ["the task was cancelled in a statement in autocommit, which was not kept"] if in_autocommit else []
        stays_open = database.events.count("connection_opened") == opened
        return notes == getattr(error, "__notes__", []) and (stays_open or connection == "any")

    async def check() -> None:
        for case in WORKS:
            for attempt in range(3):  # a busy machine may not confirm it in time
                if await is_settled(*case):
                    break
                assert attempt < 2, case

    asyncio.run(check())
    assert database.events.count("commit_resolved", "not_kept") == 2


def test_a_second_cancellation_closes_the_connection(make: MakeAsyncDatabase, observer: Observer) -> None:
    """It comes while the first one is confirmed; nothing waits for the server then, and the server rolls back."""
    observer.execute(_TABLES)
    observer.execute(PUBLIC)
    database = make(pool="lambda")

    async def check() -> None:
        run: Any = database.run
        for work, options, _ in WORKS:
            await cancelled_while(run(work, **options), observer, times=2)
            observer.execute(f"SELECT pg_terminate_backend(pid) FROM ({_BUSY.replace('count(*)', 'pid')}) AS b")
            await assert_free(database, observer)

    asyncio.run(check())


def insert_into(table: str, number: int) -> Callable[[Session], None]:
    """Return a unit of work that inserts *number* into *table*."""

    def work(session: Session) -> None:
        session.execute(text(f"INSERT INTO {table} VALUES ({number})"))

    return work


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (insert_into("checked_later", 1), ("kept", "which was kept", 1)),
        (insert_into("checked_later", -1), ("not_kept", "which was not kept", 0)),
        (insert_into("slow", 1), ("unknown", "and it is unknown whether that was kept", 0)),
    ],
)
def test_the_outcome_of_commit_is_reported(
    make: MakeAsyncDatabase,
    observer: Observer,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Session], None],
    expected: tuple[Any, str, int],
) -> None:
    """COMMIT is not cancelled on the server: its reply is waited for, and an outcome that is not known is a note."""
    # A busy machine may need longer than the limit for a COMMIT of 0.6 s.
    monkeypatch.setattr("registration_persistence.database.awaited_connection._COMMIT_REPLY_SECONDS", 3.0)
    observer.execute(_TABLES)
    observer.execute(PUBLIC)
    database = make(pool="lambda")
    outcome, note, rows = expected
    committing = f"{_RUNNING} AND query = 'COMMIT'"
    observed: list[tuple[str, str | None]] = []

    @contextmanager
    def note_outcome(operation: Operation) -> Iterator[None]:
        yield
        observed.append((operation.outcome, operation.error))

    database.events.observe(note_outcome)

    async def check() -> None:
        started = time.monotonic()
        task = asyncio.ensure_future(database.run(work))
        while observer.execute(committing).fetchone() == (0,):
            await asyncio.sleep(0.01)
            assert time.monotonic() < started + 5
        task.cancel("in COMMIT")
        error = await error_of(task, limit=6)
        assert [f"the task was cancelled in COMMIT, {note}"] == error.__notes__
        assert ("in COMMIT",) == error.args
        for _ in range(100):
            if observer.execute(_OPEN).fetchone() == (0,):
                break
            await asyncio.sleep(0.02)
        observer.execute(f"SELECT pg_terminate_backend(pid) FROM ({_BUSY.replace('count(*)', 'pid')}) AS b")
        await assert_free(database, observer)
        # The next unit of work has an outcome of its own.
        assert not hasattr(await cancelled_while(database.run(later_statement), observer), "__notes__")

    asyncio.run(check())
    assert observer.execute("SELECT count(*) FROM checked_later").fetchone() == (rows,)
    assert [1, 1] == [database.events.count("commit_resolved", each) for each in (outcome, None)]
    assert observed[1] == (outcome, "CancelledError")  # after the connect


class _SlowProxy(TcpProxy):
    """A proxy that forwards the text `held` of a client after a while.

    Attributes:
        held: The text.
        delay: The time, in seconds.
    """

    held = b"nothing is held"
    delay = 0.4

    def __init__(self, host: str, port: int) -> None:
        self._note_held: Callable[[], object] = list
        super().__init__(host, port)

    def before_forwarding(self, data: bytes, *, from_client: bool, is_turn: bool) -> None:  # noqa: ARG002 the signature
        if from_client and self.held in data:
            note_held, self._note_held = self._note_held, list  # a task is cancelled once
            note_held()
            time.sleep(self.delay)

    async def cancelled_while_held(self, held: bytes, started: Awaitable[Any]) -> asyncio.CancelledError:
        """Cancel *started* as soon as it has sent the text *held*, and return the error with which it ended."""
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(started)
        self._note_held, self.held = (lambda: loop.call_soon_threadsafe(task.cancel)), held
        try:
            return await error_of(task, limit=5)
        finally:
            self._note_held = list


def test_a_wait_of_another_kind_is_cancelled(
    make: MakeAsyncDatabase, database_settings: DatabaseSettings, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ROLLBACK, in the check of an idle connection, in the login, for the pool, and between two attempts."""
    observer.execute(_TABLES)
    observer.execute(PUBLIC)

    def fail(session: Session) -> None:
        session.execute(_MARK)
        raise ValueError("the work fails")

    def conflict(session: Session) -> None:
        session.execute(_MARK)
        raise ConnectionLost("the work fails, and may be repeated")

    async def cancelled_after(seconds: float, started: Awaitable[Any]) -> asyncio.CancelledError:
        task = asyncio.ensure_future(started)
        await asyncio.sleep(seconds)
        assert not task.done()
        task.cancel()
        return await error_of(task)

    async def check(proxy: _SlowProxy) -> None:
        database = make(host="127.0.0.1", port=proxy.port, sslmode="disable", pool="lambda")
        await assert_free(database, observer)

        with monkeypatch.context() as patch:
            patch.setattr("registration_persistence.database.connection.CANCEL_TIMEOUT_SECONDS", 5.0)
            error = await proxy.cancelled_while_held(b"ROLLBACK", database.run(fail))
        assert isinstance(error.__context__, ValueError)
        await assert_free(database, observer)
        assert database.events.count("connection_opened") == 1

        record: Any = next(iter(database._awaited._records))
        record.info["registration_persistence.returned_at"] = (0.0, 0.0)
        error = await proxy.cancelled_while_held(b"pg_is_in_recovery", database.run(later_statement, autocommit=True))
        assert not hasattr(error, "__notes__")
        proxy.held = b"nothing is held"
        await assert_free(database, observer)

        for sent in (b"user\0", b"SCRAM"):
            await database.dispose()
            error = await proxy.cancelled_while_held(sent, database.run(later_statement))
            # The half-open connection is closed, although the traceback of the error refers to it.
            proxy.held = b"nothing is held"
            for _ in range(250):
                is_open = [each for each in proxy._open_connections if each.ends[0].fileno() != -1]
                if not is_open:
                    break
                await asyncio.sleep(0.02)
            assert not is_open, error
            await assert_free(database, observer)

        async with database.session() as session:
            await session.execute(_MARK)
            await cancelled_after(0.1, asyncio.ensure_future(database.run(later_statement)))
            await session.rollback()
        await assert_free(database, observer)

        await cancelled_after(0.1, database.run(conflict))
        await assert_free(database, observer)

    with _SlowProxy(database_settings.host, database_settings.port) as proxy:
        asyncio.run(check(proxy))


@pytest.mark.parametrize("delay", [0.05, 0.6], ids=["answered", "silent"])
def test_a_cancellation_in_the_check_before_commit(
    make: MakeAsyncDatabase,
    database_settings: DatabaseSettings,
    observer: Observer,
    monkeypatch: pytest.MonkeyPatch,
    delay: float,
) -> None:
    """The server is asked because something has arrived meanwhile; COMMIT is not sent, so nothing is kept.

    If the server does not answer in time, the connection is closed, and the outcome is known all the same.
    """
    observer.execute(_TABLES)
    observer.execute(PUBLIC)

    def commit(session: Session) -> None:
        session.execute(_MARK)
        monkeypatch.setattr(commit_guard, "has_pending_input", lambda _driver: True)
        session.execute(text("COMMIT"))

    async def check(proxy: _SlowProxy) -> None:
        database = make(host="127.0.0.1", port=proxy.port, sslmode="disable", pool="lambda")
        await assert_free(database, observer)
        proxy.delay = delay
        error = await proxy.cancelled_while_held(b"pg_is_in_recovery", database.run(commit))
        assert ["the task was cancelled in COMMIT, which was not kept"] == error.__notes__
        monkeypatch.undo()
        await assert_free(database, observer)

    with _SlowProxy(database_settings.host, database_settings.port) as proxy:
        asyncio.run(check(proxy))


def test_a_cancellation_in_the_end_of_a_cursor(make: MakeAsyncDatabase, observer: Observer) -> None:
    """A cursor on the server ends with its transaction; it is closed here too, or psycopg would warn."""
    observer.execute(_TABLES)
    observer.execute(PUBLIC)
    database = make(pool="lambda")
    cursors: list[Any] = []

    def close(session: Session) -> None:
        rows: Any = session.execute(text("SELECT generate_series(1, 9999)"), execution_options={"stream_results": True})
        rows.fetchone()
        cursors.append(rows.cursor)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        rows.close()

    async def check() -> None:
        await error_of(asyncio.ensure_future(database.run(close)))
        assert [True] == [cursor.closed for cursor in cursors]
        await assert_free(database, observer)

    asyncio.run(check())


def test_a_cancellation_in_the_begin_of_a_two_phase_transaction(make: MakeAsyncDatabase, observer: Observer) -> None:
    """The error is the cancellation, and not the refusal to roll back what did not begin."""
    observer.execute(_TABLES)
    observer.execute(PUBLIC)
    database = make(pool="lambda")

    def begin(connection: Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("in BEGIN")
        connection.begin_twophase()

    async def use() -> None:
        async with database.engine.connect() as connection:
            await connection.run_sync(begin)

    async def check() -> None:
        await assert_free(database, observer)
        error = await error_of(asyncio.ensure_future(use()))
        assert ("in BEGIN",) == error.args
        await assert_free(database, observer)
        assert database.events.count("connection_opened") == 1

    asyncio.run(check())


def test_a_cancellation_while_the_deadline_ends_a_statement(
    make: MakeAsyncDatabase, database_settings: DatabaseSettings, observer: Observer
) -> None:
    """The server does not answer the request to cancel either; the connection is closed."""
    observer.execute(_TABLES)
    observer.execute(PUBLIC)

    async def check(proxy: _SlowProxy) -> None:
        database = make(host="127.0.0.1", port=proxy.port, sslmode="disable", pool="lambda")
        await assert_free(database, observer)
        code_of_cancel_request = (80877102).to_bytes(4, "big")
        with deadline(0.5, reserve=0):
            await proxy.cancelled_while_held(code_of_cancel_request, database.run(later_statement))
        assert database.events.count("connection_opened") == 1
        observer.execute(f"SELECT pg_terminate_backend(pid) FROM ({_BUSY.replace('count(*)', 'pid')}) AS b")
        await assert_free(database, observer)

    with _SlowProxy(database_settings.host, database_settings.port) as proxy:
        asyncio.run(check(proxy))


@pytest.mark.parametrize("options", [{}, {"single": True}])
def test_a_cancellation_while_evidence_is_looked_for(
    make: MakeAsyncDatabase, database_settings: DatabaseSettings, observer: Observer, options: dict[str, Any]
) -> None:
    """The reply to COMMIT was lost, and the task is cancelled before the outcome is known: it stays unknown."""
    observer.execute(_TABLES)
    observer.execute(PUBLIC)

    async def check(proxy: OneLossProxy) -> None:
        database = make(host="127.0.0.1", port=proxy.port, sslmode="disable", pool="lambda")
        await assert_free(database, observer)

        def work(target: Any) -> None:
            if not options:
                RegistrationRepository(target).register("ada@example.com")
            proxy.stop_accepting()
            proxy.lose_next_reply()
            if options:
                RegistrationRepository(target).register("ada@example.com")

        run: Any = database.run
        task = asyncio.ensure_future(run(work, **options))
        await asyncio.sleep(0.4)
        assert not task.done()
        task.cancel()
        error = await error_of(task)
        assert ["the reply to COMMIT was lost, and it is unknown whether that was kept"] == error.__notes__
        assert [1, 1] == [database.events.count("commit_resolved", each) for each in ("unknown", None)]
        proxy.resume_accepting()
        await assert_free(database, observer)

    with OneLossProxy(database_settings.host, database_settings.port) as proxy:
        asyncio.run(check(proxy))


def test_a_timeout_is_a_deadline(make: MakeAsyncDatabase, observer: Observer) -> None:
    """`asyncio.timeout` and a task group cancel a unit of work, and the rest of the code goes on."""
    observer.execute(_TABLES)
    observer.execute(PUBLIC)
    database = make(pool="lambda")

    async def check() -> None:
        for work, options, _ in WORKS:
            run: Any = database.run
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await run(work, **options)
            assert time.monotonic() - started < 3
            await assert_free(database, observer)

        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), database.session() as session:
                await session.execute(_MARK)
                await session.execute(_SLEEP)
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.TaskGroup() as group:
                group.create_task(database.run(later_statement))
                await asyncio.sleep(0.1)
                raise ValueError("another task of the group failed")
        assert [ValueError] == [type(each) for each in raised.value.exceptions]
        assert time.monotonic() - started < 5
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        await assert_free(database, observer)

    asyncio.run(check())
