"""TLS for real: what each `sslmode` accepts and refuses, against servers with certificates of our own making."""

import secrets
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError
from registration_persistence.database import certificates
from registration_persistence.errors import ConfigurationError, ConnectionRejected, DatabaseUnavailable
from registration_persistence.sandbox import LocalPostgres, LocalSecretsManager, PostgresServer, system_binaries
from registration_persistence.testing import open_server, skip_or_fail

pytestmark = pytest.mark.tls

Server = Callable[[str], PostgresServer]
Open = Callable[[DatabaseSettings], Database]

TLS_ONLY = "hostssl all all 127.0.0.1/32 scram-sha-256\n"
SHIPPED = Path(certificates.__file__).with_name("eu-west-1.pem")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The certificate authority that signs every server's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def roots(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files to verify a server against: ours, another authority's, and one that the package ships."""
    folder = tmp_path_factory.mktemp("roots")
    authority.cert_pem.write_to_path(folder / "ours.pem")
    trustme.CA().cert_pem.write_to_path(folder / "foreign.pem")
    return {"ours": folder / "ours.pem", "foreign": folder / "foreign.pem", "shipped": SHIPPED}


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Iterator[Server]:
    """Servers that speak TLS only, by what is to be said of their certificate; each starts when first asked for."""
    binaries = system_binaries()
    if binaries is None:
        skip_or_fail("the system has no PostgreSQL server with TLS: install the package postgresql")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate = {
        "good": lambda: authority.issue_cert("localhost", "127.0.0.1"),
        "expired": lambda: authority.issue_cert("localhost", "127.0.0.1", not_after=yesterday),
        "misnamed": lambda: authority.issue_cert("other.example"),
    }
    running: dict[str, PostgresServer] = {}
    with ExitStack() as servers:

        def running_server(kind: str) -> PostgresServer:
            if kind not in running:
                issued = certificate[kind]()
                running[kind] = servers.enter_context(
                    LocalPostgres(
                        binaries,
                        settings={"ssl": "on", "ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"},
                        hba=TLS_ONLY,
                        files={
                            "tls.crt": issued.cert_chain_pems[0].bytes(),
                            "tls.key": issued.private_key_pem.bytes(),
                        },
                    )
                ).server
            return running[kind]

        yield running_server


@pytest.fixture(scope="module")
def server_without_tls() -> Iterator[PostgresServer]:
    """A server that was built without TLS."""
    with open_server("embedded") as address:
        yield address


@pytest.fixture
def opened() -> Iterator[Open]:
    """Makes a `Database`, whose connections are closed at the end."""
    with ExitStack() as databases:

        def made(settings: DatabaseSettings) -> Database:
            database = Database(settings)
            databases.callback(database.dispose)
            return database

        yield made


@pytest.fixture
def production(server: Server, secrets_manager: LocalSecretsManager) -> Callable[[str], dict[str, str]]:
    """The environment of a service in production, whose secret opens the server of this kind."""

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


def settings_for(address: PostgresServer, sslmode: str, root: Path | None = None, **others: Any) -> DatabaseSettings:
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
    """Return whether this connection uses TLS, and which version."""
    with database.session() as session:
        row = session.execute(text("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).one()
    return row.ssl, row.version


def refusal(database: Database) -> RegistrationPersistenceError:
    """Return the error that connecting ends with."""
    with pytest.raises(RegistrationPersistenceError) as raised:
        database.ping()
    return raised.value


def all_that_a_log_could_show(error: BaseException) -> str:
    """Return *error* with its causes and every local variable on the way."""
    report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return report + str(error) + repr(error)


@pytest.mark.parametrize(("sslmode", "root"), [("require", None), ("verify-ca", "ours"), ("verify-full", "ours")])
def test_production_reaches_its_server_over_tls(
    opened: Open,
    production: Callable[[str], dict[str, str]],
    roots: dict[str, Path],
    sslmode: str,
    root: str | None,
) -> None:
    """Each mode that production may use connects with the secret's password, encrypted in both sides' eyes."""
    environ = production("good") | {"APP_DATABASE_SSLMODE": sslmode}
    if root is not None:
        environ["APP_DATABASE_SSL_ROOT_CERT"] = str(roots[root])

    database = opened(DatabaseSettings.from_env(environ))

    health = database.ping()
    assert (True, True) == (health.encrypted, health.writable)
    assert (True, "TLSv1.3") == tls_as_the_server_sees_it(database)


def test_require_is_what_production_does_unasked(opened: Open, production: Callable[[str], dict[str, str]]) -> None:
    """Without `APP_DATABASE_SSLMODE` the connection is encrypted."""
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
def test_weaker_modes_end_up_encrypted_where_the_server_insists(opened: Open, server: Server, sslmode: str) -> None:
    """What may go without TLS in `test` uses it with a server that takes nothing else."""
    assert opened(settings_for(server("good"), sslmode)).ping().encrypted


def test_health_says_when_nothing_is_encrypted(opened: Open, server_without_tls: PostgresServer) -> None:
    """`Health.encrypted` is false on a connection without TLS."""
    health = opened(settings_for(server_without_tls, "prefer", host="127.0.0.1")).ping()

    assert not health.encrypted


def test_require_does_not_settle_for_less(opened: Open, server_without_tls: PostgresServer) -> None:
    """A server without TLS is refused before it hears a password, and trying again is not advised."""
    error = refusal(opened(settings_for(server_without_tls, "require", host="127.0.0.1")))

    assert (ConnectionRejected, False) == (type(error), error.retryable)
    assert "server does not support SSL, but SSL was required" in str(error)


def test_plaintext_is_refused_by_the_server(
    opened: Open, production: Callable[[str], dict[str, str]], secrets_manager: LocalSecretsManager
) -> None:
    """A connection without TLS ends in `ConnectionRejected`, and no other password is asked for however often."""
    environ = production("good") | {"APP_ENVIRONMENT": "test", "APP_DATABASE_SSLMODE": "disable"}
    database = opened(DatabaseSettings.from_env(environ))

    errors = [refusal(database) for _ in range(3)]

    assert [(ConnectionRejected, False)] * 3 == [(type(error), error.retryable) for error in errors]
    assert "no pg_hba.conf entry" in str(errors[0])
    assert (0, 1) == (database.events.count("login_rejected"), database.events.count("secret_read"))
    assert {"GetSecretValue": 1} == secrets_manager.calls


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_production_refuses_to_go_without_tls(secrets_manager: LocalSecretsManager, sslmode: str) -> None:
    """A mode that can send data in the clear is a `ConfigurationError`, before any secret or server is asked."""
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
def test_a_certificate_that_proves_nothing_is_refused(
    opened: Open, server: Server, roots: dict[str, Path], case: tuple[str, str, str], problem: str
) -> None:
    """A server that cannot prove who it is is refused for good, with the reason and without the password."""
    kind, sslmode, root = case
    address = server(kind)
    database = opened(settings_for(address, sslmode, roots[root]))

    error = refusal(database)

    assert (ConnectionRejected, False) == (type(error), error.retryable)
    assert problem in str(error)
    assert f"postgres at localhost:{address.port}" in str(error)
    assert address.password not in all_that_a_log_could_show(error)


def test_a_refused_certificate_is_not_taken_for_a_wrong_password(
    opened: Open,
    production: Callable[[str], dict[str, str]],
    roots: dict[str, Path],
    secrets_manager: LocalSecretsManager,
) -> None:
    """In production a wrong certificate costs one read of the secret, however often the service tries."""
    environ = production("good") | {
        "APP_DATABASE_SSLMODE": "verify-full",
        "APP_DATABASE_SSL_ROOT_CERT": str(roots["foreign"]),
    }
    database = opened(DatabaseSettings.from_env(environ))

    errors = [refusal(database) for _ in range(3)]

    assert [ConnectionRejected] * 3 == [type(error) for error in errors]
    assert (0, 0) == (database.events.count("login_rejected"), database.events.count("connection_opened"))
    assert {"GetSecretValue": 1} == secrets_manager.calls


@pytest.mark.parametrize(
    "case",
    [("misnamed", "verify-ca", "ours"), ("misnamed", "require", None), ("expired", "require", None)],
    ids=lambda case: "-".join(filter(None, case)),
)
def test_a_mode_that_checks_less_accepts_more(
    opened: Open, server: Server, roots: dict[str, Path], case: tuple[str, str, str | None]
) -> None:
    """`verify-ca` looks at no name, and `require` at neither name nor expiry: the same servers are accepted."""
    kind, sslmode, root = case
    database = opened(settings_for(server(kind), sslmode, None if root is None else roots[root]))

    assert (True, "TLSv1.3") == tls_as_the_server_sees_it(database)


def test_a_broken_file_of_roots_is_refused(opened: Open, server: Server, tmp_path: Path) -> None:
    """A file without certificates verifies nothing, and the error names it."""
    file = tmp_path / "empty.pem"
    file.write_text("not a certificate")

    error = refusal(opened(settings_for(server("good"), "verify-full", file)))

    assert (ConnectionRejected, False) == (type(error), error.retryable)
    assert f'could not read root certificate file "{file}"' in str(error)


@pytest.mark.parametrize("octets", [1, 65_536], ids=["reset", "closed"])
def test_a_handshake_that_breaks_off_may_be_repeated(opened: Open, octets: int) -> None:
    """A server that goes away in the TLS handshake is not there, which is no verdict of its TLS policy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def agree_to_tls_and_hang_up() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(8)
                client.sendall(b"S")
                client.recv(octets)  # what is left unread makes the kernel answer with a reset

        thread = Thread(target=agree_to_tls_and_hang_up, daemon=True)
        thread.start()
        address = PostgresServer("127.0.0.1", listener.getsockname()[1], "postgres", "never sent")

        error = refusal(opened(settings_for(address, "require", host="127.0.0.1", connect_timeout=2)))
        thread.join(5)

    assert (DatabaseUnavailable, True) == (type(error), error.retryable), str(error)


@pytest.mark.parametrize(
    ("sslmode", "expected"), [("require", None), ("verify-ca", "eu-west-1.pem"), ("verify-full", "eu-west-1.pem")]
)
def test_an_aurora_host_is_verified_against_its_regions_roots(sslmode: str, expected: str | None) -> None:
    """For an endpoint of AWS the file that the package ships is used, where the mode verifies."""
    settings = DatabaseSettings(
        host="registrations.cluster-c1a2b3.eu-west-1.rds.amazonaws.com",
        name="registrations",
        secret_arn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:registrations-AbCdEf",
        sslmode=sslmode,
    )

    assert (expected and SHIPPED.with_name(expected)) == settings.root_certificate
