"""A TCP proxy that counts round trips between a client and a PostgreSQL server."""

import time
from threading import Lock

from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox import TcpProxy

_MAX_LATENCY_SECONDS = 60.0


class RoundTripCounter(TcpProxy):
    """Forwards connections to a PostgreSQL server and counts round trips; use it as a context manager.

    A round trip begins when the client sends data after it has received data from the server. All data that it sends
    until it receives data again belongs to the same round trip. The TCP handshake is not counted.

    Args:
        host: Host name or address of the server.
        port: TCP port of the server.
        latency: Delay of the data that the client sends, as a `timedelta` or in seconds, 0 to 60; 0 by default.

    Attributes:
        port: TCP port of the proxy, on 127.0.0.1, without TLS.
        connections: The number of connections that clients have opened.
    """

    def __init__(self, host: str, port: int, *, latency: Duration = 0.0) -> None:
        self._latency_seconds = bounded_seconds(latency, "latency", most=_MAX_LATENCY_SECONDS)
        super().__init__(host, port)
        self._round_trips = 0
        self._count_lock = Lock()

    def round_trips(self) -> int:
        """Return the number of round trips since the last call, and count again from 0."""
        with self._count_lock:
            counted, self._round_trips = self._round_trips, 0
        return counted

    def before_forwarding(self, data: bytes, *, from_client: bool, is_turn: bool) -> None:  # noqa: ARG002 the proxy's signature
        """Count a round trip if the client begins one, and delay the data of the client.

        Args:
            data: The bytes that are about to be forwarded.
            from_client: Whether the client has sent them; otherwise the server has.
            is_turn: Whether the other side was the last to send bytes on this connection.
        """
        if from_client:
            with self._count_lock:
                self._round_trips += is_turn
            if self._latency_seconds:
                time.sleep(self._latency_seconds)
