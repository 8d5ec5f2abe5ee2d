"""Every wait ends in a test that freezes the time."""

import dataclasses
import socket
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread

import pytest
from freezegun import freeze_time
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, OutboxWorker, deadline
from registration_persistence.errors import (
    ConnectionLost,
    DatabaseUnavailable,
    LockTimeout,
    PoolExhausted,
    StatementTimeout,
)
from registration_persistence.sandbox import FakeLambdaContext, LocalServerError, TcpProxy, wait_until
from registration_persistence.schema.deployment_lock import DeploymentInProgress, deployment


@pytest.fixture
def frozen() -> Iterator[Callable[[], float]]:
    """Freeze the time; return a function that returns the seconds that have passed nevertheless."""
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    with freeze_time("2026-11-28"):
        before = time.monotonic()
        yield lambda: time.clock_gettime(time.CLOCK_MONOTONIC) - started
        assert before == time.monotonic()


def test_an_unavailable_database(database_settings: DatabaseSettings, frozen: Callable[[], float]) -> None:
    """Connecting ends at the timeout, and at the deadline, of a Lambda context too."""
    with socket.socket() as unavailable:
        unavailable.bind(("127.0.0.1", 0))
        port = unavailable.getsockname()[1]
        closed = Database(dataclasses.replace(database_settings, host="127.0.0.1", port=port, connect_timeout=2))
        with pytest.raises(DatabaseUnavailable):
            closed.ping()
        with pytest.raises(DatabaseUnavailable), deadline(1):
            closed.ping()
        with pytest.raises(DatabaseUnavailable), deadline(FakeLambdaContext(1)):
            closed.ping()
    assert frozen() < 20


def test_a_full_pool(database_settings: DatabaseSettings, frozen: Callable[[], float]) -> None:
    """The checkout ends at the timeout of the pool, and gets a connection that is returned meanwhile."""
    one = Database(dataclasses.replace(database_settings, pool="service", pool_size=1, connect_timeout=2))
    with one.session() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(PoolExhausted), one.session() as second:
            second.execute(text("SELECT 1"))
        waiter = Thread(target=one.ping)
        waiter.start()
    waiter.join(10)
    assert not waiter.is_alive()
    one.dispose()
    assert frozen() < 20


def test_a_slow_statement(database: Database, frozen: Callable[[], float]) -> None:
    """It is cancelled at the deadline, and a unit of work that waits for a lock is repeated three times."""
    with pytest.raises(StatementTimeout), deadline(1), database.session() as session:
        session.execute(text("SELECT pg_sleep(30)"))
    with database.session() as session:
        session.execute(text("LOCK TABLE outbox"))
        with pytest.raises(LockTimeout):
            database.run(
                lambda other: other.scalar(text("SET LOCAL lock_timeout = '0.1s'; SELECT count(*) FROM outbox")),
                attempts=3,
            )
    assert database.events.count("retry") == 2
    assert frozen() < 20


class SilentProxy(TcpProxy):
    """Forwards nothing, neither statements nor cancellations, after `silent` is set."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.silent, self.ended = Event(), Event()

    def before_forwarding(self, data: bytes, *, from_client: bool, is_turn: bool) -> None:
        """Wait until the test has ended."""
        del data, from_client, is_turn
        if self.silent.is_set():
            self.ended.wait(30)


def test_a_silent_server(database_settings: DatabaseSettings, frozen: Callable[[], float]) -> None:
    """The connection is closed if the server does not confirm the cancellation."""
    with SilentProxy(database_settings.host, database_settings.port) as proxy:
        settings = dataclasses.replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable")
        behind = Database(settings)
        with pytest.raises(ConnectionLost), deadline(1), behind.session() as session:
            session.execute(text("SELECT 1"))
            proxy.silent.set()
            session.execute(text("SELECT 2"))
        proxy.ended.set()
        behind.dispose()
    assert frozen() < 20


def test_the_sandbox_and_the_commands(database: Database, frozen: Callable[[], float]) -> None:
    """`wait_until`, the lock of a deployment and the outbox worker end."""
    with pytest.raises(LocalServerError, match="timed out"):
        wait_until(lambda: False, "it is true", timeout=0.1)
    with (
        deployment(database, name="first"),
        pytest.raises(DeploymentInProgress),
        deployment(database, name="second", wait=1),
    ):
        pytest.fail("the lock was taken twice")
    stop = Event()
    worker = Thread(target=OutboxWorker(database, print).run, args=(stop,), kwargs={"poll": 0.05})
    worker.start()
    time.sleep(0.2)
    stop.set()
    worker.join(10)
    assert not worker.is_alive()
    assert frozen() < 20
