"""A TCP proxy that counts round trips on the wire."""

import socket
import time
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType
from typing import Self

_CHUNK = 65_536


class WireCounter:
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
        self._latency = latency
        self._server = (server_host, server_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._round_trips = 0
        self._lock = Lock()
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        for end in self._open:
            end.close()

    def round_trips(self) -> int:
        """Return the round trips since the last call, and begin to count anew."""
        with self._lock:
            counted, self._round_trips = self._round_trips, 0
        return counted

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                self.connections += 1
                conversation = _Conversation()
                Thread(target=self._forward, args=(client, server, conversation, True), daemon=True).start()
                Thread(target=self._forward, args=(server, client, conversation, False), daemon=True).start()

    def _forward(
        self,
        source: socket.socket,
        target: socket.socket,
        conversation: "_Conversation",
        asks: bool,  # noqa: FBT001 a thread's argument
    ) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                with self._lock:
                    if asks and not conversation.asked:
                        self._round_trips += 1
                    conversation.asked = asks
                if asks and self._latency:
                    time.sleep(self._latency)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class _Conversation:
    asked = False
