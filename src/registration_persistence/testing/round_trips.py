"""A TCP proxy that counts round trips on the wire."""

import time
from threading import Lock

from registration_persistence.sandbox import TcpProxy


class WireCounter(TcpProxy):
    """Stands between clients and a PostgreSQL server; use it as a context manager.

    A round trip begins when the client sends something after it has heard from the server, and everything that it
    sends before it waits again belongs to the same one. The TCP handshake is not counted.

    Args:
        server_host: Where the server is.
        server_port: The same.
        latency: Seconds that what the client sends takes to reach the server, as on a network.

    Attributes:
        port: Connect here, on 127.0.0.1, without TLS.
        connections: Connections that were opened.
    """

    def __init__(self, server_host: str, server_port: int, *, latency: float = 0.0) -> None:
        super().__init__(server_host, server_port)
        self._latency = latency
        self._round_trips = 0
        self._counting = Lock()

    def round_trips(self) -> int:
        """Return the round trips since the last call, and begin to count anew."""
        with self._counting:
            counted, self._round_trips = self._round_trips, 0
        return counted

    def passing(self, data: bytes, *, from_client: bool, turn: bool) -> None:  # noqa: ARG002 as the proxy calls it
        """Count what the client sends after it has heard from the server, and hold it up."""
        if from_client:
            with self._counting:
                self._round_trips += turn
            if self._latency:
                time.sleep(self._latency)
