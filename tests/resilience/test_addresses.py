"""A host name with two addresses, of which only the second leads to the writer."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from resilience.standbys import all_slots_held

from registration_persistence import Database, RegistrationRepository, deadline
from registration_persistence.clock import monotonic
from registration_persistence.sandbox import TcpProxy
from registration_persistence.testing import RegistrationEnvironment, Rotate

HOST, FIRST = "database.example", "127.0.0.3"


@pytest.fixture
def named_host(registration_environment: RegistrationEnvironment, monkeypatch: pytest.MonkeyPatch) -> str:
    """A host name with the addresses `FIRST` and that of the endpoint."""
    look_up = socket.getaddrinfo

    def two_addresses(host: str, *arguments: Any, **named: Any) -> Any:
        if host != HOST:
            return look_up(host, *arguments, **named)
        addresses = (FIRST, registration_environment.cluster.server.host)
        return [found for address in addresses for found in look_up(address, *arguments, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    return HOST


@contextmanager
def accepting_nothing(port: int) -> Iterator[None]:
    """Let `FIRST` answer no packet that opens a connection, because its queue of connections is full."""
    with ExitStack() as stack:
        stack.enter_context(socket.create_server((FIRST, port), backlog=0))
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            with suppress(BlockingIOError):
                client.connect((FIRST, port))
        yield


@contextmanager
def sending_nothing(port: int) -> Iterator[None]:
    """Let `FIRST` accept connections and never answer."""
    with socket.create_server((FIRST, port)):
        yield


@contextmanager
def closing_at_once(port: int) -> Iterator[None]:
    """Let `FIRST` accept connections and close them."""
    with TcpProxy("127.0.0.1", 1, listen_on=(FIRST, port)):
        yield


@contextmanager
def refusing(_port: int) -> Iterator[None]:
    """Let `FIRST` refuse connections."""
    yield


def test_the_second_address_is_used_in_time(
    registration_environment: RegistrationEnvironment, named_host: str, rotate: Rotate
) -> None:
    """In a rotation window, a process signs up within 3 s; later connections do not wait for the first address."""
    environment, port = registration_environment, registration_environment.cluster.endpoint.port
    standby = environment.cluster.add_standby().server

    @contextmanager
    def a_reader(port: int) -> Iterator[None]:
        with TcpProxy(standby.host, standby.port, listen_on=(FIRST, port)):
            yield

    @contextmanager
    def a_full_server(port: int) -> Iterator[None]:
        with a_reader(port), all_slots_held(standby):
            yield

    def sign_up(database: Database, key: str) -> None:
        started = monotonic()
        with deadline(3):
            database.run(lambda session: RegistrationRepository(session).register(f"{key}@example.com"))
        seconds[key] = monotonic() - started

    seconds: dict[str, float] = {}
    for fault in (accepting_nothing, sending_nothing, closing_at_once, refusing, a_reader, a_full_server):
        name, pool = fault.__name__, "proxy" if fault is sending_nothing else "lambda"
        database = Database(environment.settings(APP_DATABASE_HOST=named_host, APP_DATABASE_POOL=pool))
        database.credentials.current()  # a busy machine takes long to create the first client of the SDK
        with fault(port):
            rotate(pause_in_window=partial(sign_up, database, name))
            database.dispose()
            sign_up(database, f"{name}-again")
            assert seconds[f"{name}-again"] < 2, seconds  # the limit of the first address
            assert database.events.count("login_rejected"), name
        database.dispose()


def test_a_silent_address_does_not_use_up_a_long_deadline(
    registration_environment: RegistrationEnvironment, named_host: str
) -> None:
    """It has 2 s, however long the deadline is."""
    database = Database(registration_environment.settings(APP_DATABASE_HOST=named_host))
    with sending_nothing(registration_environment.cluster.endpoint.port), deadline(29):
        started = monotonic()
        assert database.ping().writable
        assert monotonic() - started < 6
    database.dispose()
