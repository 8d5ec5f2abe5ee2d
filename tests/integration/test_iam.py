"""A login with IAM: a real PostgreSQL over TLS accepts exactly the tokens whose signature is valid."""

import logging
import os
import secrets
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from client_variables import (
    AWS_ENDPOINTS,
    AWS_HARMLESS,
    AWS_IDENTITY,
    AWS_OBEYED,
    AWS_UNRELATED,
    LIBPQ_VARIABLES,
    OTHER_VARIABLES,
)
from iam_authority import READER, REGION, WRITER, AccessKey, IamAuthority, iam_server
from psycopg import sql
from sqlalchemy import text

from registration_persistence import Credentials, Database, DatabaseSettings, deadline, schema
from registration_persistence.database import DatabaseEvent
from registration_persistence.database.credentials import token_signer
from registration_persistence.database.credentials.iam_tokens import IamTokens
from registration_persistence.errors import (
    ConfigurationError,
    ConnectionRejected,
    CredentialsRejected,
    RegistrationPersistenceError,
    SecretRefused,
    SecretUnavailable,
)
from registration_persistence.sandbox import PostgresServer

pytestmark = pytest.mark.tls

USER, ODD_USER = "registration_iam", "wé/ird+us er@&=%"

# The SDK would look for credentials in these places.
AWS_VARIABLES = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-2",
}

Open = Callable[..., Database]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """The authority of the certificate of the server."""
    return trustme.CA()


@pytest.fixture(scope="module")
def root(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the authority."""
    file = tmp_path_factory.mktemp("root") / "ours.pem"
    ca.cert_pem.write_to_path(file)
    return file


@pytest.fixture(scope="module")
def running(ca: trustme.CA) -> Iterator[tuple[PostgresServer, IamAuthority]]:
    """The server and the stand-in for IAM."""
    authority = IamAuthority()
    with iam_server(authority, ca.issue_cert(WRITER, READER), [USER, ODD_USER]) as server:
        with server.connect() as connection:
            connection.execute("CREATE ROLE with_password LOGIN PASSWORD 'secret'")
        yield server, authority


@pytest.fixture
def iam(running: tuple[PostgresServer, IamAuthority]) -> IamAuthority:
    """The stand-in for IAM, without the logins of other tests."""
    running[1].reset()
    return running[1]


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a Lambda function in another region, and the DNS of the endpoints."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in (AWS_VARIABLES | AccessKey().variables).items():
        monkeypatch.setenv(name, value)
    resolve = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **keywords: Any) -> Any:
        known = str(host).lower().removesuffix(".") in {WRITER, READER}
        return resolve("127.0.0.1" if known else host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.fixture
def opened(iam: IamAuthority, root: Path) -> Iterator[Open]:
    """Create a `Database` that logs in with IAM."""
    with ExitStack() as databases:

        def made(**changes: Any) -> Database:
            settings: dict[str, Any] = {"host": WRITER, "user": USER, "ssl_root_cert": str(root), "auth": "iam"}
            database = Database(DatabaseSettings(**(settings | {"port": iam.port, "name": "postgres"} | changes)))
            databases.callback(database.dispose)
            return database

        yield made


def error_of(attempt: Callable[[], object], *, seconds: float = 20) -> RegistrationPersistenceError:
    """Return the error of *attempt*, which may be repeated for *seconds*."""
    with pytest.raises(RegistrationPersistenceError) as raised, deadline(seconds, reserve=0):
        attempt()
    return raised.value


def full_report(error: BaseException) -> str:
    """Return *error* with its causes and every local variable of their frames."""
    report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return report + str(error) + repr(error)


def in_seconds(seconds: int) -> str:
    """Return the time in *seconds* from now, as the SDK's variable has it."""
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def signing_times(monkeypatch: pytest.MonkeyPatch, *offsets: timedelta) -> None:
    """Let the SDK's clock be wrong by one of *offsets* in each signature, and right after the last one."""
    left = list(offsets)

    def now(*_: object) -> datetime:
        offset = left.pop(0) if left else timedelta(0)
        return datetime.now(UTC) + offset

    monkeypatch.setattr("botocore.auth.get_current_datetime", now)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="cluster"),
        pytest.param({"host": READER}, id="reader"),
        pytest.param({"host": WRITER.upper()}, id="upper case"),
        pytest.param({"host": f"{WRITER}."}, id="absolute name"),
        pytest.param({"user": ODD_USER}, id="special characters"),
        pytest.param({"sslmode": "require", "ssl_root_cert": None}, id="unverified by choice"),
        pytest.param({"pool": "proxy"}, id="proxy"),
    ],
)
def test_a_valid_token_is_accepted(opened: Open, iam: IamAuthority, changes: dict[str, Any]) -> None:
    """The token is signed for the endpoint's host, port and region, whatever AWS_REGION says."""
    database = opened(**changes)

    health = database.ping()

    assert (True, True) == (health.encrypted, health.writable)
    assert [(database.settings.user, None)] == iam.logins
    assert (0, 0) == (database.events.count("secret_read"), database.events.count("login_rejected"))


def test_no_variable_of_libpq_has_an_effect_with_iam(
    opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each variable, the token for the same host and user is sent over verified TLS."""
    database = opened()
    for variable, values in {**LIBPQ_VARIABLES, **OTHER_VARIABLES}.items():
        for value in values:
            with monkeypatch.context() as patch:
                patch.setenv(variable, value)
                assert database.ping().encrypted, f"{variable}={value}"
            database.dispose()

    assert {(USER, None)} == set(iam.logins)
    assert len(set(iam.tokens)) == 1
    assert iam.tokens[0].startswith(f"{WRITER}:{iam.port}/")


def test_no_variable_of_the_sdk_but_its_keys_changes_a_token(
    iam: IamAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is signed in the process, with the key, for the endpoint, the region and the user of the settings."""
    endpoints = {name: values[0] for name, values in AWS_ENDPOINTS.items()}
    variables = {**endpoints, **AWS_HARMLESS, **AWS_UNRELATED, **AWS_OBEYED, **AWS_IDENTITY}
    for variable, value in variables.items():
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            token = IamTokens(USER, host=WRITER, port=iam.port, region=REGION).current().password
            assert iam.verify(USER, token), (variable, iam.refusals)


def test_read_only_sessions_log_in_at_the_reader(opened: Open, iam: IamAuthority) -> None:
    """The reader endpoint gets a token of its own, because a signature covers the name of the host."""
    database = opened(reader_host=READER)

    for read_only in (False, True):
        with database.session(read_only=read_only) as session:
            session.execute(text("SELECT 1"))

    assert [(USER, None)] * 2 == iam.logins
    assert [WRITER, READER] == [token.partition(":")[0] for token in iam.tokens]
    assert database.events.count("reader_unavailable") == 0


def test_temporary_credentials_sign_with_their_session_token(
    opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role's credentials have a session token of 2,000 characters, which is part of the signature."""
    key = AccessKey("ASIAROLE", "secret/of+role", secrets.token_urlsafe(1500) + "/+==")
    iam.keys = [key]
    for name, value in key.variables.items():
        monkeypatch.setenv(name, value)

    assert opened().ping().writable

    assert len(iam.tokens[0]) > 2000


def test_one_token_serves_a_burst_of_connections(
    opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten threads that connect at once, and later connections, cause one signature."""
    signed: list[int] = []
    sign = token_signer._signed

    def counted(*arguments: Any) -> str:
        signed.append(1)
        return sign(*arguments)

    monkeypatch.setattr(token_signer, "_signed", counted)
    database = opened(pool="service", pool_size=10)

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda _: database.ping(), range(10)))
    database.dispose()
    database.ping()

    assert ([1], 1) == (signed, len(set(iam.tokens)))
    assert iam.refusals == []


def test_an_expired_token_is_renewed_with_exactly_two_logins(
    opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server refuses a token of 16 minutes ago; the same request signs a new one, which is used from then on."""
    database = opened()
    signing_times(monkeypatch, timedelta(minutes=-16))
    token = database.credentials.current()

    assert database.ping().writable
    database.dispose()
    assert database.ping().writable

    assert [(USER, "expired"), (USER, None), (USER, None)] == iam.logins
    assert token.password == iam.tokens[0] != iam.tokens[1] == iam.tokens[2]
    assert database.events.count("login_rejected") == 1
    assert database.events.count("connection_opened", "rotation") == 1
    assert database.events.count("wait") == 0


@pytest.mark.parametrize("offset", [timedelta(minutes=16), timedelta(minutes=-6)], ids=["slow", "fast"])
def test_a_wrong_clock_is_named(opened: Open, iam: IamAuthority, offset: timedelta) -> None:
    """If the clock of the machine is wrong, each token is refused, and the error gives the time of the machine."""
    iam.clock = offset

    error = error_of(opened().ping, seconds=4)

    assert isinstance(error, CredentialsRejected)
    assert set(iam.refusals) == {"expired"}
    assert f"the clock of this machine is right: it says {datetime.now(UTC):%Y-%m-%d %H:}" in str(error)


def test_new_role_credentials_replace_the_old_ones(
    opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of credentials that were withdrawn is refused; the next one is signed with those of the environment."""
    database = opened()
    database.ping()
    database.dispose()
    new = AccessKey("ASIANEW", "another/secret", "session")
    iam.keys = [new]
    for name, value in new.variables.items():
        monkeypatch.setenv(name, value)

    assert database.ping().writable

    assert [(USER, None), (USER, "unknown key"), (USER, None)] == iam.logins


def test_a_token_is_not_used_after_its_credentials_expire(
    opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials with a known end are read again, and sign a new token, before the token would be refused."""
    database = opened()
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", in_seconds(60))
    first = database.credentials.current()
    assert first == database.credentials.current()
    database.credentials.refresh()
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", in_seconds(8))
    database.credentials.current()

    new = AccessKey("ASIANEW", "another/secret", "session")
    iam.keys.append(new)
    for name, value in (new.variables | {"AWS_CREDENTIAL_EXPIRATION": in_seconds(3600)}).items():
        monkeypatch.setenv(name, value)
    database.ping()

    assert "ASIANEW" in iam.tokens[0]
    assert iam.refusals == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"keys": [AccessKey(secret="wrong")]}, "wrong signature", id="signature"),
        pytest.param({"hosts": ("other.example",)}, "other request", id="endpoint"),
        pytest.param({"keys": []}, "unknown key", id="permission"),
    ],
)
def test_a_refused_token_is_one_error_with_the_fix(
    opened: Open, iam: IamAuthority, caplog: pytest.LogCaptureFixture, change: dict[str, Any], reason: str
) -> None:
    """It names user, host, region, role and permission, and nothing holds the token.

    Each attempt is one login, because a token that was signed for it cannot be better a second time.
    """
    caplog.set_level(logging.DEBUG)
    for name, value in change.items():
        setattr(iam, name, value)
    database = opened()
    seen: list[DatabaseEvent] = []
    database.events.subscribe(seen.append)
    logins: list[int] = []
    database.events.subscribe(lambda event: logins.append(len(iam.logins)) if event.name == "wait" else None)

    error = error_of(database.ping, seconds=4)

    assert (CredentialsRejected, False) == (type(error), error.retryable)
    for part in (USER, WRITER, REGION, str(iam.port), "rds_iam", "rds-db:connect", "signed at 20", "clock"):
        assert part in str(error)
    assert set(iam.refusals) == {reason}
    assert logins == list(range(1, len(logins) + 1))
    assert len(iam.logins) <= 9
    everything = full_report(error) + caplog.text + repr(seen) + repr(database.credentials) + repr(database)
    for token in iam.tokens:
        signature = token.rpartition("X-Amz-Signature=")[2]
        assert len(signature) == 64
        assert signature not in everything
        assert "X-Amz-Credential" not in everything
    assert AccessKey().secret not in everything


def test_threads_share_the_renewed_token(opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server refuses the token of ten threads, one signs a new one, and each logs in twice."""
    database = opened(pool="service", pool_size=10)
    signing_times(monkeypatch, timedelta(minutes=-16))
    database.credentials.current()

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda _: database.ping(), range(10)))

    assert len(set(iam.tokens)) == 2
    assert len(iam.refusals) <= 10
    assert database.events.count("wait") == 0


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({}, (SecretUnavailable, "has no AWS credentials: give the process a role"), id="none"),
        pytest.param({"AWS_ACCESS_KEY_ID": "AKID"}, (SecretRefused, "Partial credentials found"), id="half"),
        pytest.param({"AWS_PROFILE": "missing"}, (SecretRefused, "profile (missing) could not be found"), id="profile"),
        pytest.param(
            AccessKey().variables | {"AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"},
            (SecretUnavailable, "credentials are still expired"),
            id="expired",
        ),
    ],
)
def test_without_aws_credentials_no_login_is_tried(
    opened: Open,
    iam: IamAuthority,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: tuple[type[Exception], str],
) -> None:
    """The error says which credentials are missing and how a process gets them."""
    for name in AccessKey().variables:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    error = error_of(opened().ping, seconds=2)

    assert type(error) is expected[0]
    assert expected[1] in str(error)
    assert f"cannot sign a token for '{USER}' at {WRITER}:{iam.port}" in str(error)
    assert iam.logins == []


def test_a_silent_sts_ends_at_the_deadline(
    opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If the credentials of a role come from STS, the call to it is limited."""
    for name in AccessKey().variables:
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("web identity")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()

        error = error_of(opened().ping, seconds=2)

    assert isinstance(error, SecretUnavailable)
    assert "Read timeout on endpoint URL" in str(error)
    assert time.monotonic() - started < 8
    assert iam.logins == []


def test_a_role_without_rds_iam_is_one_error(opened: Open, iam: IamAuthority) -> None:
    """The server asks such a role for SCRAM, so the client sends no token, tries once and names the fix."""
    database = opened(user="with_password")

    error = error_of(database.ping)

    assert (ConnectionRejected, False) == (type(error), error.retryable)
    assert "the token was not sent" in str(error)
    assert "GRANT rds_iam TO the role" in str(error)
    assert (iam.logins, database.events.count("wait")) == ([], 0)


def test_another_server_does_not_receive_the_token(opened: Open, iam: IamAuthority, tmp_path: Path) -> None:
    """A server whose certificate is not verified is refused before the token is sent."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "foreign.pem")

    error = error_of(opened(ssl_root_cert=str(tmp_path / "foreign.pem")).ping)

    assert isinstance(error, ConnectionRejected)
    assert iam.logins == []


def test_a_restored_snapshot_signs_a_new_token(
    opened: Open, iam: IamAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restore, the token and the AWS credentials of the snapshot are not used."""
    database = opened()
    signing_times(monkeypatch, timedelta(minutes=-16))
    database.credentials.current()
    reader = database.credentials.for_host(READER)
    stale = reader.current()
    new = AccessKey("ASIARESTORED", "another/secret", "session")
    iam.keys = [new]
    for name, value in new.variables.items():
        monkeypatch.setenv(name, value)

    database.after_restore()

    assert database.ping().writable
    assert [(USER, None)] == iam.logins
    assert stale != reader.current()


def test_a_forked_child_uses_the_token_of_its_parent(opened: Open, iam: IamAuthority) -> None:
    """A child that was forked while another thread held the lock connects with the same token."""
    database = opened()
    database.ping()
    credentials = database.credentials
    assert isinstance(credentials, IamTokens)

    with credentials._lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with deadline(5, reserve=0):
                    status = 0 if database.ping().writable else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)

    assert status == 0
    assert ([(USER, None)] * 2, 1) == (iam.logins, len(set(iam.tokens)))


def test_a_cold_start_calls_nothing(iam: IamAuthority, root: Path) -> None:
    """It opens no socket beside that of the database, creates no client, and does not import boto3."""
    program = """
import socket, sys
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more)
import registration_persistence
assert not [name for name in sys.modules if name.startswith(("boto", "aws"))]
calls = []
sys.addaudithook(lambda event, arguments: calls.append(event) if event == "socket.connect" else None)
import botocore.client
botocore.client.ClientCreator.create_client = None
print(registration_persistence.get_db().ping().writable, calls, "boto3" in sys.modules)
"""
    variables = {
        "APP_DATABASE_HOST": WRITER,
        "APP_DATABASE_PORT": str(iam.port),
        "APP_DATABASE_NAME": "postgres",
        "APP_DATABASE_USER": USER,
        "APP_DATABASE_AUTH": "iam",
        "APP_DATABASE_SSL_ROOT_CERT": str(root),
        "AWS_LAMBDA_FUNCTION_NAME": "signup",
    }
    found = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}

    done = subprocess.run(
        [sys.executable, "-c", program], env=found | variables, capture_output=True, text=True, timeout=30, check=False
    )

    assert ("True [] False\n", "") == (done.stdout, done.stderr)
    assert [(USER, None)] == iam.logins


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", "db.example.org", "localhost"])
def test_a_host_without_region_is_refused(opened: Open, host: str) -> None:
    """No token can be signed for an address or an alias, and none is."""
    with pytest.raises(ConfigurationError, match="expected the endpoint of the cluster"):
        opened(host=host)


def test_the_clusters_own_login_may_use_iam(
    opened: Open, iam: IamAuthority, running: tuple[PostgresServer, IamAuthority]
) -> None:
    """`bootstrap` and `migrate` log in with a token; a login with a password is compared with its secret as always."""
    server, name = running[0], f"migrated_{secrets.token_hex(4)}"
    server.create_database(name, owner=USER)
    with server.connect(name) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} CREATEROLE").format(sql.Identifier(USER)))
        connection.execute(sql.SQL("GRANT pg_monitor TO {} WITH ADMIN OPTION").format(sql.Identifier(USER)))
    database, monitoring = opened(name=name), Credentials("datadog", secrets.token_urlsafe(16))

    first = schema.bootstrap(database, "app_iam", monitoring=monitoring)
    second = schema.bootstrap(database, "app_iam", monitoring=monitoring)

    assert {"app_iam is a member of rds_iam", "datadog has the password of its secret"} <= set(first.changes)
    assert second.changes == ()
    assert schema.newest() == schema.upgrade(database, owner_role=schema.OWNER_ROLE)
    assert (iam.refusals, len(set(iam.tokens))) == ([], 1)
    assert opened(name=name, user="app_iam").ping().writable
