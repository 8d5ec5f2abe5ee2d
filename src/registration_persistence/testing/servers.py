"""Opening a PostgreSQL server for tests: a named one, a container, that of the system, or the embedded one."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, NoReturn, assert_never

import pytest
from sqlalchemy import make_url

from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries, system_binaries

ServerKind = Literal["named", "container", "system", "embedded"]
"""`named` by `TEST_POSTGRES_URL`, a `container`, the programs of the `system`, or those of the extra `local`."""

NAMED_SERVER = "TEST_POSTGRES_URL"
"""The environment variable that names a server: `postgresql://superuser:password@host:port`."""

_DEFAULT_IMAGE = "postgres:16"
# The socket of a container engine, if DOCKER_HOST is not set.
_ENGINE_SOCKET = Path("/var/run/docker.sock")
_ENGINE_TIMEOUT_SECONDS = 2


class ServerMissing(RegistrationPersistenceError):
    """There is no server of this kind; the message says what to install or start."""


@contextmanager
def open_server(kind: ServerKind | None = None) -> Iterator[PostgresServer]:
    """Start a server, or connect to the named one; a server that was started is stopped at the end of the block.

    Args:
        kind: `named` is the server of `TEST_POSTGRES_URL`, `container` starts PostgreSQL in a container, `system` uses
            the programs of the system, and `embedded` those of the extra `local`. Defaults to `None`, which takes the
            first kind that is available, in this order.

    Raises:
        ServerMissing: There is no server of this kind.
    """
    with _open(kind or _first_available()) as server:
        yield server


def skip_or_fail(reason: object) -> NoReturn:
    """Skip the test because something is missing; if the environment variable `CI` is set, fail it.

    Args:
        reason: The missing thing, for the report of the test run.
    """
    if os.environ.get("CI"):
        pytest.fail(str(reason))
    pytest.skip(str(reason))


def _first_available() -> ServerKind:
    if os.environ.get(NAMED_SERVER):
        return "named"
    if _engine_answers():
        return "container"
    return "system" if system_binaries() else "embedded"


def _open(kind: ServerKind) -> AbstractContextManager[PostgresServer]:
    match kind:
        case "named":
            return _named()
        case "container":
            return _container()
        case "system":
            return _system()
        case "embedded":
            return _embedded()
        case _:
            assert_never(kind)


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

    container = PostgresContainer(os.environ.get("TEST_POSTGRES_IMAGE", _DEFAULT_IMAGE), driver=None)
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
    with LocalPostgres(binaries) as postgres:
        yield postgres.server


@contextmanager
def _embedded() -> Iterator[PostgresServer]:
    with LocalPostgres(embedded_binaries()) as postgres:
        yield postgres.server


def _engine_answers() -> bool:
    import docker

    if not os.environ.get("DOCKER_HOST") and not _ENGINE_SOCKET.exists():
        return False
    try:
        # With a fixed version, the client does not ask the engine for one while it is created.
        client = docker.DockerClient.from_env(timeout=_ENGINE_TIMEOUT_SECONDS, version="1.41")
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):  # OSError if no engine listens
        return False
    finally:
        client.close()
