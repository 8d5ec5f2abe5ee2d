"""Finding a PostgreSQL server to test against: one adapter for a named server, a container, the system's, and ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import make_url

from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries, system_binaries

KINDS = ("named", "container", "system", "embedded")
"""In the order in which `open_server` tries them."""

NAMED_SERVER = "TEST_POSTGRES_URL"
"""The variable that names a server: `postgresql://superuser:password@host:port`."""

_IMAGE = "postgres:16"
# Where an engine is that no variable names.
_ENGINE = Path("/var/run/docker.sock")


class ServerMissing(RegistrationPersistenceError):
    """There is no server of this kind; the message says what to install or start."""


@contextmanager
def open_server(kind: str | None = None) -> Iterator[PostgresServer]:
    """Start a server, or find the one that is named, and stop it at the end.

    Args:
        kind: One of `KINDS`; by default the first that is there.

    Raises:
        ServerMissing: There is none.
    """
    if kind is not None:
        with {"named": _named, "container": _container, "system": _system, "embedded": _embedded}[kind]() as address:
            yield address
        return
    if os.environ.get(NAMED_SERVER):
        found = "named"
    elif _engine_answers():
        found = "container"
    else:
        found = "system" if system_binaries() else "embedded"
    with open_server(found) as address:
        yield address


@contextmanager
def _named() -> Iterator[PostgresServer]:
    text = os.environ.get(NAMED_SERVER)
    if not text:
        raise ServerMissing(f"{NAMED_SERVER} is not set: expected postgresql://superuser:password@host:port")
    url = make_url(text)
    yield PostgresServer(url.host or "127.0.0.1", url.port or 5432, url.username or "postgres", url.password or "")


@contextmanager
def _container() -> Iterator[PostgresServer]:
    if not _engine_answers():
        raise ServerMissing("no container engine answers: start Docker, or set DOCKER_HOST")
    from testcontainers.community.postgres import PostgresContainer

    container = PostgresContainer(os.environ.get("TEST_POSTGRES_IMAGE", _IMAGE), driver=None)
    with container.with_tmpfs_mount("/var/lib/postgresql/data"):
        yield PostgresServer(
            container.get_container_host_ip(),
            int(container.get_exposed_port(container.port)),
            container.username,
            container.password,
        )


@contextmanager
def _system() -> Iterator[PostgresServer]:
    binaries = system_binaries()
    if binaries is None:
        raise ServerMissing("the system has no PostgreSQL server: install the package postgresql")
    with LocalPostgres(binaries) as server:
        yield server.address


@contextmanager
def _embedded() -> Iterator[PostgresServer]:
    with LocalPostgres(embedded_binaries()) as server:
        yield server.address


def _engine_answers() -> bool:
    import docker

    if not os.environ.get("DOCKER_HOST") and not _ENGINE.exists():
        return False
    try:
        client = docker.DockerClient.from_env(timeout=2, version="1.41")  # named, so that making it asks nobody
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):  # the second where nobody listens
        return False
    finally:
        client.close()


def missing(what: object) -> NoReturn:
    """Skip the test because *what* is not there; where `CI` is set, which promises everything, fail it."""
    if os.environ.get("CI"):
        pytest.fail(str(what))
    pytest.skip(str(what))
