"""The sources of secrets of the benchmarks: Secrets Manager over HTTPS, and AWS's Lambda extension."""

import re
import secrets
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import urlsplit

import trustme
from bench_servers import Server

from registration_persistence.sandbox import LocalSecretsExtension, LocalSecretsManager

REGION = "eu-west-1"
_CHUNK_BYTES = 65_536
_HOST = re.compile(rb"\r\nHost: [^\r]*\r\n", re.IGNORECASE)


class HttpsFront:
    """Accepts TLS, and forwards the requests to the local Secrets Manager; use it as a context manager.

    The header `Host` is replaced, because the local Secrets Manager answers only requests for its own address.

    Args:
        port: The port of the Secrets Manager.
        issued: The certificate.

    Attributes:
        port: The port of the front.
    """

    def __init__(self, port: int, issued: trustme.LeafCert) -> None:
        self._target = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True, name="HTTPS").start()
        return self

    def __exit__(self, *_error: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                Thread(target=self._serve, args=(client,), daemon=True, name="HTTPS connection").start()

    def _serve(self, client: socket.socket) -> None:
        """Forward one request and its answer; the server closes the connection after each answer."""
        with suppress(OSError), client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with (
                self._context.wrap_socket(client, server_side=True) as encrypted,
                socket.create_connection(("127.0.0.1", self._target)) as server,
            ):
                host = b"\r\nHost: 127.0.0.1:%d\r\n" % self._target
                server.sendall(_HOST.sub(host, encrypted.recv(_CHUNK_BYTES), count=1))
                Thread(target=_copy, args=(encrypted, server), daemon=True).start()
                _copy(server, encrypted)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The Secrets Manager, the extension, and the variables of clients of other libraries and of this package."""

    manager: LocalSecretsManager
    extension: LocalSecretsExtension
    environment: dict[str, str]
    environment_of_package: dict[str, str]

    def secret_of(self, server: Server) -> dict[str, str]:
        """Store the login of *server* in a secret, and return its variable."""
        value = {"username": server.user, "password": server.password}
        arn = self.manager.create(f"bench-{server.version}-{secrets.token_hex(4)}", value)
        return {"APP_DATABASE_SECRET_ARN": arn}


@contextmanager
def open_secrets() -> Iterator[Secrets]:
    """Start a Secrets Manager that answers over HTTPS, with a certificate of its own CA, and the extension."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        manager = stack.enter_context(LocalSecretsManager())
        variables = manager.environment
        plain_port = urlsplit(variables["AWS_ENDPOINT_URL_SECRETS_MANAGER"]).port
        assert plain_port is not None
        front = stack.enter_context(HttpsFront(plain_port, authority.issue_cert("localhost")))
        environment = {
            **variables,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"https://localhost:{front.port}",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CA_BUNDLE": str(_bundle(folder, authority, _default_bundle())),
        }
        own = {**environment, "AWS_CA_BUNDLE": str(_bundle(folder, authority, _bundle_of_package()))}
        yield Secrets(manager, stack.enter_context(LocalSecretsExtension(manager)), environment, own)


def _default_bundle() -> Path:
    """Return the certificates that botocore trusts by default."""
    package = find_spec("certifi") or find_spec("botocore")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("cacert.pem")


def _bundle_of_package() -> Path:
    """Return the certificates that this package trusts in AWS's Secrets Manager by default."""
    certificates: Any = import_module("registration_persistence.database.certificates")
    return Path(certificates.AMAZON_TRUST_SERVICES)


def _bundle(folder: Path, authority: trustme.CA, roots: Path) -> Path:
    """Write *roots* and the CA of the local servers into one file, so that a client loads as many roots as on AWS."""
    path = folder / f"{roots.stem}.pem"
    path.write_bytes(roots.read_bytes() + b"\n" + authority.cert_pem.bytes())
    return path
