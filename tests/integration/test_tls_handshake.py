"""The TLS handshake with the server: its round trips, when it begins, and the groups that libpq offers."""

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import trustme
from psycopg import pq
from support import variables_of
from tls_servers import TLS_ONLY, tls_server

from registration_persistence import Database, DatabaseSettings, deadline
from registration_persistence.database.tls_rules import SslNegotiation
from registration_persistence.errors import ConfigurationError, DatabaseUnavailable
from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing import RoundTripCounter

pytestmark = pytest.mark.tls

SOMEWHERE = PostgresServer("127.0.0.1", 5432, "ada", "hunter2")
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@pytest.fixture(scope="module")
def certificate() -> trustme.LeafCert:
    """The certificate of every server."""
    return trustme.CA().issue_cert("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def server(certificate: trustme.LeafCert) -> Iterator[PostgresServer]:
    """The PostgreSQL of the system, with TLS; version 15 has no direct TLS."""
    with tls_server(certificate, TLS_ONLY) as address:
        yield address


class TlsOfVersion17:
    """TLS in front of a server without it, as PostgreSQL 17 and later do it: asked for, or at once."""

    def __init__(self, certificate: trustme.LeafCert, target: PostgresServer) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        self._context.set_alpn_protocols(["postgresql"])
        self._context.num_tickets = 0  # PostgreSQL sends none, and a ticket would count as an answer
        self._target = target
        self.protocols: list[str | None] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]

    def serve(self) -> None:
        """Serve each connection in a thread until the listener is shut down."""
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if client.recv(len(SSL_REQUEST), socket.MSG_PEEK) == SSL_REQUEST:
            client.recv(len(SSL_REQUEST))
            client.sendall(b"S")
        with (
            suppress(OSError),
            self._context.wrap_socket(client, server_side=True) as secure,
            socket.create_connection((self._target.host, self._target.port)) as server,
        ):
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.protocols.append(secure.selected_alpn_protocol())
            Thread(target=forward, args=(server, secure), daemon=True).start()
            forward(secure, server)


def forward(source: socket.socket, target: socket.socket) -> None:
    """Forward bytes until one of the two ends is closed."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def modern_server(
    certificate: trustme.LeafCert, postgres_server: PostgresServer
) -> Iterator[tuple[PostgresServer, TlsOfVersion17]]:
    """A server that accepts TLS at once."""
    front = TlsOfVersion17(certificate, postgres_server)
    thread = Thread(target=front.serve)
    thread.start()
    yield replace(postgres_server, port=front.port), front
    front.listener.shutdown(socket.SHUT_RDWR)
    front.listener.close()
    thread.join()


def settings_of(server: PostgresServer, port: int, ssl_negotiation: SslNegotiation) -> DatabaseSettings:
    """Return the settings for *server* at another port, with TLS."""
    return DatabaseSettings(
        environment="test",
        host="127.0.0.1",
        port=port,
        name="postgres",
        user=server.user,
        password=server.password,
        sslmode="require",
        ssl_negotiation=ssl_negotiation,
    )


def cold_round_trips(server: PostgresServer, ssl_negotiation: SslNegotiation) -> int:
    """Return the number of round trips from no connection to the first result, without the TCP handshake."""
    with RoundTripCounter("127.0.0.1", server.port) as wire:
        database = Database(settings_of(server, wire.port, ssl_negotiation))
        assert database.ping().encrypted
        count = wire.round_trips()
        database.dispose()
        return count


PING_WITHOUT_FAREWELL = "import os; from registration_persistence import get_db; get_db().ping(); os._exit(0)"

HELLOS = """
import json, socket, ssl, sys, threading
import psycopg
from registration_persistence.database.openssl_groups import offer_groups
from registration_persistence.errors import ConfigurationError

def hello(connect, *, asks):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=connect, args=(listener.getsockname()[1],))
        thread.start()
        client, _ = listener.accept()
        with client:
            if asks:
                client.recv(8)
                client.sendall(b"S")
            sent = client.recv(65536)
        thread.join()
    return groups_in(sent)

def groups_in(sent):
    at = 5 + 4 + 2 + 32
    at += 1 + sent[at]
    at += 2 + int.from_bytes(sent[at:at + 2])
    at += 1 + sent[at]
    at += 2
    while at < len(sent):
        kind, length = int.from_bytes(sent[at:at + 2]), int.from_bytes(sent[at + 2:at + 4])
        body, at = sent[at + 4:at + 4 + length], at + 4 + length
        if kind == 10:
            return [int.from_bytes(body[n:n + 2]) for n in range(2, len(body), 2)]

def of_python(port):
    try:
        ssl.create_default_context().wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="x")
    except OSError:
        pass

def of_libpq(port):
    try:
        psycopg.connect(f"host=127.0.0.1 port={port} sslmode=require user=x dbname=x")
    except psycopg.Error:
        pass

found = []
for groups in ("", "P-256:X25519", "P-256:X25519"):
    offer_groups(groups)
    found.append([hello(of_python, asks=False), hello(of_libpq, asks=True)])
try:
    offer_groups("X25519")
except ConfigurationError as error:
    found.append(str(error))
print(json.dumps(found))
"""


def test_only_libpq_offers_other_groups() -> None:
    """The ClientHello of Python's `ssl` stays the same; libpq offers the groups, though it has connected before."""
    done = subprocess.run([sys.executable, "-c", HELLOS], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    before, *after, error = json.loads(done.stdout)
    p256, x25519 = 0x17, 0x1D
    assert before[1] != [p256, x25519]
    assert [[before[0], [p256, x25519]]] * 2 == after
    assert "is 'X25519', but libpq offers 'P-256:X25519' already" in error


HARDENED = """
openssl_conf = main
[main]
ssl_conf = tls
[tls]
system_default = defaults
[defaults]
Ciphersuites = TLS_AES_256_GCM_SHA384
Groups = P-521
CipherString = ECDHE-RSA-AES256-GCM-SHA384:@SECLEVEL=2
"""


def test_the_other_settings_of_the_machine_stay(tmp_path: Path) -> None:
    """OPENSSL_CONF may restrict the ciphers; a line that cannot be copied is an error."""
    script = HELLOS.replace("return groups_in(sent)\n", "return [groups_in(sent), sent[44 + sent[43]:][:6].hex()]\n")
    file = tmp_path / "openssl.cnf"
    done = []
    for line in ("", "CipherString = 'HIGH#'"):
        file.write_text(f"{HARDENED}{line}\n")
        environment = {**os.environ, "OPENSSL_CONF": str(file)}
        arguments = [sys.executable, "-c", script]
        done.append(subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment))

    assert done[0].returncode == 0, done[0].stderr
    (_, before), (_, after), *_ = json.loads(done[0].stdout)
    assert before == [[0x19], "00041302c030"]
    assert after == [[0x17, 0x1D], "00041302c030"]
    assert "'CipherString = HIGH#': set Groups there" in done[1].stderr


def test_the_group_of_the_server_saves_a_round_trip(server: PostgresServer) -> None:
    """PostgreSQL 15 takes P-256: without the key for another group, it does not have to ask for one."""
    settings = settings_of(server, server.port, "postgres")
    round_trips = []
    for groups in ("", "P-256:X25519"):
        with RoundTripCounter("127.0.0.1", server.port) as wire:
            variables = variables_of(replace(settings, port=wire.port)) | {"APP_DATABASE_TLS_GROUPS": groups}
            subprocess.run(
                [sys.executable, "-c", PING_WITHOUT_FAREWELL],
                env={**os.environ, **variables},
                check=True,
            )
            round_trips.append(wire.round_trips())

    assert round_trips[1] == round_trips[0] - 1


def test_without_an_openssl_of_its_own_the_groups_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the OpenSSL of the machine, the groups of other libraries would change too."""
    monkeypatch.setattr(pq, "__impl__", "c")

    with pytest.raises(ConfigurationError, match=r"psycopg \(c\) has no OpenSSL of its own") as raised:
        Database(replace(settings_of(SOMEWHERE, 5432, "postgres"), tls_groups="P-256"))

    assert "install psycopg[binary] on Linux" in str(raised.value)


def test_tls_at_once_saves_a_round_trip(modern_server: tuple[PostgresServer, TlsOfVersion17]) -> None:
    """The client does not ask for TLS first, and names the protocol in the handshake."""
    server, front = modern_server
    asked, at_once = cold_round_trips(server, "postgres"), cold_round_trips(server, "direct")

    assert at_once == asked - 1
    assert ["postgresql", "postgresql"] == front.protocols


def test_the_error_of_an_older_server_names_the_setting(server: PostgresServer) -> None:
    """PostgreSQL 15 closes the connection; the error has the fix, and stays retryable as a starting server is."""
    database = Database(settings_of(server, server.port, "direct"))
    expected = "APP_DATABASE_SSL_NEGOTIATION is 'direct': if the server is older than PostgreSQL 17"
    with pytest.raises(DatabaseUnavailable, match=expected) as raised, deadline(1.5, reserve=0):
        database.ping()

    assert raised.value.retryable
