"""Free TCP ports on 127.0.0.1."""

import random
import socket

from registration_persistence.sandbox.errors import LocalServerError

LOOPBACK = "127.0.0.1"

READER_LOOPBACK = "127.0.0.2"
"""The address of reader endpoints, so that they have the port of the writer's; Linux has it without configuration."""

# Below the range that systems use for outgoing connections, so that no connection takes the port of a server that
# restarts.
_PORTS = range(20_000, 32_000)

_MAX_ATTEMPTS = 50


def free_port() -> int:
    """Return a port of 127.0.0.1 on which no server listens.

    Raises:
        LocalServerError: None of 50 random ports from 20,000 to 31,999 is free.
    """
    for port in random.sample(_PORTS, _MAX_ATTEMPTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise LocalServerError(
        f"{_MAX_ATTEMPTS} random ports between {_PORTS.start} and {_PORTS.stop - 1} are all in use: expected a free one"
    )
