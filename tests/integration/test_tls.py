"""TLS connections: which servers each `sslmode` accepts, tested with certificates of our own authority."""

import secrets
import socket
import ssl
import struct
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from server_versions import local_kind
from sqlalchemy import text
from tls_servers import TLS_ONLY, tls_server

from registration_persistence import (
    Database,
    DatabaseSettings,
    RegistrationPersistenceError,
    deadline,
    get_db,
    get_engine,
    schema,
)
from registration_persistence.database import certificates
from registration_persistence.database.process import forget_db
from registration_persistence.database.tls_rules import SslMode
from registration_persistence.errors import ConfigurationError, ConnectionRejected, DatabaseUnavailable
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer
from registration_persistence.testing import open_server

pytestmark = pytest.mark.tls

Server = Callable[[str], PostgresServer]
Open = Callable[[DatabaseSettings], Database]

SHIPPED = Path(certificates.__file__).with_name("eu-west-1.pem")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The certificate authority that signs the certificate of every server."""
    return trustme.CA()


@pytest.fixture(scope="module")
def roots(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of root certificates: ours, another authority's, and one that the package ships."""
    folder = tmp_path_factory.mktemp("roots")
    authority.cert_pem.write_to_path(folder / "ours.pem")
    trustme.CA().cert_pem.write_to_path(folder / "foreign.pem")
    return {"ours": folder / "ours.pem", "foreign": folder / "foreign.pem", "shipped": SHIPPED}


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Iterator[Server]:
    """Servers that only accept TLS, by the kind of their certificate; each is started when first used."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate = {
        "good": lambda: authority.issue_cert("localhost", "127.0.0.1"),
        "expired": lambda: authority.issue_cert("localhost", "127.0.0.1", not_after=yesterday),
        "misnamed": lambda: authority.issue_cert("other.example"),
        "self-signed": lambda: self_signed("localhost"),
    }
    running: dict[str, PostgresServer] = {}
    with ExitStack() as servers:

        def running_server(kind: str) -> PostgresServer:
            if kind not in running:
                running[kind] = servers.enter_context(tls_server(certificate[kind](), TLS_ONLY))
            return running[kind]

        yield running_server


@pytest.fixture(scope="module")
def server_without_tls() -> Iterator[PostgresServer]:
    """A server without TLS."""
    with open_server(local_kind()) as address:
        yield address


@pytest.fixture
def opened() -> Iterator[Open]:
    """Create a `Database` whose connections are closed at the end of the test."""
    with ExitStack() as databases:

        def made(settings: DatabaseSettings) -> Database:
            database = Database(settings)
            databases.callback(database.dispose)
            return database

        yield made


@pytest.fixture(autouse=True)
def _local_secrets_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environments of production read secrets from the local Secrets Manager."""
    monkeypatch.setattr("registration_persistence.database.credentials.factory.is_relaxed", lambda _environment: True)


@pytest.fixture
def production(server: Server, secrets_manager: LocalSecretsManager) -> Callable[[str], dict[str, str]]:
    """The environment of a service in production, with a secret for the given kind of server."""

    def environ(kind: str) -> dict[str, str]:
        address = server(kind)
        secret = {"username": address.user, "password": address.password}
        return {
            "APP_DATABASE_HOST": "localhost",
            "APP_DATABASE_PORT": str(address.port),
            "APP_DATABASE_NAME": "postgres",
            "APP_DATABASE_SECRET_ARN": secrets_manager.create(secrets.token_hex(8), secret),
        }

    return environ


def settings_for(
    address: PostgresServer, sslmode: SslMode, root: Path | None = None, **others: Any
) -> DatabaseSettings:
    """Return settings for the environment `test`, where every *sslmode* is allowed."""
    return DatabaseSettings(
        environment="test",
        host=others.pop("host", "localhost"),
        port=address.port,
        name="postgres",
        user=address.user,
        password=address.password,
        sslmode=sslmode,
        ssl_root_cert=None if root is None else str(root),
        **others,
    )


def tls_as_the_server_sees_it(database: Database) -> tuple[bool, str]:
    """Return whether this connection uses TLS, and which version, according to the server."""
    with database.session() as session:
        row = session.execute(text("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).one()
    return row.ssl, row.version


def connection_error(database: Database) -> RegistrationPersistenceError:
    """Connect, and return the error."""
    return error_of(database.ping)


def error_of(attempt: Callable[[], object]) -> RegistrationPersistenceError:
    """Return the error of *attempt*; its traceback has no frame of the test, which knows the password."""
    with pytest.raises(RegistrationPersistenceError) as raised:
        attempt()
    return raised.value


def full_report(error: BaseException) -> str:
    """Return *error* with its causes and every local variable of their frames."""
    report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return report + str(error) + repr(error)


@pytest.mark.parametrize(("sslmode", "root"), [("require", None), ("verify-ca", "ours"), ("verify-full", "ours")])
def test_production_reaches_its_server_over_tls(
    opened: Open,
    production: Callable[[str], dict[str, str]],
    roots: dict[str, Path],
    sslmode: SslMode,
    root: str | None,
) -> None:
    """Each mode that production may use connects with the secret's password; client and server report TLS."""
    environ = production("good") | {"APP_DATABASE_SSLMODE": sslmode}
    if root is not None:
        environ["APP_DATABASE_SSL_ROOT_CERT"] = str(roots[root])

    database = opened(DatabaseSettings.from_env(environ))

    health = database.ping()
    assert (True, True) == (health.encrypted, health.writable)
    assert (True, "TLSv1.3") == tls_as_the_server_sees_it(database)


def test_require_is_the_default_for_a_host_without_authority(
    opened: Open, production: Callable[[str], dict[str, str]]
) -> None:
    """Without `APP_DATABASE_SSLMODE` and a root certificate the connection is encrypted."""
    database = opened(DatabaseSettings.from_env(production("good")))

    assert (True, "TLSv1.3") == tls_as_the_server_sees_it(database)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_verify_full_accepts_each_name_of_the_certificate(
    opened: Open, server: Server, roots: dict[str, Path], host: str
) -> None:
    """A host name and an IP address that the certificate names are both accepted."""
    database = opened(settings_for(server("good"), "verify-full", roots["ours"], host=host))

    assert database.ping().encrypted


@pytest.mark.parametrize("sslmode", ["allow", "prefer"])
def test_weaker_modes_use_tls_if_the_server_requires_it(opened: Open, server: Server, sslmode: SslMode) -> None:
    """A mode that allows plain text in `test` uses TLS with a server that accepts nothing else."""
    assert opened(settings_for(server("good"), sslmode)).ping().encrypted


def test_health_reports_a_plain_text_connection(opened: Open, server_without_tls: PostgresServer) -> None:
    """`Health.encrypted` is false on a connection without TLS."""
    health = opened(settings_for(server_without_tls, "prefer", host="127.0.0.1")).ping()

    assert not health.encrypted


def test_require_rejects_a_server_without_tls(opened: Open, server_without_tls: PostgresServer) -> None:
    """The password is not sent, and the error is not retryable."""
    error = connection_error(opened(settings_for(server_without_tls, "require", host="127.0.0.1")))

    assert (ConnectionRejected, False) == (type(error), error.retryable)
    assert "server does not support SSL, but SSL was required" in str(error)


def test_a_server_may_reject_plain_text(
    opened: Open, production: Callable[[str], dict[str, str]], secrets_manager: LocalSecretsManager
) -> None:
    """A connection without TLS ends in `ConnectionRejected`, and the secret is not read again for it."""
    environ = production("good") | {"APP_ENVIRONMENT": "test", "APP_DATABASE_SSLMODE": "disable"}
    database = opened(DatabaseSettings.from_env(environ))

    errors = [connection_error(database) for _ in range(3)]

    assert [(ConnectionRejected, False)] * 3 == [(type(error), error.retryable) for error in errors]
    assert "no pg_hba.conf entry" in str(errors[0])
    assert (0, 1) == (database.events.count("login_rejected"), database.events.count("secret_read"))
    assert {"GetSecretValue": 1} == secrets_manager.calls


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_production_requires_tls(secrets_manager: LocalSecretsManager, sslmode: SslMode) -> None:
    """A mode that allows plain text is a `ConfigurationError`, before a secret is read or a server contacted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        environ = {
            "APP_DATABASE_HOST": "127.0.0.1",
            "APP_DATABASE_PORT": str(listener.getsockname()[1]),
            "APP_DATABASE_NAME": "postgres",
            "APP_DATABASE_SECRET_ARN": secrets_manager.create(secrets.token_hex(8), {"username": "u", "password": "p"}),
            "APP_DATABASE_SSLMODE": sslmode,
        }

        with pytest.raises(ConfigurationError, match=f"APP_DATABASE_SSLMODE is '{sslmode}'"):
            Database(DatabaseSettings.from_env(environ)).ping()

        with pytest.raises(BlockingIOError):
            listener.accept()
    assert {} == secrets_manager.calls


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        (("good", "verify-full", "foreign"), "certificate verify failed"),
        (("good", "verify-ca", "foreign"), "certificate verify failed"),
        (("good", "verify-full", "shipped"), "certificate verify failed"),
        (("expired", "verify-full", "ours"), "certificate verify failed"),
        (("expired", "verify-ca", "ours"), "certificate verify failed"),
        (("misnamed", "verify-full", "ours"), '"other.example" does not match host name "localhost"'),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "refused",
)
def test_an_untrusted_certificate_is_rejected(
    opened: Open, server: Server, roots: dict[str, Path], case: tuple[str, SslMode, str], problem: str
) -> None:
    """The error is permanent, has the reason, and does not contain the password."""
    kind, sslmode, root = case
    address = server(kind)
    database = opened(settings_for(address, sslmode, roots[root]))

    error = connection_error(database)

    assert (ConnectionRejected, False) == (type(error), error.retryable)
    assert problem in str(error)
    assert f"postgres at localhost:{address.port}" in str(error)
    assert address.password not in full_report(error)


def test_a_rejected_certificate_does_not_reread_the_secret(
    opened: Open,
    production: Callable[[str], dict[str, str]],
    roots: dict[str, Path],
    secrets_manager: LocalSecretsManager,
) -> None:
    """In production the secret is read once, however often the service connects."""
    environ = production("good") | {
        "APP_DATABASE_SSLMODE": "verify-full",
        "APP_DATABASE_SSL_ROOT_CERT": str(roots["foreign"]),
    }
    database = opened(DatabaseSettings.from_env(environ))

    errors = [connection_error(database) for _ in range(3)]

    assert [ConnectionRejected] * 3 == [type(error) for error in errors]
    assert (0, 0) == (database.events.count("login_rejected"), database.events.count("connection_opened"))
    assert {"GetSecretValue": 1} == secrets_manager.calls


@pytest.mark.parametrize(
    "case",
    [("misnamed", "verify-ca", "ours"), ("misnamed", "require", None), ("expired", "require", None)],
    ids=lambda case: "-".join(filter(None, case)),
)
def test_weaker_verification_accepts_more_certificates(
    opened: Open, server: Server, roots: dict[str, Path], case: tuple[str, SslMode, str | None]
) -> None:
    """`verify-ca` ignores the name, and `require` ignores name and expiry, so the same servers are accepted."""
    kind, sslmode, root = case
    database = opened(settings_for(server(kind), sslmode, None if root is None else roots[root]))

    assert (True, "TLSv1.3") == tls_as_the_server_sees_it(database)


@pytest.mark.parametrize(
    "content", ["", "not a certificate", "PRIVATE KEY", None], ids=["empty", "garbage", "key", "removed"]
)
def test_an_unusable_file_of_roots_is_rejected(
    opened: Open, server: Server, authority: trustme.CA, tmp_path: Path, content: str | None
) -> None:
    """If the file holds no certificate, or disappears, the error names it, the authority of the server and the fix."""
    file = tmp_path / "roots.pem"
    file.write_bytes(authority.private_key_pem.bytes() if content == "PRIVATE KEY" else (content or "").encode())
    settings = settings_for(server("good"), "verify-full", file)
    if content is None:
        file.unlink()

    error = connection_error(opened(settings))

    assert (ConnectionRejected, False) == (type(error), error.retryable)
    assert f'root certificate file "{file}"' in str(error)
    assert f"issued by the authority {authority_name(authority)!r}" in str(error)
    assert str(error).endswith(
        "set APP_DATABASE_SSL_ROOT_CERT to a readable PEM file that holds the certificate of that authority"
    )
    assert "sslmode=" not in str(error), "libpq's advice to verify nothing is repeated"


def authority_name(authority: trustme.CA) -> str:
    """Return the organisation and the unit of *authority*, which has no common name."""
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    return ", ".join(str(attribute.value) for attribute in issuer)


def self_signed(name: str) -> trustme.LeafCert:
    """Return a certificate that signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, now - timedelta(1), now + timedelta(9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return trustme.LeafCert(private, certificate.public_bytes(serialization.Encoding.PEM), [])


@pytest.mark.parametrize(
    "case",
    [
        (
            "good",
            "foreign",
            "if this is your server, set APP_DATABASE_SSL_ROOT_CERT to a PEM file with the root certificate of that",
        ),
        ("misnamed", "ours", "set APP_DATABASE_HOST to the name in the certificate, for RDS the endpoint itself"),
        ("expired", "ours", "renew the certificate of the server"),
        ("self-signed", "ours", "it signed itself; if this is your server, set APP_DATABASE_SSL_ROOT_CERT to a PEM"),
    ],
    ids=lambda case: case[0],
)
def test_one_error_names_the_file_the_authority_and_the_fix(
    server: Server,
    authority: trustme.CA,
    roots: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str, str],
) -> None:
    """`get_db`, its engine, `ping` and the migrations raise the same error, with no password in it."""
    kind, root, fix = case
    address = server(kind)
    for variable, value in {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": "localhost",
        "APP_DATABASE_PORT": str(address.port),
        "APP_DATABASE_NAME": "postgres",
        "APP_DATABASE_USER": address.user,
        "APP_DATABASE_PASSWORD": address.password,
        "APP_DATABASE_SSL_ROOT_CERT": str(roots[root]),
    }.items():
        monkeypatch.setenv(variable, value)
    forget_db()

    def use_a_session() -> None:
        with get_db().session() as session:
            session.execute(text("SELECT 1"))

    messages = set()
    for attempt in (use_a_session, get_engine().connect, get_db().ping, lambda: schema.upgrade(get_db())):
        error = error_of(attempt)
        messages.add(str(error))
        assert address.password not in full_report(error)
    forget_db()

    (message,) = messages
    issuer = "localhost" if kind == "self-signed" else authority_name(authority)
    assert f"issued by the authority {issuer!r}" in message
    assert f"verified against the authorities in {roots[root]} (verify-full): {fix}" in message


def test_a_server_certificate_with_control_characters_is_shown_on_one_line(
    opened: Open, roots: dict[str, Path]
) -> None:
    """A server that is not trusted cannot forge a line of the log with the names in its certificate."""
    forged = "db\n2026-01-01 INFO all is well \x1b[2J"
    with tls_server(trustme.CA().issue_cert("localhost", common_name=forged), TLS_ONLY) as address:
        error = connection_error(opened(settings_for(address, "verify-full", roots["ours"])))

    assert "all is well" in str(error)
    assert str(error).isprintable()


def test_a_certificate_that_cannot_be_read_does_not_hide_the_error(opened: Open, authority: trustme.CA) -> None:
    """If the server presents nothing when it is asked again, the error states that, in time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener, authority.cert_pem.tempfile() as file:

        def answer_once_and_then_nothing() -> None:
            client, _ = listener.accept()
            client.recv(8)
            client.sendall(b"S")
            with suppress(OSError), context.wrap_socket(client, server_side=True):
                pass
            silent, _ = listener.accept()
            with silent:
                silent.recv(65536)
                silent.recv(65536)

        thread = Thread(target=answer_once_and_then_nothing, daemon=True)
        thread.start()
        address = PostgresServer("127.0.0.1", listener.getsockname()[1], "postgres", "never sent")
        error = connection_error(opened(settings_for(address, "verify-full", Path(file))))
        thread.join(5)

    assert isinstance(error, ConnectionRejected)
    assert "its authority could not be read" in str(error)


@pytest.mark.parametrize("length", [1, 65_536], ids=["reset", "closed"])
def test_an_interrupted_handshake_is_retryable(opened: Open, length: int) -> None:
    """A server that closes the connection in the TLS handshake is unavailable, and has not rejected TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept_tls_and_close() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(8)
                client.sendall(b"S")
                client.recv(length)  # if bytes are left unread, the kernel resets the connection

        thread = Thread(target=accept_tls_and_close, daemon=True)
        thread.start()
        address = PostgresServer("127.0.0.1", listener.getsockname()[1], "postgres", "never sent")

        error = connection_error(opened(settings_for(address, "require", host="127.0.0.1", connect_timeout=2)))
        thread.join(5)

    assert (DatabaseUnavailable, True) == (type(error), error.retryable), str(error)


@pytest.mark.parametrize("moment", ["after the handshake", "after the startup packet", "in the authentication"])
def test_a_tls_session_that_is_closed_during_the_login_is_retryable(
    opened: Open, authority: trustme.CA, moment: str
) -> None:
    """A proxy that ends TLS with close_notify in a failover is unavailable; the login is attempted again."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    request_scram = b"R" + struct.pack("!II", 23, 10) + b"SCRAM-SHA-256\0\0"

    def close_each_login(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.recv(8)
                client.sendall(b"S")
                with suppress(OSError), context.wrap_socket(client, server_side=True) as session:
                    if moment != "after the handshake":
                        session.recv(4096)
                    if moment == "in the authentication":
                        session.sendall(request_scram)
                        session.recv(4096)
                    session.unwrap()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=close_each_login, args=[listener], daemon=True).start()
        address = PostgresServer("127.0.0.1", listener.getsockname()[1], "postgres", "sent to this test only")
        database = opened(settings_for(address, "require"))
        with deadline(1, reserve=0):
            error = connection_error(database)

    assert (DatabaseUnavailable, True) == (type(error), error.retryable), str(error)
    assert database.events.count("wait", "not_ready") >= 2


@pytest.mark.parametrize(
    ("sslmode", "expected"),
    [(None, "eu-west-1.pem"), ("require", None), ("verify-ca", "eu-west-1.pem"), ("verify-full", "eu-west-1.pem")],
)
def test_an_aurora_host_is_verified_against_its_regions_roots(sslmode: SslMode | None, expected: str | None) -> None:
    """For an endpoint of AWS, a verifying mode, which is the default, uses the shipped root file of the region."""
    settings = DatabaseSettings(
        host="registrations.cluster-c1a2b3.eu-west-1.rds.amazonaws.com",
        name="registrations",
        secret_arn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:registrations-AbCdEf",
    )
    if sslmode is not None:
        settings = replace(settings, sslmode=sslmode)

    assert (expected and SHIPPED.with_name(expected)) == settings.root_certificate
