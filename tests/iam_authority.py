"""A stand-in for IAM: it verifies the signature of each token that a real PostgreSQL receives in a login.

RDS hands the clear text of a login to a PAM module. Here PostgreSQL hands it to an LDAP server, which does the same:
the server asks the client for the password in the same way, and the verification is a second implementation of
Signature Version 4, which shares no code with the AWS SDK.
"""

import hashlib
import hmac
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BufferedIOBase, BytesIO
from threading import Thread
from typing import BinaryIO
from urllib.parse import parse_qs, quote

import trustme
from psycopg import sql

from registration_persistence.sandbox import LocalPostgres, PostgresServer, system_binaries
from registration_persistence.testing import skip_or_fail

REGION = "eu-west-1"
WRITER = f"app.cluster-c1a2b3.{REGION}.rds.amazonaws.com"
READER = f"app.cluster-ro-c1a2b3.{REGION}.rds.amazonaws.com"

_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY_BODY = hashlib.sha256(b"").hexdigest()
_LIFETIME = timedelta(minutes=15)
_MAX_SKEW = timedelta(minutes=5)

_SUCCESS, _INVALID_CREDENTIALS = 0, 49
_BIND_REQUEST, _BIND_RESPONSE = 0x60, 0x61


@dataclass(frozen=True)
class AccessKey:
    """AWS credentials, as the environment of a process has them."""

    id: str = "AKIDEXAMPLE"
    secret: str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    session_token: str | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the AWS SDK."""
        found = {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}
        return found | ({"AWS_SESSION_TOKEN": self.session_token} if self.session_token else {})


@dataclass
class IamAuthority:
    """Decides which tokens are valid, and records the logins.

    Args:
        keys: The access keys that may connect.
        clock: The difference between the clock of the server and that of this machine.
    """

    keys: list[AccessKey] = field(default_factory=lambda: [AccessKey()])
    clock: timedelta = timedelta(0)
    hosts: tuple[str, ...] = (WRITER, READER)
    port: int = 0
    region: str = REGION
    logins: list[tuple[str, str | None]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def reset(self) -> None:
        """Forget the logins, and accept the first key again."""
        self.keys, self.clock, self.hosts = [AccessKey()], timedelta(0), (WRITER, READER)
        self.logins, self.tokens = [], []

    @property
    def refusals(self) -> list[str]:
        """The reason of each refused login."""
        return [reason for _, reason in self.logins if reason]

    def verify(self, user: str, token: str) -> bool:
        """Return whether *token* is valid for *user* now, and record the login."""
        self.tokens.append(token)
        try:
            reason = self._reason_against(user, token)
        except (KeyError, ValueError) as error:
            reason = f"malformed: {error!r}"
        self.logins.append((user, reason))
        return reason is None

    def _reason_against(self, user: str, token: str) -> str | None:
        endpoint, _, query = token.partition("/?")
        given = {name: values[0] for name, values in parse_qs(query, strict_parsing=True).items()}
        signature = given.pop("X-Amz-Signature")
        key = next((each for each in self.keys if each.id == given["X-Amz-Credential"].split("/")[0]), None)
        signed = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        now = datetime.now(UTC) + self.clock
        expected = {
            "Action": "connect",
            "DBUser": user,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{key.id if key else ''}/{signed:%Y%m%d}/{self.region}/rds-db/aws4_request",
            "X-Amz-Date": given["X-Amz-Date"],
            "X-Amz-Expires": str(int(_LIFETIME.total_seconds())),
            "X-Amz-SignedHeaders": "host",
        }
        if key is None:
            return "unknown key"
        if key.session_token:
            expected["X-Amz-Security-Token"] = key.session_token
        if given != expected or endpoint not in {f"{host}:{self.port}" for host in self.hosts}:
            return "other request"
        if not signed - _MAX_SKEW <= now <= signed + _LIFETIME:
            return "expired"
        return None if hmac.compare_digest(signature, self._signature(key, endpoint, given)) else "wrong signature"

    def _signature(self, key: AccessKey, endpoint: str, parameters: dict[str, str]) -> str:
        query = "&".join(f"{quote(name, safe='')}={quote(parameters[name], safe='')}" for name in sorted(parameters))
        canonical = "\n".join(["GET", "/", query, f"host:{endpoint}", "", "host", _EMPTY_BODY])
        date = parameters["X-Amz-Date"]
        scope = f"{date[:8]}/{self.region}/rds-db/aws4_request"
        text = "\n".join([_ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        secret = f"AWS4{key.secret}".encode()
        for part in scope.split("/"):
            secret = hmac.digest(secret, part.encode(), "sha256")
        return hmac.new(secret, text.encode(), "sha256").hexdigest()


@contextmanager
def iam_server(authority: IamAuthority, certificate: trustme.LeafCert, users: list[str]) -> Iterator[PostgresServer]:
    """Start the PostgreSQL of the system; the members of `rds_iam` log in with a token that *authority* accepts.

    As on RDS, they log in over TLS and with nothing else; every other role logs in with its password.
    """
    binaries = system_binaries()
    if binaries is None:
        skip_or_fail("the system has no PostgreSQL server with TLS and LDAP: install the package postgresql")
    with _ldap_server(authority) as port:
        hba = (
            f'hostssl all +rds_iam 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix="" ldapsuffix=""\n'
            "host all all 127.0.0.1/32 scram-sha-256\n"
        )
        settings = {"ssl": "on", "ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"}
        files = {"tls.crt": certificate.cert_chain_pems[0].bytes(), "tls.key": certificate.private_key_pem.bytes()}
        with LocalPostgres(binaries, settings=settings, hba=hba, files=files, in_memory=True) as local:
            authority.port = local.server.port
            with local.server.connect() as connection:
                connection.execute("CREATE ROLE rds_iam NOLOGIN")
                for user in users:
                    connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE rds_iam").format(sql.Identifier(user)))
            yield local.server


@contextmanager
def _ldap_server(authority: IamAuthority) -> Iterator[int]:
    """Start an LDAP server that answers a simple bind, and yield its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while (message := _element(self.rfile)) is not None:
                number, request, *_ = _elements(message[1])
                if request[0] != _BIND_REQUEST:
                    return
                _version, name, password = _elements(request[1])
                valid = authority.verify(name[1].decode(), password[1].decode())
                code = _SUCCESS if valid else _INVALID_CREDENTIALS
                body = _encoded(0x0A, bytes([code])) + _encoded(0x04, b"") + _encoded(0x04, b"")
                self.wfile.write(_encoded(0x30, _encoded(*number) + _encoded(_BIND_RESPONSE, body)))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _element(stream: BinaryIO | BufferedIOBase) -> tuple[int, bytes] | None:
    """Read one BER element; `None` at the end."""
    read = stream.read
    head = read(2)
    if len(head) < 2:
        return None
    length = head[1]
    if length & 0x80:
        length = int.from_bytes(read(length & 0x7F), "big")
    return head[0], read(length)


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    stream, found = BytesIO(data), []
    while (element := _element(stream)) is not None:
        found.append(element)
    return found


def _encoded(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([tag, size]) + content if size < 0x80 else bytes([tag, 0x82]) + size.to_bytes(2, "big") + content
