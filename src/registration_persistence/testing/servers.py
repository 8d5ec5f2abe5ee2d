"""Opening a PostgreSQL server for tests: a named one, a container, that of the system, or the embedded one."""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Literal, assert_never, cast, get_args

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from registration_persistence.errors import ConfigurationError
from registration_persistence.sandbox import (
    LocalPostgres,
    LocalServerError,
    PostgresServer,
    embedded_binaries,
    system_binaries,
)
from registration_persistence.testing.container import is_engine_available, open_container
from registration_persistence.testing.missing import ServerMissing

ServerKind = Literal["named", "container", "system", "embedded"]
"""`named` by `TEST_POSTGRES_URL`, a `container`, the programs of the `system`, or those of the extra `local`."""

SERVER_KIND = "TEST_POSTGRES_KIND"
"""The environment variable that selects the kind of server: `named`, `container`, `system` or `embedded`."""

NAMED_SERVER = "TEST_POSTGRES_URL"
"""The environment variable that names a server: `postgresql://superuser:password@host:port`."""


SERVER_VERSION = "TEST_POSTGRES_VERSION"
"""The environment variable that selects the major version of PostgreSQL, such as 16."""

_VERSION_PATTERN = "1[5-9]|[2-9][0-9]"


class ServerKindSkipped(UserWarning):
    """A kind of server is available but does not start, so the next kind is used."""


@contextmanager
def open_server(kind: ServerKind | None = None) -> Iterator[PostgresServer]:
    """Start a server, or connect to the named one; a server that was started is stopped at the end of the block.

    `TEST_POSTGRES_VERSION` selects the major version of a server that is started. By default a container and the
    embedded server have PostgreSQL 18, and the system its newest version.

    Args:
        kind: `named` is the server of `TEST_POSTGRES_URL`, `container` starts PostgreSQL in a container, `system` uses
            the programs of the system, and `embedded` those of the extra `local`. Defaults to `TEST_POSTGRES_KIND`. If
            that is not set either, the first kind that starts is used, in this order, with a warning for each kind
            that is available but does not start.

    Raises:
        ConfigurationError: `TEST_POSTGRES_KIND` is not a kind, or `TEST_POSTGRES_VERSION` is not a version.
        ServerMissing: There is no server of this kind and version.
        LocalServerError: The programs of the system, or the embedded ones, do not start a server.
    """
    with ExitStack() as stack:
        *others, last = [kind] if kind else _kinds()
        for each in others:
            try:
                server = stack.enter_context(_open(each))
            except (ServerMissing, LocalServerError, OSError) as error:
                _warn(f"PostgreSQL of the kind {each} does not start, so the next kind is used: {error}")
            else:
                break
        else:
            server = stack.enter_context(_open(last))
        yield server


def cluster_binaries() -> Path | None:
    """Return the folder of the programs of a `LocalCluster`; `None` leaves the choice to it.

    Raises:
        ConfigurationError: `TEST_POSTGRES_KIND` is not a kind, or `TEST_POSTGRES_VERSION` is not a version.
        LocalServerError: There are no programs of this version.
    """
    version = chosen_version()
    if version is None:
        return embedded_binaries() if _chosen_kind() == "embedded" else None
    system = None if _chosen_kind() == "embedded" else system_binaries(version)
    return system or embedded_binaries(version)


def chosen_version() -> int | None:
    """Return the major version in `TEST_POSTGRES_VERSION`, or `None` if it is not set.

    Raises:
        ConfigurationError: The variable does not contain a version.
    """
    chosen = os.environ.get(SERVER_VERSION)
    if not chosen:
        return None
    if not re.fullmatch(_VERSION_PATTERN, chosen):
        raise ConfigurationError([f"{SERVER_VERSION} is {chosen!r}: expected a major version, 15 or newer"])
    return int(chosen)


def _chosen_kind() -> ServerKind | None:
    chosen = os.environ.get(SERVER_KIND)
    if not chosen:
        return None
    kinds = get_args(ServerKind)
    if chosen not in kinds:
        raise ConfigurationError([f"{SERVER_KIND} is {chosen!r}: expected {', '.join(kinds[:-1])} or {kinds[-1]}"])
    return cast("ServerKind", chosen)


def _kinds() -> Sequence[ServerKind]:
    """Return the kinds to try: the chosen one, or those that are available, the preferred first."""
    if chosen := _chosen_kind():
        return [chosen]
    if os.environ.get(NAMED_SERVER):
        return ["named"]
    kinds: list[ServerKind] = ["container"] if is_engine_available() else []
    kinds += ["system"] if system_binaries(chosen_version()) else []
    return [*kinds, "embedded"]


def _open(kind: ServerKind) -> AbstractContextManager[PostgresServer]:
    match kind:
        case "named":
            return _named()
        case "container":
            return open_container(chosen_version())
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
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # their messages quote the password
        raise ServerMissing(
            f"{NAMED_SERVER} is not a URL: expected postgresql://superuser:password@host:port"
        ) from None
    yield PostgresServer(url.host or "127.0.0.1", url.port or 5432, url.username or "postgres", url.password or "")


@contextmanager
def _system() -> Iterator[PostgresServer]:
    version = chosen_version()
    binaries = system_binaries(version)
    if binaries is None:
        package = "postgresql" if version is None else f"postgresql-{version}"
        raise ServerMissing(f"the system has no PostgreSQL server: install the package {package}")
    with LocalPostgres(binaries, in_memory=True) as postgres:
        yield postgres.server


@contextmanager
def _embedded() -> Iterator[PostgresServer]:
    version = chosen_version()
    try:
        binaries = embedded_binaries() if version is None else embedded_binaries(version)
    except LocalServerError as error:
        # The extra `test` contains `local`, and the tests need the rest of it too.
        raise ServerMissing(str(error).replace("[local]", "[test]")) from error
    with LocalPostgres(binaries, in_memory=True) as postgres:
        yield postgres.server


def _warn(message: str) -> None:
    with warnings.catch_warnings():
        # Suites that turn warnings into errors shall use the next kind, too.
        warnings.simplefilter("always", ServerKindSkipped)
        warnings.warn(f"{message} (choose a kind with {SERVER_KIND})", ServerKindSkipped, stacklevel=2)
