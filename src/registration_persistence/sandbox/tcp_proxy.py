"""A TCP proxy in front of a server: it moves clients to another server, cuts them off, and loses replies."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from registration_persistence.sandbox.binaries import LOOPBACK, free_port

_CHUNK = 65_536

# Seconds until a server that swallows packets counts as away.
_CONNECT_TIMEOUT = 10.0

# Query, Parse and Bind; what comes before the first of them is start-up and login.
_WORK = (b"Q", b"P", b"B")


class TcpProxy:
    """Stands between clients and a server, without TLS; use it as a context manager.

    Args:
        host: Where the server is.
        port: The same.

    Attributes:
        port: Connect here, on 127.0.0.1.
        connections: Connections that were opened.
        lost: Replies that `lose_replies` lost.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server((LOOPBACK, free_port()))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.lost = 0
        self._lock = Lock()
        self._loss: _Loss | None = None
        self._conversations: dict[_Conversation, Thread] = {}
        self._acceptor: Thread | None = None

    def __enter__(self) -> Self:
        self._accept_from(self._listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_door()
        self.cut()
        for thread in list(self._conversations.values()):
            thread.join()

    def retarget(self, host: str, port: int) -> None:
        """Send new connections to another server; those that are open stay where they are."""
        self._target = (host, port)

    def cut(self) -> None:
        """Close every open connection at once, on both sides."""
        with self._lock:
            conversations = list(self._conversations)
        for conversation in conversations:
            conversation.end()

    def close_door(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._acceptor is None:
            return
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # Linux wakes accept() for this, and not for close()
        self._listener.close()
        self._acceptor.join()
        self._acceptor = None

    def open_door(self) -> None:
        """Accept new connections again, on the same port."""
        if self._acceptor is None:
            self._listener = socket.create_server((LOOPBACK, self.port))
            self._accept_from(self._listener)

    @contextmanager
    def lose_replies(self, fraction: float, *, seed: int | None = None) -> Iterator[None]:
        """Lose a share of the server's replies: the request arrives and is carried out, then both ends are closed.

        The replies to start-up and login are spared, so that it hits statements: a client never learns whether its
        COMMIT was kept.

        Args:
            fraction: Of the replies, 0 to 1.
            seed: Makes the choice the same each time, as far as the order of the connections is.
        """
        self._loss = _Loss(fraction, random.Random(seed))  # noqa: S311 a choice of faults guards no secret
        try:
            yield
        finally:
            self._loss = None

    def passing(self, data: bytes, *, from_client: bool, turn: bool) -> None:
        """Do nothing; a subclass sees what is about to be forwarded, in the thread that forwards it.

        Args:
            data: What was received in one piece.
            from_client: Whether the client sent it, or the server.
            turn: Whether the other side was the last to send something on this connection.
        """

    def _accept_from(self, listener: socket.socket) -> None:
        self._acceptor = Thread(target=self._accept, args=(listener,), daemon=True, name="proxy")
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the door was closed
            while True:
                client, _ = listener.accept()
                conversation = _Conversation([client])
                thread = Thread(target=self._serve, args=(conversation,), daemon=True, name="proxy connection")
                with self._lock:
                    self.connections += 1
                    self._conversations[conversation] = thread
                    thread.start()

    def _serve(self, conversation: "_Conversation") -> None:
        (client,) = conversation.ends
        with client, suppress(OSError), socket.create_connection(self._target, timeout=_CONNECT_TIMEOUT) as server:
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conversation.ends.append(server)
            replies = Thread(target=self._forward, args=(conversation, server, client), daemon=True, name="proxy reply")
            replies.start()
            self._forward(conversation, client, server)
            replies.join()
        with self._lock:
            del self._conversations[conversation]

    def _forward(self, conversation: "_Conversation", source: socket.socket, target: socket.socket) -> None:
        from_client = source is conversation.ends[0]
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                with self._lock:
                    turn = conversation.client_spoke is not from_client
                    conversation.client_spoke = from_client
                    conversation.works |= from_client and data.startswith(_WORK)
                    if turn and not from_client and self._loses(conversation):
                        break
                self.passing(data, from_client=from_client, turn=turn)
                target.sendall(data)
        conversation.end()

    def _loses(self, conversation: "_Conversation") -> bool:
        if not conversation.works or self._loss is None or self._loss.chance.random() >= self._loss.fraction:
            return False
        self.lost += 1
        return True


@dataclass(frozen=True, slots=True)
class _Loss:
    fraction: float
    chance: random.Random


@dataclass(eq=False, slots=True)
class _Conversation:
    ends: list[socket.socket]
    client_spoke: bool = False
    works: bool = False

    def end(self) -> None:
        for side in self.ends:
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
