"""A TCP proxy in front of a server, which can switch to another server, close connections, lose replies and pause."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock, Thread
from types import TracebackType
from typing import Self, get_args

from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox.ports import LOOPBACK, free_port
from registration_persistence.sandbox.wake_up import EarlyAttempts, WakeUp

_CHUNK_BYTES = 65_536
_CONNECT_TIMEOUT_SECONDS = 10.0

# The messages Query, Parse and Bind; the first of them follows start-up and login.
_FIRST_BYTES_OF_STATEMENTS = (b"Q", b"P", b"B")


class TcpProxy:
    """Forwards connections between clients and a server, without TLS; use it as a context manager.

    Args:
        host: Host name or address of the server.
        port: TCP port of the server.
        listen_on: Address and port of the proxy; 127.0.0.1 and a free port by default.

    Attributes:
        host: Address of the proxy.
        port: TCP port of the proxy.
        connections: The number of connections that clients have opened.
        lost_replies: The number of replies that `lose_replies` has lost.
    """

    def __init__(self, host: str, port: int, *, listen_on: tuple[str, int] | None = None) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(listen_on or (LOOPBACK, free_port()))
        self.host: str
        self.port: int
        self.host, self.port = self._listener.getsockname()
        self.connections: int = 0
        self.lost_replies: int = 0
        self._lock = Lock()
        self._loss: _Loss | None = None
        self._wake_up: WakeUp | None = None
        self._open_connections: dict[_Connection, Thread] = {}
        self._acceptor: Thread | None = None

    def __enter__(self) -> Self:
        self._accept_from(self._listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop_accepting()
        self.cut()
        for thread in list(self._open_connections.values()):
            thread.join()

    def retarget(self, host: str, port: int) -> None:
        """Forward new connections to another server; open connections keep theirs.

        Args:
            host: Host name or address of the other server.
            port: TCP port of the other server.
        """
        self._target = (host, port)

    def cut(self) -> None:
        """Close every open connection on both sides."""
        with self._lock:
            connections = list(self._open_connections)
        for connection in connections:
            connection.end()

    def stop_accepting(self) -> None:
        """Refuse new connections; open connections stay open."""
        if self._acceptor is None:
            return
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept() on Linux, which close() does not
        self._listener.close()
        self._acceptor.join()
        self._acceptor = None

    def resume_accepting(self) -> None:
        """Accept new connections again, on the same port."""
        if self._acceptor is None:
            self._listener = socket.create_server((self.host, self.port))
            self._accept_from(self._listener)

    @contextmanager
    def lose_replies(self, fraction: float, *, seed: int | None = None) -> Iterator[None]:
        """Lose a share of the server's replies until the block ends.

        The server receives and executes the request; instead of its reply, both ends of the connection are closed.
        Replies to start-up and login are not lost. The client of a lost COMMIT cannot know whether it was kept.

        Args:
            fraction: Share of the replies that are lost, from 0 to 1.
            seed: Seed of the random number generator; random by default. With the same seed and the same order of
                replies, the same replies are lost.

        Raises:
            ValueError: *fraction* is not from 0 to 1.
        """
        if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise ValueError("fraction is out of range: expected a number from 0 to 1")
        self._loss = _Loss(fraction, random.Random(seed))  # noqa: S311 not for cryptography
        try:
            yield
        finally:
            self._loss = None

    @contextmanager
    def pause(self, *, wake_after: Duration = 15.0, early: EarlyAttempts = "held") -> Iterator[None]:
        """Pause like an idle Aurora cluster with a minimum of 0 ACU: it wakes up when a client connects.

        Every open connection is closed. New connections are accepted, but the server does not answer before it is
        awake.

        Args:
            wake_after: Time from the first attempt to connect until the server is awake, as a `timedelta` or in
                seconds, 0 to a day; 15 s by default, as Aurora usually needs, and 30 s or more after a day. If nobody
                connects, the server sleeps until the block ends.
            early: The result of an attempt to connect before the server is awake: `held`, the default, answers it
                when it is awake; `closed` closes it without an answer.

        Raises:
            TypeError, ValueError: *wake_after* is not a duration in its range, or *early* is another word.
            RuntimeError: The server is paused already.
        """
        seconds = bounded_seconds(wake_after, "wake_after")
        if early not in get_args(EarlyAttempts):
            raise ValueError(f"early is unknown: expected {' or '.join(get_args(EarlyAttempts))}")
        if self._wake_up is not None:
            raise RuntimeError("the server is paused already: end that block before the next pause")
        self._wake_up = wake_up = WakeUp(seconds, early)
        self.cut()
        try:
            yield
        finally:
            self._wake_up = None
            wake_up.end()

    def before_forwarding(self, data: bytes, *, from_client: bool, is_turn: bool) -> None:
        """Do nothing; a subclass can override this method, which runs in the thread that forwards *data*.

        Args:
            data: The bytes that are about to be forwarded.
            from_client: Whether the client has sent them; otherwise the server has.
            is_turn: Whether the other side was the last to send bytes on this connection.
        """

    def _accept_from(self, listener: socket.socket) -> None:
        self._acceptor = Thread(target=self._accept, args=(listener,), daemon=True, name="proxy")
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                connection = _Connection([client])
                thread = Thread(target=self._serve, args=(connection,), daemon=True, name="proxy connection")
                with self._lock:
                    self.connections += 1
                    self._open_connections[connection] = thread
                    thread.start()

    def _serve(self, connection: "_Connection") -> None:
        (client,) = connection.ends
        wake_up = self._wake_up
        with client, suppress(OSError):
            if wake_up is None or wake_up.admits(client):
                self._forward_both_ways(connection, client)
        with self._lock:
            del self._open_connections[connection]

    def _forward_both_ways(self, connection: "_Connection", client: socket.socket) -> None:
        with socket.create_connection(self._target, timeout=_CONNECT_TIMEOUT_SECONDS) as server:
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.ends.append(server)
            replies = Thread(target=self._forward, args=(connection, server, client), daemon=True, name="proxy reply")
            replies.start()
            self._forward(connection, client, server)
            replies.join()

    def _forward(self, connection: "_Connection", source: socket.socket, target: socket.socket) -> None:
        from_client = source is connection.ends[0]
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                with self._lock:
                    is_turn = connection.client_sent_last is not from_client
                    connection.client_sent_last = from_client
                    connection.has_logged_in |= from_client and data.startswith(_FIRST_BYTES_OF_STATEMENTS)
                    if is_turn and not from_client and self._loses_reply(connection):
                        break
                self.before_forwarding(data, from_client=from_client, is_turn=is_turn)
                target.sendall(data)
        connection.end()

    def _loses_reply(self, connection: "_Connection") -> bool:
        loss = self._loss
        if not connection.has_logged_in or loss is None or loss.generator.random() >= loss.fraction:
            return False
        self.lost_replies += 1
        return True


@dataclass(frozen=True, slots=True)
class _Loss:
    fraction: float
    generator: random.Random


@dataclass(eq=False, slots=True)
class _Connection:
    ends: list[socket.socket]
    client_sent_last: bool = False
    has_logged_in: bool = False

    def end(self) -> None:
        for side in self.ends:
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
