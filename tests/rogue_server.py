"""A server that speaks PostgreSQL's protocol to steal a password, and a server in the middle of a login."""

import hashlib
import socket
import ssl
import struct
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Literal

import trustme

Request = Literal["clear text", "md5", "scram", "nothing"]
"""How a rogue server asks for the password."""

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_SALT = b"salt"
_READY = b"Z\0\0\0\x05I"


@dataclass
class Rogue:
    """A rogue server.

    Args:
        port: Its TCP port on 127.0.0.1.
        received: The bytes that the clients sent, decrypted.
        users: The users that tried to log in.
    """

    port: int
    received: bytearray = field(default_factory=bytearray)
    users: list[str] = field(default_factory=list)

    def knows(self, user: str, password: str) -> bool:
        """Return whether a client sent *password*, or the answer to an MD5 request that proves it."""
        stored = hashlib.md5(password.encode() + user.encode()).hexdigest()  # noqa: S324 the protocol's hash
        proof = hashlib.md5(stored.encode() + _SALT).hexdigest()  # noqa: S324 the protocol's hash
        return any(secret.encode() in self.received for secret in (password, stored, proof))


def message(kind: bytes, body: bytes) -> bytes:
    """Return a message of the protocol."""
    return kind + struct.pack("!i", len(body) + 4) + body


@contextmanager
def rogue_server(request: Request, certificate: trustme.LeafCert | None) -> Iterator[Rogue]:
    """Run a server on 127.0.0.1 that asks for the password by *request*; without *certificate*, it refuses TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        rogue = Rogue(listener.getsockname()[1])

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    client.settimeout(5)
                    with suppress(OSError, ValueError, IndexError, struct.error), client:
                        _serve(client, certificate, request, rogue)

        Thread(target=serve, daemon=True).start()
        yield rogue


def context_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return the TLS context of a server with *certificate*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _serve(client: socket.socket, certificate: trustme.LeafCert | None, request: Request, rogue: Rogue) -> None:
    start = client.recv(8, socket.MSG_WAITALL)
    if start != _SSL_REQUEST:
        _steal(client, start, request, rogue)
    elif certificate is None:
        client.sendall(b"N")
        _steal(client, client.recv(8), request, rogue)
    else:
        client.sendall(b"S")
        with context_of(certificate).wrap_socket(client, server_side=True) as session:
            _steal(session, session.recv(8), request, rogue)


def _steal(client: socket.socket, start: bytes, request: Request, rogue: Rogue) -> None:
    startup = start + client.recv(4096)
    rogue.received += startup
    names = startup[8:].split(b"\0")
    rogue.users.append(names[names.index(b"user") + 1].decode())
    if request == "nothing":
        client.sendall(message(b"R", struct.pack("!i", 0)) + _READY)
    elif request == "clear text":
        client.sendall(message(b"R", struct.pack("!i", 3)))
    elif request == "md5":
        client.sendall(message(b"R", struct.pack("!i", 5) + _SALT))
    else:
        client.sendall(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
        first = client.recv(4096)
        rogue.received += first
        nonce = first[first.index(b"r=") :] + b"rogue"
        client.sendall(message(b"R", struct.pack("!i", 11) + nonce + b",s=" + b64encode(_SALT * 4) + b",i=4096"))
    rogue.received += client.recv(4096)
    if request != "nothing":
        rejection = b"SFATAL\0C28P01\0Mpassword authentication failed for user\0\0"
        client.sendall(message(b"E", rejection))
    while received := client.recv(4096):
        rogue.received += received


@contextmanager
def server_in_the_middle(port: int, certificate: trustme.LeafCert, *, offers_binding: bool) -> Iterator[int]:
    """Pass everything on to the server at *port*, over TLS on both sides, and yield the port.

    Without *offers_binding*, the server's offer of channel binding is removed.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with suppress(OSError):
                        _relay(client, port, certificate, offers_binding=offers_binding)

        Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def _relay(client: socket.socket, port: int, certificate: trustme.LeafCert, *, offers_binding: bool) -> None:
    client.settimeout(5)
    client.recv(8, socket.MSG_WAITALL)
    client.sendall(b"S")
    upstream = socket.create_connection(("127.0.0.1", port), timeout=5)
    upstream.sendall(_SSL_REQUEST)
    upstream.recv(1)
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    with (
        context_of(certificate).wrap_socket(client, server_side=True) as victim,
        blind.wrap_socket(upstream) as server,
    ):
        while sent := victim.recv(65536):
            server.sendall(sent)
            answer = server.recv(65536)
            if not offers_binding and b"SCRAM-SHA-256-PLUS\0" in answer:
                answer = message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0")
            victim.sendall(answer)
