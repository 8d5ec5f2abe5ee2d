"""`delayed`: a server that is further away, through a proxy in a process of its own."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from registration_persistence.testing import RoundTripCounter


@contextmanager
def delayed(host: str, port: int, seconds: float) -> Iterator[int]:
    """Start a proxy to a server, and yield its port on 127.0.0.1.

    The proxy takes no time of the process that is measured.

    Args:
        host: Host name or address of the server.
        port: TCP port of the server.
        seconds: Delay of the data that a client sends.
    """
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    proxy = processes.Process(target=_forward, args=(there, host, port, seconds), daemon=True)
    proxy.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        proxy.join()


def _forward(pipe: Connection, host: str, port: int, seconds: float) -> None:
    with RoundTripCounter(host, port, latency=seconds) as proxy:
        pipe.send(proxy.port)
        pipe.recv()
