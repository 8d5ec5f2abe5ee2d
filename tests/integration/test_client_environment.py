"""The environment of this process: neither a variable of libpq nor a file in the home directory has an effect."""

import os
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore
import psycopg
import pytest
import trustme
from client_variables import (
    AWS_ENDPOINTS,
    AWS_HARMLESS,
    AWS_IDENTITY,
    AWS_KEYS,
    AWS_OBEYED,
    AWS_UNRELATED,
    LIBPQ_VARIABLES,
    OTHER_VARIABLES,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from sqlalchemy import text
from tls_servers import WITH_OR_WITHOUT_TLS, tls_server

from registration_persistence import CredentialSource, Database, DatabaseSettings
from registration_persistence.database.credentials.aws_endpoint import is_endpoint_of_aws
from registration_persistence.database.settings_rules import PoolMode
from registration_persistence.database.tls_rules import SslMode
from registration_persistence.errors import ConfigurationError, SecretRefused, SecretUnavailable
from registration_persistence.sandbox import PostgresServer

pytestmark = pytest.mark.tls

Connect = Callable[[SslMode, PoolMode], tuple[object, ...]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The certificate authority of the server."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Iterator[PostgresServer]:
    """A server with TLS."""
    with tls_server(authority.issue_cert("localhost"), WITH_OR_WITHOUT_TLS) as address:
        yield address


@pytest.fixture
def connect(server: PostgresServer, authority: trustme.CA, tmp_path: Path) -> Connect:
    """Open a connection with a mode of TLS and of the pool, and return all that could differ between connections."""
    root = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(root)

    def describe(sslmode: SslMode, pool: PoolMode) -> tuple[object, ...]:
        database = Database(
            DatabaseSettings(
                environment="test",
                host="localhost",
                port=server.port,
                name="postgres",
                user=server.user,
                password=server.password,
                sslmode=sslmode,
                ssl_root_cert=str(root) if sslmode == "verify-full" else None,
                pool=pool,
                connect_timeout=2,
            )
        )
        with database.session() as session:
            server_side = session.execute(
                text(
                    "SELECT current_user, current_database(), inet_server_addr(), inet_server_port(), ssl, version,"
                    " (SELECT json_object_agg(name, reset_val) FROM pg_settings WHERE name <> 'max_stack_depth')"
                    " FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                )
            ).one()
            driver = session.connection().connection.dbapi_connection
            assert isinstance(driver, psycopg.Connection)
            described = (*server_side, driver.info.get_parameters())
        database.dispose()
        return described

    return describe


def test_every_variable_of_libpq_is_known() -> None:
    """A new variable of libpq needs a value of its parameter, and a place in the next test."""
    variables = {default.envvar.decode() for default in psycopg.pq.Conninfo.get_defaults() if default.envvar}

    assert {*LIBPQ_VARIABLES, "PGSERVICE"} == variables


@pytest.mark.parametrize(("sslmode", "pool"), [("require", "lambda"), ("prefer", "proxy"), ("verify-full", "service")])
def test_no_variable_of_libpq_has_an_effect(connect: Connect, sslmode: SslMode, pool: PoolMode) -> None:
    """With each variable, the connection has the same server, login, TLS and settings as without."""
    expected = connect(sslmode, pool)

    for variable, values in {**LIBPQ_VARIABLES, **OTHER_VARIABLES}.items():
        for value in values:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(variable, value)
                assert expected == connect(sslmode, pool), f"{variable}={value}"


def test_variables_that_cannot_be_overridden_are_rejected(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """No parameter overrides them; one error names all of them and the fix, before a connection is opened."""
    for variable, value in {"PGSERVICE": "", "PGTZ": "Mars", "PGDATESTYLE": "SQL", "PGGEQO": ""}.items():
        monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError) as raised:
        connect("require", "lambda")

    assert ["PGSERVICE", "PGDATESTYLE", "PGGEQO", "PGTZ"] == [problem.split()[0] for problem in raised.value.problems]
    assert all(problem.endswith(": unset it") for problem in raised.value.problems)
    assert not raised.value.retryable


def test_a_variable_that_selects_the_default_is_allowed(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The value `default` is not sent to the server."""
    expected = connect("require", "lambda")
    for variable in ("PGTZ", "PGDATESTYLE", "PGGEQO"):
        monkeypatch.setenv(variable, "Default")

    assert expected == connect("require", "lambda")


def revocations(authority: trustme.CA) -> bytes:
    """Return an expired revocation list of *authority*, with which libpq trusts no certificate."""
    certificate = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    past = datetime.now(UTC) - timedelta(days=9)
    builder = x509.CertificateRevocationListBuilder(certificate.subject, past, past + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("sslmode", ["require", "prefer", "verify-full"])
def test_no_file_in_the_home_directory_has_an_effect(
    connect: Connect, authority: trustme.CA, sslmode: SslMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold certificates, keys, revocations, passwords and services of another client."""
    expected = connect(sslmode, "lambda")
    folder = tmp_path / "home" / ".postgresql"
    folder.mkdir(parents=True)
    (folder / "postgresql.crt").write_text("not a certificate")
    (folder / "postgresql.key").write_text("not a key")
    trustme.CA().cert_pem.write_to_path(folder / "root.crt")
    (folder / "root.crl").write_bytes(revocations(authority))
    (folder.parent / ".pgpass").write_text("*:*:*:*:wrong")
    (folder.parent / ".pg_service.conf").write_text("not a service")
    monkeypatch.setenv("HOME", str(folder.parent))

    assert expected == connect(sslmode, "lambda")


@pytest.mark.parametrize("home", ["", "/nowhere", "/dev/null", "x" * 5000])
def test_a_home_directory_that_cannot_be_read_has_no_effect(
    connect: Connect, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be missing, or belong to another user."""
    expected = connect("prefer", "lambda")
    monkeypatch.setenv("HOME", home)

    assert expected == connect("prefer", "lambda")


class Listener:
    """A server that counts the connections that it receives, and answers none."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0)

    def was_asked(self) -> bool:
        """Return whether a client has connected."""
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch, isolated_variables: None) -> Callable[[], CredentialSource]:  # noqa: ARG001 its effect
    """A function that returns the credentials of a service in production, whose secret is in eu-west-1."""
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:registrations-AbCdEf"
    settings = DatabaseSettings(host="app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com", name="x", secret_arn=arn)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x" * 20)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return lambda: Database(settings).credentials


def test_no_endpoint_outside_aws_supplies_the_credentials(
    bridge: Callable[[], CredentialSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In production, a request for the secret that would leave AWS is not sent; the error names the fix."""
    listener = Listener()
    port = listener.socket.getsockname()[1]
    config = tmp_path / "config"
    config.write_text(f"[default]\nendpoint_url = http://127.0.0.1:{port}\n")
    for variable, values in AWS_ENDPOINTS.items():
        for value in values:
            with monkeypatch.context() as patch:
                patch.setenv(variable, value.format(port=port, config=config))
                with pytest.raises(SecretRefused, match="not an endpoint of Secrets Manager in eu-west-1: unset"):
                    bridge().current()
    assert not listener.was_asked()
    listener.socket.close()


def test_every_variable_of_the_sdk_is_known() -> None:
    """A new variable of the AWS SDK needs a decision, and a place in the next test."""
    name = re.compile(r"[\"']((?:AWS|BOTO|BOTOCORE)_[A-Z0-9_]+|[A-Z]+_CA_BUNDLE|SSLKEYLOGFILE)[\"']")
    assert botocore.__file__
    sources = Path(botocore.__file__).parent.glob("*.py")
    variables = {found for source in sources for found in name.findall(source.read_text("utf-8"))}

    known = {*AWS_ENDPOINTS, *AWS_HARMLESS, *AWS_UNRELATED, *AWS_OBEYED, *AWS_IDENTITY, *AWS_KEYS}
    assert variables - known == set()


def test_other_variables_of_the_sdk_do_not_lead_out_of_aws(
    bridge: Callable[[], CredentialSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each variable, the request goes to Secrets Manager in the region of the secret, over TLS."""
    urls: list[str] = []

    def record(_session: object, request: Any) -> None:
        urls.append(request.url)
        raise ConnectionError("the network is not needed")

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", record)
    alone = [{name: value} for name, value in AWS_HARMLESS.items()]
    for variables in [{}, *alone, AWS_UNRELATED, AWS_OBEYED, AWS_IDENTITY]:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(SecretUnavailable):
                bridge().current()
            assert is_endpoint_of_aws(urls.pop(), "eu-west-1"), variables
    assert not urls
