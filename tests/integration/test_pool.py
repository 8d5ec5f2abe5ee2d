"""The pool of a process: connections that return to a pool that was disposed of, failed attempts, and its limits."""

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Any

import pytest
from sqlalchemy import text

from registration_persistence import Credentials, CredentialSource, Database, DatabaseSettings, deadline
from registration_persistence.database.pool import BoundedPool
from registration_persistence.errors import PoolExhausted, SecretRefused
from registration_persistence.sandbox import PostgresServer, wait_until

MakeDatabase = Callable[..., Database]


@pytest.fixture
def make(database_settings: DatabaseSettings) -> Iterator[MakeDatabase]:
    """Create a `Database` with changed settings, which is closed at the end of the test."""
    with ExitStack() as databases:

        def made(credentials: CredentialSource | None = None, **changes: Any) -> Database:
            database = Database(dataclasses.replace(database_settings, **changes), credentials)
            databases.callback(database.abort_connections)
            return database

        yield made


def test_connections_are_closed_when_they_return_after_dispose(
    make: MakeDatabase, postgres_server: PostgresServer
) -> None:
    """However often the pool is disposed of while its connections are in use, they are closed, also without GC."""
    database = make(application_name="disposed of", pool_size=5)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'disposed of'"
    gc.disable()
    try:
        for _ in range(3):
            with ExitStack() as open_sessions:
                for _ in range(5):
                    open_sessions.enter_context(database.session()).execute(text("SELECT 1"))
                database.dispose()
        with postgres_server.connect() as connection:
            wait_until(lambda: connection.execute(sessions).fetchone() == (0,), "no session is left", timeout=5)
    finally:
        gc.enable()


def test_a_disposed_pool_is_replaced_for_those_who_still_refer_to_it(make: MakeDatabase) -> None:
    """A checkout from the old pool uses the new one, whose limit applies."""
    database = make(pool_size=1, connect_timeout=2)
    old = database.engine.pool
    database.dispose()

    with database.session() as session, deadline(0.1, reserve=0), pytest.raises(PoolExhausted):
        session.execute(text("SELECT 1"))
        old.connect()

    assert isinstance(database.engine.pool, BoundedPool)
    assert (1, 0) == (database.engine.pool.checkedin(), database.engine.pool.checkedout())
    assert "Pool size: 1, idle: 1, checked out: 0" == database.engine.pool.status()


class _FailsFirst(CredentialSource):
    """The first login waits for *release*, and then has no credentials; the later ones have."""

    def __init__(self, credentials: Credentials) -> None:
        self.asked, self.release, self._credentials, self._calls = Event(), Event(), credentials, 0

    def current(self) -> Credentials:
        self._calls += 1
        if self._calls == 1:
            self.asked.set()
            self.release.wait(10)
            raise SecretRefused("the first read is refused")
        return self._credentials


def test_a_failed_attempt_to_connect_frees_its_place_for_a_waiter(make: MakeDatabase) -> None:
    """A thread that waits for a place opens a connection as soon as another thread has failed to."""
    settings = make().settings
    source = _FailsFirst(Credentials(settings.user or "", settings.password or ""))
    database = make(source, pool_size=1, connect_timeout=10)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(database.ping)
        source.asked.wait(10)
        second = threads.submit(database.ping)
        time.sleep(0.2)
        source.release.set()
        started = time.monotonic()
        assert second.result().writable
        waited = time.monotonic() - started
        with pytest.raises(SecretRefused):
            first.result()

    assert waited < 5


def test_waiters_get_the_connections_that_return(make: MakeDatabase) -> None:
    """Forty units of work in eight threads share two connections."""
    database = make(pool_size=2, connect_timeout=10)

    def work(_number: int) -> int:
        with database.session() as session:
            return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)

    with ThreadPoolExecutor(8) as threads:
        backends = set(threads.map(work, range(40)))

    assert 1 <= len(backends) <= 2
    assert database.events.count("connection_opened") == len(backends)


@pytest.mark.parametrize(
    ("settings", "nested", "retryable", "message"),
    [
        ({"pool": "lambda"}, True, False, "use the session that is open"),
        ({"pool": "lambda"}, False, True, "in another thread: set APP_DATABASE_POOL=service"),
        ({"pool_size": 1, "connect_timeout": 2}, True, False, "use the session that is open"),
        ({"pool_size": 1, "connect_timeout": 2}, False, True, "the one connection .* raise APP_DATABASE_POOL_SIZE"),
        ({"pool_size": 2, "connect_timeout": 2}, False, True, "all 2 connections .* raise APP_DATABASE_POOL_SIZE"),
    ],
)
def test_an_exhausted_pool_is_retryable_if_waiting_can_help(
    make: MakeDatabase,
    settings: dict[str, Any],
    nested: bool,  # noqa: FBT001 parametrized
    retryable: bool,  # noqa: FBT001 parametrized
    message: str,
) -> None:
    """It cannot help only if the thread that asks holds the one connection itself."""
    database = make(**settings)
    with ExitStack() as open_sessions, ThreadPoolExecutor(1) as other_thread:
        for _ in range(database.settings.pool_size if database.settings.pool == "service" else 1):
            open_sessions.enter_context(database.session()).execute(text("SELECT 1"))

        def use() -> None:
            with deadline(0.2, reserve=0):
                database.ping()

        with pytest.raises(PoolExhausted, match=message) as raised:
            use() if nested else other_thread.submit(use).result()

    assert retryable == raised.value.retryable
    assert database.ping().writable
