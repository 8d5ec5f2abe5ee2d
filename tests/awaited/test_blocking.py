"""Nothing blocks the event loop: secrets, logins, look-ups of host names and waits for the pool."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import trustme
from awaited.conftest import MakeAsyncDatabase
from rogue_server import rogue_server
from sqlalchemy import text

from registration_persistence import (
    AsyncDatabase,
    Credentials,
    RegistrationPersistenceError,
    StaticCredentials,
    deadline,
)
from registration_persistence.errors import (
    ConnectionRejected,
    CredentialsRejected,
    DatabaseUnavailable,
    PoolExhausted,
    SecretUnavailable,
)
from registration_persistence.testing import RegistrationEnvironment, SecretsManagerDown

# A busy machine can delay the loop too, as it delays a thread. A case that is late nevertheless is repeated.
_MAX_LATE_SECONDS, _ATTEMPTS = 0.1, 3

_INTERVAL_SECONDS = 0.01


@contextmanager
def _ticking_thread() -> Iterator[list[float]]:
    """Append by how many seconds a ticker in a thread was late, because the machine is busy."""
    late, has_ended = [0.0], Event()

    def tick() -> None:
        while True:
            started = time.monotonic()
            if has_ended.wait(_INTERVAL_SECONDS):
                return
            late.append(time.monotonic() - started - _INTERVAL_SECONDS)

    thread = Thread(target=tick)
    thread.start()
    try:
        yield late
    finally:
        has_ended.set()
        thread.join()


async def _latest_tick(waiting: Awaitable[Any]) -> tuple[float, RegistrationPersistenceError]:
    """Return by how many seconds a ticker was late at most, and the error with which *waiting* ended."""
    latest = 0.0

    async def tick() -> None:
        nonlocal latest
        while True:
            started = time.monotonic()
            await asyncio.sleep(_INTERVAL_SECONDS)
            latest = max(latest, time.monotonic() - started - _INTERVAL_SECONDS)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    with _ticking_thread() as late, pytest.raises(RegistrationPersistenceError) as raised:
        await waiting
    ticker.cancel()
    return latest - max(late), raised.value


def outcome_in_time(
    start: Callable[[], Awaitable[Any]], *, limit: float, at_least: float = 0.0
) -> RegistrationPersistenceError:
    """Check that the loop is never late while *start* fails, and that it ends at once; return the error.

    Args:
        start: Starts the failing use of a database.
        limit: The maximum time in seconds.
        at_least: The time in seconds that the failure takes, because something else would have been tested otherwise.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        started = time.monotonic()

        async def main() -> tuple[float, RegistrationPersistenceError]:
            return await _latest_tick(start())

        latest, error = asyncio.run(main())
        seconds = time.monotonic() - started
        if latest < _MAX_LATE_SECONDS or attempt == _ATTEMPTS:
            break
    assert latest < _MAX_LATE_SECONDS
    assert at_least <= seconds < limit
    return error


def test_a_slow_secret(
    registration_environment: RegistrationEnvironment, secrets_manager_down: SecretsManagerDown
) -> None:
    """Secrets Manager takes 3 s; a deadline cuts it short, and nothing waits for the thread that reads on."""
    with secrets_manager_down("slow", 3):
        settings = registration_environment.settings()
        short: list[AsyncDatabase] = []

        async def until_deadline() -> None:
            with deadline(0.5, reserve=0):
                await AsyncDatabase(settings).ping()

        async def while_it_is_read() -> None:
            short.append(AsyncDatabase(replace(settings, connect_timeout=3.5)))
            await short[-1].ping()

        error = outcome_in_time(until_deadline, limit=1.5, at_least=0.4)
        assert isinstance(error, SecretUnavailable)
        assert isinstance(outcome_in_time(while_it_is_read, limit=6, at_least=2.5), SecretUnavailable)
    assert asyncio.run(short[-1].ping()).writable
    asyncio.run(short[-1].dispose())


def test_a_login_that_is_refused(make: MakeAsyncDatabase, tmp_path: Path) -> None:
    """By the server, because of the password; and by this client, because of the server's certificate."""
    wrong = make(StaticCredentials(Credentials("nobody", "wrong")))
    error = outcome_in_time(wrong.ping, limit=3)
    assert isinstance(error, CredentialsRejected)

    file = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    with rogue_server("scram", trustme.CA().issue_cert("127.0.0.1")) as rogue:
        verifying = make(host="127.0.0.1", port=rogue.port, sslmode="verify-full", ssl_root_cert=str(file))
        error = outcome_in_time(verifying.ping, limit=4)
    assert isinstance(error, ConnectionRejected)
    assert "the server presents the certificate of" in str(error)


def test_a_host_name_that_does_not_resolve(make: MakeAsyncDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the resolver takes longer than the deadline, for which the C library knows no limit."""
    unknown = make(host="unknown.invalid", connect_timeout=2)
    assert isinstance(outcome_in_time(unknown.ping, limit=4), DatabaseUnavailable)

    def slow_lookup(*_arguments: object, **_named: object) -> None:
        time.sleep(3)
        raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)

    async def until_deadline() -> None:
        with deadline(0.5, reserve=0):
            await unknown.ping()

    error = outcome_in_time(until_deadline, limit=1.5, at_least=0.4)
    assert isinstance(error, DatabaseUnavailable)
    assert "failed to resolve host 'unknown.invalid': no answer until the deadline" in str(error)

    async def until_timeout() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await unknown.ping()
        raise DatabaseUnavailable("the timeout came first")

    assert isinstance(outcome_in_time(until_timeout, limit=1.5), DatabaseUnavailable)


def test_an_exhausted_pool(make: MakeAsyncDatabase) -> None:
    """Fifty tasks wait for it."""
    database = make(pool="lambda")
    ends: list[Any] = []

    async def use() -> None:
        with deadline(0.5, reserve=0), suppress(PoolExhausted):
            await database.run(lambda session: session.scalar(text("SELECT 1")))

    async def many() -> None:
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            ends.extend(await asyncio.gather(*(asyncio.create_task(use()) for _ in range(50))))
        raise PoolExhausted("all have given up", retryable=False)

    assert isinstance(outcome_in_time(many, limit=4, at_least=0.4), PoolExhausted)
