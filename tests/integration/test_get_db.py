"""Tests of `get_db`, `session_scope` and `get_engine`: one database per process, configured by the environment."""

import ctypes
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Barrier, Event, Thread
from typing import Any, NoReturn

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import LambdaEnvironment

from registration_persistence import Database, RegistrationRepository, get_db, get_engine, session_scope
from registration_persistence.database import process
from registration_persistence.domain.ids import new_id
from registration_persistence.errors import ConfigurationError, ConnectionLost


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start each test in the state of a new process."""
    monkeypatch.setattr(process, "_this_process", process._ThisProcess())
    yield
    if process._this_process._database is not None:
        get_db().dispose()


def test_a_sign_up_with_nothing_but_the_environment(lambda_environment: LambdaEnvironment) -> None:
    """The secret is read, the engine is created, and the registration is stored."""
    with session_scope() as session:
        made = RegistrationRepository(session).register("ada@example.com").registration

    assert {"GetSecretValue": 1} == lambda_environment.secrets_manager.calls
    with session_scope(read_only=True) as session:
        assert RegistrationRepository(session).get(made.id) == made
        assert session.scalar(text("SELECT current_user")) == lambda_environment.username
        assert session.scalar(text("SHOW application_name")) == "sign-up:7"


def test_get_db_returns_the_same_database(lambda_environment: LambdaEnvironment) -> None:
    """There is one object, one engine and one connection."""
    assert get_db() is get_db()
    assert get_engine() is get_db().engine
    assert lambda_environment.secrets_manager.calls.total() == 0


def test_threads_create_one_database(lambda_environment: LambdaEnvironment) -> None:
    """Twenty threads that start at once get the same object, and the secret is read once."""
    barrier = Barrier(20)

    def use(number: int) -> tuple[Database, object]:
        barrier.wait()
        with session_scope(autocommit=True) as session:
            return get_db(), RegistrationRepository(session).register(f"ada{number}@example.com")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APP_DATABASE_POOL", "service")
        with ThreadPoolExecutor(20) as threads:
            results = list(threads.map(use, range(20)))

    assert {get_db()} == {database for database, _ in results}
    assert lambda_environment.secrets_manager.calls.total() == 1


def test_a_wrong_environment_is_read_again(
    lambda_environment: LambdaEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration error is not cached."""
    host = os.environ["APP_DATABASE_HOST"]
    monkeypatch.delenv("APP_DATABASE_HOST")
    with pytest.raises(ConfigurationError, match="APP_DATABASE_HOST is not set"):
        get_db()

    monkeypatch.setenv("APP_DATABASE_HOST", host)

    assert get_db().ping().writable
    assert lambda_environment.secrets_manager.calls.total() == 1


def work_and_exit(work: Callable[[], None]) -> NoReturn:
    """Call *work*, and end this process, which is a forked child; print the exception of *work*."""
    try:
        work()
    except BaseException:  # noqa: BLE001 the child must end here, whatever happens
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def in_child(work: Callable[[], None]) -> None:
    """Call *work* in a forked child, and raise its exception here."""
    pid = os.fork()
    if pid == 0:
        work_and_exit(work)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # the test forks a process with threads
def test_a_forked_child_has_its_own_connection(lambda_environment: LambdaEnvironment) -> None:
    """The child connects again with the cached secret, and its end does not affect the parent's connection."""

    def backend() -> int:
        with session_scope() as session:
            return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)

    parents = backend()

    def work() -> None:
        assert backend() != parents
        assert get_db().events.count("connection_opened") == 2
        get_db().dispose()

    in_child(work)

    assert parents == backend()
    assert lambda_environment.secrets_manager.calls.total() == 1


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # the test forks a process with threads
@pytest.mark.parametrize("leaves", ["cleanly", "with an error"])
def test_a_fork_inside_a_session_does_not_end_it(lambda_environment: LambdaEnvironment, leaves: str) -> None:
    """A child that leaves the block of the session neither commits nor rolls back the parent's transaction."""
    with session_scope() as session:
        RegistrationRepository(session).register("ada@example.com")
        pid = os.fork()
        if pid == 0:
            with suppress(Exception):  # only the effect on the parent matters
                session.commit() if leaves == "cleanly" else session.rollback()
            os._exit(0)
        os.waitpid(pid, 0)
        if leaves == "cleanly":
            session.rollback()
    with session_scope(read_only=True) as session:
        kept = session.scalar(text("SELECT count(*) FROM registrations"))

    assert kept == (0 if leaves == "cleanly" else 1)
    assert lambda_environment.secrets_manager.calls.total() == 1


@contextmanager
def locks_held_in_another_thread(database: Database) -> Iterator[None]:
    """Hold every lock of *database* and of this process until the block ends."""
    credentials: Any = database.credentials
    pool: Any = database.engine.pool
    holding, done = Event(), Event()

    def hold() -> None:
        with process._this_process._lock, credentials._lock, database.events._lock, pool._lock:
            holding.set()
            done.wait(20)

    thread = Thread(target=hold)
    thread.start()
    assert holding.wait(20)
    try:
        yield
    finally:
        done.set()
        thread.join()


def assert_writable() -> None:
    """Check that this process can reach its database."""
    assert get_db().ping().writable


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # the test forks a process with threads
def test_a_fork_while_another_thread_holds_locks_does_not_hang(lambda_environment: LambdaEnvironment) -> None:
    """Locks that another thread holds at the moment of the fork are free in the child."""
    with locks_held_in_another_thread(get_db()):
        in_child(assert_writable)
    assert lambda_environment.secrets_manager.calls.total() == 1


def in_child_without_hooks(work: Callable[[], None]) -> None:
    """Call *work* in a child that was forked by the C library, as uWSGI does, so that Python's hooks are not called."""
    # If another thread has asked for the interpreter's lock at the moment of the fork, the child waits for it forever.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    time.sleep(0.05)
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        work_and_exit(work)
    sys.setswitchinterval(interval)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def backend_of(session: Session) -> int:
    """Return the process id of the session's backend."""
    return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


@pytest.mark.parametrize("pool", ["lambda", "service", "proxy"])
def test_a_fork_without_pythons_hooks_shares_no_connection(
    lambda_environment: LambdaEnvironment, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    """The child opens its own connection at its first use of any kind, and the parent keeps its own."""
    monkeypatch.setenv("APP_DATABASE_POOL", pool)
    assert get_db().warm_up()
    database, engine, old_pool = get_db(), get_engine(), get_engine().pool
    with session_scope() as session:
        parents = backend_of(session)
    opened = database.events.count("connection_opened")

    def use_session() -> None:
        with database.session() as session:
            assert backend_of(session) != parents

    def use_engine() -> None:
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT pg_backend_pid()")) != parents

    def use_pool() -> None:
        connection = old_pool.connect()
        connection.close()
        assert database.events.count("connection_opened") == opened + 1

    uses = [use_session, use_engine, use_pool, lambda: get_db().dispose(), engine.dispose, database.abort_connections]
    for use in uses:
        in_child_without_hooks(use)
        if pool != "proxy":
            with session_scope() as session:
                assert parents == backend_of(session)

    assert get_db().ping().writable
    assert lambda_environment.secrets_manager.calls.total() == 1


@pytest.mark.usefixtures("lambda_environment")
def test_a_fork_without_hooks_does_not_advance_a_cursor() -> None:
    """The child cannot fetch from the parent's server-side cursor, and the parent gets every row."""
    with session_scope() as session:
        numbers = session.scalars(text("SELECT generate_series(1, 100)"), execution_options={"yield_per": 10})
        assert next(numbers) == 1

        def work() -> None:
            with pytest.raises(ConnectionLost):
                numbers.all()

        in_child_without_hooks(work)
        assert numbers.all() == list(range(2, 101))


@pytest.mark.parametrize("leaves", ["with a statement", "cleanly", "with an error"])
def test_a_fork_without_hooks_inside_a_session_does_not_end_it(
    lambda_environment: LambdaEnvironment, leaves: str
) -> None:
    """Nothing that the child does in the parent's session reaches the server."""
    with session_scope() as session:
        RegistrationRepository(session).register("ada@example.com")

        def work() -> None:
            match leaves:
                case "with a statement":
                    with pytest.raises(ConnectionLost):
                        session.execute(text("DELETE FROM registrations"))
                case "cleanly":
                    with suppress(Exception):  # only the effect on the parent matters
                        session.commit()
                case _:
                    with suppress(Exception):
                        session.rollback()

        in_child_without_hooks(work)
        assert session.scalar(text("SELECT count(*) FROM registrations")) == 1
        if leaves == "cleanly":
            session.rollback()
    with session_scope(read_only=True) as session:
        kept = session.scalar(text("SELECT count(*) FROM registrations"))

    assert kept == (0 if leaves == "cleanly" else 1)
    assert lambda_environment.secrets_manager.calls.total() == 1


def test_a_fork_without_hooks_while_another_thread_holds_locks_does_not_hang(
    lambda_environment: LambdaEnvironment,
) -> None:
    """Locks that another thread holds at the moment of the fork are free in the child."""
    with locks_held_in_another_thread(get_db()):
        in_child_without_hooks(assert_writable)
    assert lambda_environment.secrets_manager.calls.total() == 1


def test_a_fork_without_hooks_creates_other_ids(lambda_environment: LambdaEnvironment) -> None:
    """The random numbers of the child are not those of its parent, also in the first unit of work."""
    database = get_db()
    new_id()
    reader, writer = os.pipe()

    def work() -> None:
        with database.session() as session:
            made = RegistrationRepository(session).register("ada@example.com").registration
            os.write(writer, made.id.bytes)

    in_child_without_hooks(work)

    assert os.read(reader, 16)[9:] not in {new_id().bytes[9:] for _ in range(9)}
    os.close(reader)
    os.close(writer)
    assert lambda_environment.secrets_manager.calls.total() == 1
