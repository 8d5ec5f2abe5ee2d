"""Observers are told of each operation: its parts, its attempts, its outcome and its exact number of round trips."""

import asyncio
import dataclasses
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import count
from types import FrameType
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session
from support import ADD, untyped

from registration_persistence import (
    AsyncDatabase,
    Database,
    DatabaseSettings,
    ImportRow,
    RegistrationRepository,
    bulk_import,
    deadline,
)
from registration_persistence.database.events import DatabaseEvent
from registration_persistence.database.observed_units import ObservedBlock, run_observed
from registration_persistence.database.operations import Observation, Operation, count_round_trip, current_operation
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    DatabaseUnavailable,
    RegistrationNotFound,
    TransactionConflict,
)
from registration_persistence.sandbox.ports import free_port
from registration_persistence.testing import RoundTripCounter
from registration_persistence.unit_of_work import TELLING

SETTINGS = DatabaseSettings(host="127.0.0.1", name="x", environment="test", user="u", password="p")

# The modules that begin and end operations.
OBSERVING_FILES = ("database/operations.py", "database/observed_units.py", "database/events.py")


class Operations:
    """An observer that keeps the operations that have ended, and the order in which they began and ended."""

    def __init__(self) -> None:
        self.ended: list[Operation] = []
        self.order: list[str] = []

    def __call__(self, operation: Operation) -> AbstractContextManager[None]:
        """Return the block of *operation*."""
        return self._block(operation)

    @contextmanager
    def _block(self, operation: Operation) -> Iterator[None]:
        self.order.append(f"begin {operation.name}")
        yield
        self.order.append(f"end {operation.name}")
        self.ended.append(operation)

    def taken(self) -> list[tuple[str, str, int]]:
        """Return name, outcome and round trips of the operations that ended since the last call."""
        taken: list[tuple[str, str, int]] = [(each.name, each.outcome, each.round_trips) for each in self.ended]
        self.ended.clear()
        return taken


@pytest.fixture
def operations(counted: Database) -> Operations:
    """The operations of `counted`."""
    observer = Operations()
    counted.events.observe(observer)
    return observer


def sign_up(target: Session | Connection) -> object:
    """Register a new mailbox."""
    return RegistrationRepository(target).register(f"{uuid4().hex}@example.com")


def use_pipeline(session: Session) -> None:
    """Read the result of a statement before the pipeline ends, twice."""
    driver: Any = session.connection().connection.dbapi_connection
    with driver.pipeline(), driver.cursor() as cursor:
        for _ in range(2):
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)


def evict_statements(session: Session) -> None:
    """Prepare more statements than the connection keeps."""
    driver: Any = session.connection().connection.dbapi_connection
    driver.prepare_threshold, driver.prepared_max = 0, 1
    for number in range(3):
        session.execute(text(f"SELECT {number}"))


def test_each_unit_of_work_counts_its_round_trips(
    counted: Database, wire: RoundTripCounter, operations: Operations
) -> None:
    """Also a rollback, a server-side cursor, and the preparation and the eviction of a statement."""

    def in_transaction() -> None:
        with counted.session() as session:
            sign_up(session)
            session.execute(text("SELECT 1"))
            with session.begin_nested():
                session.execute(text("SELECT 2"))

    def rolled_back() -> None:
        with pytest.raises(RegistrationNotFound), counted.session() as session:
            session.execute(text("SELECT 1"))
            RegistrationRepository(session).activate(uuid4())

    def in_autocommit() -> None:
        with counted.session(autocommit=True) as session:
            sign_up(session)

    def streamed() -> None:
        with counted.session() as session:
            rows = session.execute(text("SELECT generate_series(1, 2000)"), execution_options={"yield_per": 500})
            assert len(rows.all()) == 2000

    def many() -> None:
        with counted.session() as session:
            session.execute(text("SELECT CAST(:x AS int)"), [{"x": x} for x in range(50)])

    units: list[Callable[[], object]] = [
        lambda: counted.run(sign_up, single=True),
        in_autocommit,
        in_transaction,
        rolled_back,
        lambda: counted.run(sign_up),
        lambda: counted.run(lambda session: session.execute(text("SELECT 1")).all(), read_only=True),
        streamed,
        many,
        lambda: counted.run(use_pipeline),
        lambda: counted.run(evict_statements),
    ]
    for unit in units:
        for _ in range(8):
            unit()
            on_the_wire = wire.round_trips()
            *_, (_, _, counted_trips) = operations.taken()
            assert counted_trips == on_the_wire, units.index(unit)


def test_a_repeated_unit_of_work_counts_all_attempts(
    counted: Database, wire: RoundTripCounter, operations: Operations
) -> None:
    """A killed connection: the round trips of both attempts, the cause of the retry, and the connect as a part."""
    other = Database(counted.settings)
    other.ping()
    login = wire.round_trips() - 1
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        sign_up(session)
        if len(attempts) == 1:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    counted.run(work)

    first, connect, second, unit = operations.ended
    assert (unit.name, unit.outcome, unit.attempts, unit.retry_causes) == ("run", "kept", 2, ["connection_lost"])
    assert unit.round_trips == wire.round_trips() - login == 4
    assert (first.kind, first.parent, first.round_trips) == ("repository_call", unit, 1)
    assert (connect.kind, connect.parent, connect.cause, connect.outcome) == ("connect", second, "lost", "done")
    assert (connect.round_trips, connect.attempts) == (0, 1)
    assert unit.seconds > second.seconds > connect.seconds > 0
    assert operations.order[-8:] == [
        "begin run",
        *["begin RegistrationRepository.register", "end RegistrationRepository.register"],
        *["begin RegistrationRepository.register", "begin connect", "end connect"],
        *["end RegistrationRepository.register", "end run"],
    ]
    other.dispose()


def test_a_unit_of_work_inside_another_counts_its_own(counted: Database, operations: Operations) -> None:
    """Its round trips are not those of the unit of work around it, of another database."""
    inner = Database(counted.settings)
    inner.events.observe(operations)

    def work(session: Session) -> None:
        sign_up(session)
        inner.run(sign_up)

    counted.run(work)

    units = [each for each in operations.ended if each.kind == "unit_of_work"]
    assert [(unit.round_trips, unit.parent) for unit in units] == [(2, units[1]), (2, None)]
    inner.dispose()


def test_a_connect_that_fails_has_the_cause_of_each_attempt(
    database_settings: DatabaseSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing listens: each wait is a further attempt of the connect, and none of the unit of work."""
    database, operations = Database(dataclasses.replace(database_settings, port=free_port())), Operations()
    database.events.observe(operations)

    with pytest.raises(DatabaseUnavailable), deadline(0.5, reserve=0):
        database.run(sign_up, attempts=1)

    connect, _, unit = operations.ended
    waits = database.events.count("wait", "not_ready")
    assert waits > 1
    assert (connect.attempts, connect.retry_causes) == (waits + 1, ["not_ready"] * waits)
    assert (connect.outcome, connect.cause, connect.error) == ("failed", None, "DatabaseUnavailable")
    assert (unit.attempts, unit.retry_causes, unit.outcome, unit.round_trips) == (1, [], "not_kept", 0)
    assert "an observer" not in caplog.text


def test_the_outcome_is_what_became_of_the_work(
    counted: Database, wire: RoundTripCounter, operations: Operations
) -> None:
    """Kept, not kept or unknown, also if an earlier part was kept, and if an interrupt ended it."""

    def swallowed(session: Session) -> None:
        sign_up(session)
        session.commit()
        raise ValueError

    def interrupted(_target: Session | Connection) -> None:
        raise KeyboardInterrupt

    def interrupted_in_commit(session: Session) -> None:
        event.listen(session, "before_commit", interrupted)

    def interrupted_in_repetition(session: Session) -> None:
        if next(tries) == 2:
            raise KeyboardInterrupt
        event.listen(session, "before_commit", conflicting)

    def conflicting(_session: Session) -> None:
        raise TransactionConflict("a conflict")

    def lost(session: Session) -> None:
        session.execute(text(ADD))
        stack.enter_context(wire.lose_replies(1.0))

    tries = count(1)
    with ExitStack() as stack:
        units: list[tuple[Callable[..., object], dict[str, bool], type[BaseException] | None, str]] = [
            (sign_up, {}, None, "kept"),
            (swallowed, {}, ValueError, "kept"),
            (interrupted, {}, KeyboardInterrupt, "not_kept"),
            (interrupted, {"single": True}, KeyboardInterrupt, "unknown"),
            (interrupted_in_commit, {}, KeyboardInterrupt, "unknown"),
            (interrupted_in_repetition, {}, KeyboardInterrupt, "not_kept"),
            (lost, {}, CommitOutcomeUnknown, "unknown"),
        ]
        for work, options, error, outcome in units:
            operations.ended.clear()
            with pytest.raises(error) if error else nullcontext(), deadline(1, reserve=0):
                untyped(counted.run)(work, **options)
            *_, unit = operations.ended
            assert (unit.outcome, unit.error) == (outcome, error and error.__name__), (work, options)
    operations.ended.clear()
    with pytest.raises(KeyboardInterrupt), counted.session(autocommit=True) as session:
        sign_up(session)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), counted.session(autocommit=True):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), counted.session() as session:
        interrupted_in_commit(session)
    sessions = [each.outcome for each in operations.ended if each.kind == "unit_of_work"]
    assert sessions == ["kept", "unknown", "unknown"]


def test_a_failing_observer_changes_nothing(
    counted: Database, operations: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind of failure is logged once, without the error of the request; results, errors and interrupts stay."""

    def failing(_operation: Operation) -> AbstractContextManager[None]:
        raise LookupError("broken")

    def without_manager(_operation: Operation) -> Any:
        return None

    @contextmanager
    def failing_at_the_end(_operation: Operation) -> Iterator[None]:
        yield
        raise LookupError("broken at the end")

    @contextmanager
    def swallowing(_operation: Operation) -> Iterator[None]:
        with ExitStack() as stack:
            stack.push(lambda *_error: True)
            yield

    def interrupting(_operation: Operation) -> AbstractContextManager[None]:
        raise KeyboardInterrupt

    caplog.set_level(logging.WARNING)

    for observer in (failing, without_manager, failing_at_the_end, swallowing):
        counted.events.observe(observer)
    with pytest.raises(ValueError, match="ada"), counted.session():  # the first failure is the one that is logged
        raise ValueError("of ada@example.com")
    for _ in range(3):
        assert counted.run(lambda _session: 7) == 7
        for error in (ValueError("of ada@example.com"), KeyboardInterrupt(), asyncio.CancelledError()):
            with pytest.raises(type(error)) as raised, counted.session() as session:
                sign_up(session)
                raise error
            assert raised.value is error
    assert [record.args for record in caplog.records] == [("entered",), ("entered",), ("left",)]
    assert "ada@example.com" not in caplog.text
    assert {name for name, _, _ in operations.taken()} == {"run", "session", "RegistrationRepository.register"}

    counted.events.observe(interrupting)
    with pytest.raises(KeyboardInterrupt):
        counted.run(sign_up)
    assert (current_operation(), operations.ended[-1].outcome) == (None, "not_kept")


def test_an_observer_that_is_interrupted_leaves_the_others(counted: Database, operations: Operations) -> None:
    """An observer that ends the process keeps no other one entered, and the work is done."""

    @contextmanager
    def exiting(_operation: Operation) -> Iterator[None]:
        yield
        raise SystemExit

    counted.ping()
    counted.events.observe(exiting)
    with pytest.raises(SystemExit):
        counted.run(lambda _session: 7)
    assert (current_operation(), operations.ended[-1].name, operations.ended[-1].outcome) == (None, "run", "kept")


def test_an_observer_may_use_the_database_itself(counted: Database, caplog: pytest.LogCaptureFixture) -> None:
    """An observer and a subscriber that use it are not told of what they do, so they do not call themselves."""
    database = Database(replace(counted.settings, pool="service", pool_size=3))
    told: list[str] = []

    @contextmanager
    def using(operation: Operation) -> Iterator[None]:
        told.append(operation.name)
        database.run(sign_up)
        yield
        database.ping()

    def subscriber(event: DatabaseEvent) -> None:
        told.append(event.name)
        database.ping()  # with a further connection

    database.ping()
    database.events.observe(using)
    database.run(sign_up)
    assert told == ["run", "RegistrationRepository.register"]
    database.events.subscribe(subscriber)
    database.dispose()
    with database.session():
        pass
    assert told[2:] == ["session"]
    database.dispose()
    database.ping()
    assert told[3:] == ["connect", "connection_opened"]
    database.dispose()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


def test_a_failing_subscriber_does_not_flood_the_log(counted: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Its failure is logged once for each event."""

    def failing(_event: DatabaseEvent) -> None:
        raise LookupError("broken")

    counted.events.subscribe(failing)
    for _ in range(3):
        counted.dispose()
        counted.ping()
    assert [record.args for record in caplog.records] == [("connection_opened",)]


def test_threads_and_contexts_have_their_own_operations(
    counted: Database, operations: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    """Each thread counts its own; a session may end in another thread than the one in which it began."""
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        counted.run(sign_up)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    units = [each for each in operations.ended if each.kind == "unit_of_work"]
    calls = [each for each in operations.ended if each.kind == "repository_call"]
    assert [unit.round_trips for unit in units] == [2] * 4
    assert {call.parent for call in calls} == set(units)

    block = counted.session()
    began = threading.Thread(target=block.__enter__)
    began.start()
    began.join()

    def end_block(_session: Session) -> Operation | None:
        block.__exit__(None, None, None)
        return current_operation()

    around = counted.run(end_block)
    ended, unit = operations.ended[-2:]
    assert (ended.name, ended.outcome, unit.name, current_operation()) == ("session", "kept", "run", None)
    assert unit is around

    abandoned: Any = counted.session()
    abandoned.__enter__()
    abandoned.invalidate()
    assert (operations.ended[-1].outcome, operations.ended[-1].error) == ("not_kept", "GeneratorExit")
    assert caplog.records == []


def test_an_operation_that_has_ended_is_no_parent() -> None:
    """Sessions end in any order, in other threads, or before the tasks that began in them; the next one has none."""
    database, outer = Database(SETTINGS), Operations()
    database.events.observe(outer)

    def begun() -> Observation:
        observation = database.events.observation("unit_of_work", "session")
        observation.begin()
        return observation

    async def end_before_task() -> Operation | None:
        async def next_operation() -> Operation | None:
            await asyncio.sleep(0)
            return begun().operation.parent

        observation = begun()
        task = asyncio.create_task(next_operation())
        observation.end(None)
        return await task

    for _ in range(2):
        first, second = begun(), begun()
        assert (first.operation.parent, second.operation.parent) == (None, first.operation)
        first.end(None)
        assert current_operation() is second.operation
        count_round_trip()
        second.end(None)
        count_round_trip()
        assert (first.operation.round_trips, second.operation.round_trips, current_operation()) == (0, 1, None)
    with ThreadPoolExecutor(1) as thread:
        for _ in range(2):
            observation = thread.submit(begun).result()
            observation.end(None)
            assert observation.operation.parent is None
    assert asyncio.run(end_before_task()) is None


def interrupted_at(number: int, execute: Callable[[], object]) -> bool:
    """Call *execute* with an interrupt at this call in the observed operations; return whether there is such a call."""
    calls = count(1)

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        caller = frame.f_back if event == "return" else frame
        # A `with` statement calls these two without a look at interrupts.
        by_with = event != "c_return" and frame.f_code.co_name in {"__enter__", "__exit__"}
        if event not in {"call", "return", "c_return"} or caller is None or by_with:
            return
        if caller.f_code.co_filename.endswith(OBSERVING_FILES) and next(calls) == number:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        execute()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_an_interrupt_at_any_call_leaves_nothing_behind() -> None:
    """The next operation has no parent, and its observers and subscribers are told of it."""
    database = Database(SETTINGS)

    def run() -> None:
        run_observed(database.events, lambda noted: noted(Session()), lambda _session: None, autocommit=False)

    def block() -> None:
        with ObservedBlock(database.events, untyped(nullcontext(Session())), autocommit=False):
            pass

    def nested() -> None:
        with database.events.observation("unit_of_work", "run"), database.events.observation("connect", "connect"):
            pass

    def emit() -> None:
        database.events.emit(DatabaseEvent("wait", "no_slot", 0.1))

    database.events.observe(Operations())
    database.events.subscribe(lambda _event: None)
    for execute in (run, block, nested, emit):
        for number in count(1):
            if not interrupted_at(number, execute):
                break
            assert (current_operation(), TELLING.get()) == (None, False), (execute, number)
        assert number > 10


def test_tasks_have_their_own_operations(counted: Database) -> None:
    """Each task counts its own, a session too, and a cancelled one is told of."""
    operations = Operations()

    async def in_session(database: AsyncDatabase) -> None:
        async with database.session() as session:
            await session.run_sync(sign_up)
            await session.execute(text("SELECT 1"))

    async def work() -> None:
        database = AsyncDatabase(counted.settings)
        database.events.observe(operations)
        await asyncio.gather(*[database.run(sign_up) for _ in range(4)], *[in_session(database) for _ in range(4)])
        task = asyncio.create_task(database.run(lambda session: session.execute(text("SELECT pg_sleep(9)"))))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await database.dispose()

    asyncio.run(work())

    *units, cancelled = [each for each in operations.ended if each.kind == "unit_of_work"]
    assert sorted((unit.name, unit.round_trips, unit.outcome) for unit in units) == [
        *[("run", 2, "kept")] * 4,
        *[("session", 3, "kept")] * 4,
    ]
    calls = [each for each in operations.ended if each.kind == "repository_call"]
    assert {call.parent for call in calls} == set(units)
    assert (cancelled.outcome, cancelled.error) == ("not_kept", "CancelledError")


def test_each_repository_call_has_a_name(counted: Database, operations: Operations) -> None:
    """Also an import, a call outside of a unit of work, and one of a service's own repository."""

    class OwnRepository(RegistrationRepository):
        def count(self) -> int:
            return int(self._session.scalar(text("SELECT count(*) FROM registrations")) or 0)

    def work(session: Session) -> None:
        OwnRepository(session).count()
        bulk_import(session, [ImportRow("ada@example.com")])

    counted.run(work)
    with counted.engine.connect() as connection, pytest.raises(RegistrationNotFound):
        RegistrationRepository(connection).activate(uuid4())

    assert operations.taken() == [
        ("OwnRepository.count", "done", 1),
        ("bulk_import", "done", 1),
        ("run", "kept", 3),
        ("RegistrationRepository.activate", "failed", 1),
    ]


def test_without_an_observer_nothing_is_created(
    counted: Database, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another database of the same process is observed; this one creates no operation."""
    other = Database(counted.settings)

    def refuse(*_arguments: object) -> None:
        raise AssertionError("an operation was created")

    monkeypatch.setattr(Observation, "__init__", refuse)
    other.run(sign_up)
    other.run(sign_up, single=True)
    with other.session() as session:
        sign_up(session)
    other.dispose()
    assert operations.order == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_its_own_operations(counted: Database, operations: Operations) -> None:
    """A child that is forked in a unit of work observes its own, and the parent goes on."""

    def work(session: Session) -> int:
        sign_up(session)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                operations.ended.clear()
                counted.run(sign_up)
                names = [name for name, _, _ in operations.taken()]
                code = 0 if names == ["connect", "RegistrationRepository.register", "run"] else 2
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert counted.run(work) == 0
    assert operations.taken()[-1] == ("run", "kept", 2)
