"""A PostgreSQL server in a container, if a container engine is available."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing.missing import ServerMissing, needs_test_extra

_DEFAULT_VERSION = 18
# Not the folder of the image, because the images of PostgreSQL 18 and newer do not start if something is mounted on the
# folder of the older ones.
_DATA_FOLDER = "/data"
# The socket of a container engine, if DOCKER_HOST is not set.
_ENGINE_SOCKET = Path("/var/run/docker.sock")
_ENGINE_TIMEOUT_SECONDS = 2


def is_engine_available() -> bool:
    """Return whether a container engine answers, and the packages that use it are installed."""
    try:
        import docker
        import testcontainers  # noqa: F401 only whether it is installed
    except ImportError:
        return False
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


@contextmanager
def open_container(version: int | None = None) -> Iterator[PostgresServer]:
    """Start PostgreSQL in a container, which is removed at the end of the block.

    Args:
        version: Major version, 18 by default. `TEST_POSTGRES_IMAGE` names an image instead.

    Raises:
        ServerMissing: A package is not installed, no engine answers, the image cannot be pulled, or the container
            does not start.
    """
    with needs_test_extra():
        import docker
        from testcontainers.community.postgres import PostgresContainer
    if not is_engine_available():
        raise ServerMissing("no container engine answers: start Docker, or set DOCKER_HOST")
    image = os.environ.get("TEST_POSTGRES_IMAGE") or f"postgres:{version or _DEFAULT_VERSION}"
    container = None
    try:
        # The engine may publish the port on every address of this machine.
        password = secrets.token_urlsafe(16)
        container = PostgresContainer(image, password=password, driver=None)
        container.with_env("PGDATA", _DATA_FOLDER).with_tmpfs_mount(_DATA_FOLDER).start()
        server = PostgresServer(
            container.get_container_host_ip(),
            int(container.get_exposed_port(container.port)),
            container.username,
            container.password,
        )
    except (docker.errors.DockerException, OSError, RuntimeError) as error:
        if container is not None:
            with suppress(docker.errors.DockerException, OSError, RuntimeError):
                container.stop()
        problem = " ".join(str(error).split())
        raise ServerMissing(f"the container engine cannot start {image}: {problem}") from error
    try:
        yield server
    finally:
        container.stop()
