"""Servers in the middle: none learns a password, whatever it asks for, also in a rotation."""

import secrets
import socket
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from rogue_server import Request, rogue_server, server_in_the_middle
from tls_servers import TLS_ONLY, tls_server

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError, deadline
from registration_persistence.errors import ConnectionRejected, CredentialsRejected
from registration_persistence.sandbox import LocalSecretsManager

pytestmark = [
    pytest.mark.tls,
    # Python's ssl does not close the socket of a client that gives up before the handshake.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Connect = Callable[..., RegistrationPersistenceError]

ENDPOINT = "app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com"
PROXY = "app.proxy-c1a2b3.eu-west-1.rds.amazonaws.com"
OLD, NEW = secrets.token_urlsafe(24), secrets.token_urlsafe(24)

# The environments of a service, without port and secret.
PRODUCTION = {"APP_DATABASE_HOST": ENDPOINT}
BEHIND_A_PROXY = {"APP_DATABASE_HOST": PROXY, "APP_DATABASE_POOL": "proxy"}
ABSOLUTE = {"APP_DATABASE_HOST": f"{ENDPOINT}."}
ALIAS = {"APP_DATABASE_HOST": "db.example.org"}
REQUIRED = {"APP_DATABASE_HOST": ENDPOINT, "APP_DATABASE_SSLMODE": "require"}
LOCAL = {"APP_DATABASE_HOST": "localhost", "APP_ENVIRONMENT": "local", "APP_DATABASE_SSLMODE": "prefer"}
PLAIN = LOCAL | {"APP_DATABASE_SSLMODE": "disable"}


@pytest.fixture(scope="module")
def certificate() -> trustme.LeafCert:
    """A certificate for every host of these tests, from an authority that nobody trusts."""
    return trustme.CA().issue_cert(ENDPOINT, PROXY, "db.example.org", "localhost")


@pytest.fixture(autouse=True)
def _local_secrets_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environments of production read secrets from the local Secrets Manager."""
    monkeypatch.setattr("registration_persistence.database.credentials.factory.is_relaxed", lambda _environment: True)


@pytest.fixture
def connect(secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Connect in a rotation window with an environment to a port, and return the error; every host is 127.0.0.1."""
    look_up = socket.getaddrinfo

    def on_this_machine(host: str, *arguments: Any, **options: Any) -> Any:
        return look_up("127.0.0.1" if host.rstrip(".").endswith(("com", "org")) else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", on_this_machine)
    arn = secrets_manager.create(secrets.token_hex(8), {"username": "app", "password": OLD})
    secrets_manager.put_pending(arn, {"username": "app", "password": NEW})

    def attempt(environ: dict[str, str], port: int, seconds: float = 20) -> RegistrationPersistenceError:
        address = {"APP_DATABASE_PORT": str(port), "APP_DATABASE_NAME": "app", "APP_DATABASE_SECRET_ARN": arn}
        database = Database(DatabaseSettings.from_env(address | environ))
        database.credentials.current()  # creating the first client of the AWS SDK takes long on a busy machine
        with pytest.raises(RegistrationPersistenceError) as raised, deadline(seconds, reserve=0):
            database.ping()
        database.dispose()
        assert not any(password in str(raised.value) for password in (OLD, NEW))
        return raised.value

    return attempt


@pytest.mark.parametrize("asked", ["clear text", "md5", "scram", "nothing"])
@pytest.mark.parametrize("environ", [PRODUCTION, BEHIND_A_PROXY, ABSOLUTE], ids=["endpoint", "proxy", "absolute name"])
def test_the_default_of_production_refuses_the_certificate(
    connect: Connect,
    certificate: trustme.LeafCert,
    environ: dict[str, str],
    asked: Request,
) -> None:
    """Not even the name of the user is sent."""
    with rogue_server(asked, certificate) as rogue:
        error = connect(environ, rogue.port)

    assert (ConnectionRejected, False) == (type(error), error.retryable)
    assert "certificate verify failed" in str(error)
    assert (b"", []) == (bytes(rogue.received), rogue.users)


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        pytest.param(environ, asked, id=f"{name}, {asked}")
        for name, environ in {"require": REQUIRED, "alias": ALIAS, "local": LOCAL, "local, plain": PLAIN}.items()
        for asked in ("clear text", "md5", "scram", "nothing")
        if asked != "nothing" or environ not in (LOCAL, PLAIN)  # a local server may trust its clients
    ],
)
def test_no_password_is_sent_without_verification(
    connect: Connect,
    certificate: trustme.LeafCert,
    environ: dict[str, str],
    asked: Request,
) -> None:
    """The error names the setting; a server that rejects the proof receives a second one, and no password."""
    with rogue_server(asked, certificate) as rogue:
        # The login is tried again while a rotation is in progress.
        error = connect(environ, rogue.port, seconds=4 if asked == "scram" else 20)

    assert not any(rogue.knows("app", password) for password in (OLD, NEW))
    assert set(rogue.users) == {"app"}
    if asked == "scram":
        assert isinstance(error, CredentialsRejected)
        assert len(rogue.users) >= 2, "the pending password was not tried"
    else:
        assert (ConnectionRejected, False) == (type(error), error.retryable)
        assert "authentication method requirement" in str(error)
        expected = {"clear text": "APP_DATABASE_REQUIRE_AUTH to password", "md5": "APP_DATABASE_REQUIRE_AUTH to md5"}
        assert expected.get(asked, "correct the method in pg_hba.conf") in str(error)


@pytest.mark.parametrize("environ", [PRODUCTION, REQUIRED, ALIAS], ids=["endpoint", "require", "alias"])
def test_a_server_that_refuses_tls_receives_nothing(connect: Connect, environ: dict[str, str]) -> None:
    """The connection ends before the user is named."""
    with rogue_server("clear text", None) as rogue:
        error = connect(environ, rogue.port)

    assert isinstance(error, ConnectionRejected)
    assert (b"", []) == (bytes(rogue.received), rogue.users)


def test_local_without_tls_sends_no_password(
    connect: Connect,
) -> None:
    """A server that refuses TLS and asks for the password in clear text does not get it."""
    with rogue_server("clear text", None) as rogue:
        error = connect(LOCAL, rogue.port)

    assert isinstance(error, ConnectionRejected)
    assert not any(rogue.knows("app", password) for password in (OLD, NEW))


def test_a_local_server_that_trusts_its_clients_receives_no_password(
    connect: Connect, certificate: trustme.LeafCert
) -> None:
    """`trust` works in `local`; such a server learns the statements, and no password."""
    with rogue_server("nothing", certificate) as rogue:
        connect(LOCAL, rogue.port, seconds=3)

    assert set(rogue.users) == {"app"}
    assert not any(rogue.knows("app", password) for password in (OLD, NEW))


@pytest.mark.parametrize(
    ("require_auth", "asked", "host"),
    [("md5", "md5", REQUIRED), ("password", "clear text", PLAIN)],
    ids=["md5", "local"],
)
def test_the_opt_out_answers_the_weaker_request(
    connect: Connect,
    certificate: trustme.LeafCert,
    require_auth: str,
    asked: Request,
    host: dict[str, str],
) -> None:
    """With `APP_DATABASE_REQUIRE_AUTH` the answer proves the password, so these tests would see it if it were sent."""
    with rogue_server(asked, certificate) as rogue:
        connect(host | {"APP_DATABASE_REQUIRE_AUTH": require_auth}, rogue.port, seconds=3)

    assert rogue.knows("app", OLD)


@pytest.mark.parametrize("offers_binding", [True, False], ids=["offered", "removed"])
def test_channel_binding_detects_a_server_in_the_middle(certificate: trustme.LeafCert, offers_binding: bool) -> None:  # noqa: FBT001 a parameter of the test
    """With `require`, PostgreSQL refuses a login that another server passes on; without that server it accepts it."""
    with (
        tls_server(trustme.CA().issue_cert("localhost"), TLS_ONLY) as server,
        server_in_the_middle(server.port, certificate, offers_binding=offers_binding) as port,
    ):
        settings = DatabaseSettings(
            environment="test",
            host="localhost",
            port=port,
            name="postgres",
            user=server.user,
            password=server.password,
        )
        database = Database(settings)
        with pytest.raises(ConnectionRejected, match="channel binding"), deadline(20, reserve=0):
            database.ping()
