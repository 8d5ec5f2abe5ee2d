"""The process of the service: `python -m signup_local.server LISTENER CONTROL`, with two open sockets."""

import asyncio
import os
import signal
import socket
import sys

import uvicorn

from signup_local.app import create_local_app
from signup_local.faults import Faults

_GRACEFUL_SHUTDOWN_SECONDS = 6


def main() -> None:
    """Serve until SIGTERM, or until the process at the other end of the control socket has ended."""
    listener, control = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    asyncio.run(_serve(listener, control))


async def _serve(listener: socket.socket, control: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=control)
    faults = Faults(reader, writer, ended=lambda: os.kill(os.getpid(), signal.SIGTERM))
    config = uvicorn.Config(
        create_local_app(faults),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACEFUL_SHUTDOWN_SECONDS,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    main()
