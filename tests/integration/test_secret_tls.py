"""The TLS connection to Secrets Manager: the authorities that are trusted, and those that are loaded."""

import json
import logging
import ssl
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import botocore.httpsession
import pytest
import trustme

from registration_persistence.database.credentials import secret_reader
from registration_persistence.database.credentials.secret_reader import read_secret
from registration_persistence.errors import SecretUnavailable

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
SECRET = {"ARN": ARN, "VersionId": "7", "SecretString": json.dumps({"username": "app", "password": "hunter2"})}


class Server(ThreadingHTTPServer):
    """A Secrets Manager with TLS that has one secret, and counts its answers and handshakes."""

    answers = handshakes = 0

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._context = context

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection."""
        connection, address = super().get_request()
        self.handshakes += 1
        return self._context.wrap_socket(connection, server_side=True), address


class Handler(BaseHTTPRequestHandler):
    """Answers each call with the secret."""

    server: Server

    def do_POST(self) -> None:
        """Return the secret."""
        self.server.answers += 1
        body = json.dumps(SECRET).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 the name of the base class
        """Log nothing."""


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    """The authority of the server, and its file."""
    authority = trustme.CA()
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return authority, file


@pytest.fixture
def server(authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with a certificate of the authority, which the AWS SDK of this process calls."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("localhost").configure_cert(context)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with Server(context) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"https://localhost:{server.server_address[1]}")
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of authorities that this process has loaded."""
    files: list[str] = []
    load = ssl.SSLContext.load_verify_locations

    def record(context: ssl.SSLContext, cafile: Any = None, *rest: Any) -> None:
        files.append(str(cafile))
        load(context, cafile, *rest)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", record)
    return files


def test_the_roots_of_amazon_are_the_only_ones_that_are_loaded(
    server: Server, authority: tuple[trustme.CA, Path], loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of Amazon Trust Services, which the test replaces, is verified with its file alone."""
    monkeypatch.setattr(secret_reader, "AMAZON_TRUST_SERVICES", authority[1])

    assert read_secret(ARN).username == "app"
    assert [str(authority[1])] == loaded
    assert (server.answers, server.handshakes) == (1, 1)


def test_another_authority_of_botocore_is_accepted_with_a_warning(
    server: Server,
    authority: tuple[trustme.CA, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """AWS may change its authority: one more handshake verifies the server as botocore does, also in later calls."""
    monkeypatch.setattr(botocore.httpsession, "where", lambda: str(authority[1]))
    reader = secret_reader.SecretReader(ARN, region="eu-west-1")
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        reader.read("AWSCURRENT")
    reader.forget_session()
    reader.read("AWSCURRENT")

    assert server.answers == 3
    (warning,) = caplog.messages
    assert "is not signed by Amazon Trust Services" in warning
    assert "set AWS_CA_BUNDLE" in warning


def test_an_unknown_authority_is_refused(server: Server) -> None:
    """A server that neither Amazon's roots nor those of botocore verify gets no request."""
    with pytest.raises(SecretUnavailable, match="SSL validation failed"):
        read_secret(ARN)

    assert server.answers == 0


@pytest.mark.parametrize("place", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle", "partition"])
def test_the_authorities_of_the_user_and_of_other_partitions_are_those_of_botocore(
    server: Server, authority: tuple[trustme.CA, Path], loaded: list[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A variable or a configuration file of AWS selects them; without one, China and others have all of botocore's."""
    file, arn = authority[1], ARN
    if place == "ca_bundle":
        config = file.with_name("config")
        config.write_text(f"[default]\nca_bundle = {file}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    elif place == "partition":
        monkeypatch.setattr(botocore.httpsession, "where", lambda: str(file))
        arn = ARN.replace("arn:aws:", "arn:aws-cn:").replace("eu-west-1", "cn-north-1")
    else:
        monkeypatch.setenv(place, str(file))

    assert read_secret(arn).username == "app"
    assert {str(file)} == set(loaded)
    assert (server.answers, server.handshakes) == (1, 1)


def test_a_user_whose_authorities_do_not_verify_the_server_gets_an_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The authorities of the user are never replaced by others."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(other))

    with suppress(SecretUnavailable):
        read_secret(ARN)

    assert (server.answers, server.handshakes) == (0, 1)
    assert [] == caplog.messages
