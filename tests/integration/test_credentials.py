"""Tests of the credentials from Secrets Manager: the number of calls, and the handling of invalid secrets."""

import json
import socket
import time
import traceback
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from support import LambdaEnvironment

from registration_persistence import Credentials, Database, DatabaseSettings, RegistrationRepository, deadline
from registration_persistence.database import DatabaseEvent
from registration_persistence.database.credentials.rotation_bridge import RotationBridge
from registration_persistence.database.credentials.secret_reader import SecretReader
from registration_persistence.database.credentials.secret_value import Secret
from registration_persistence.errors import CredentialsRejected, SecretMalformed, SecretRefused, SecretUnavailable
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer, wait_until


def test_a_warm_unit_of_work_reads_no_secret(lambda_environment: LambdaEnvironment) -> None:
    """The first connection reads the secret once; the next hundred units read none, also on new connections."""
    database = Database(DatabaseSettings.from_env())
    for number in range(100):
        with database.session(autocommit=True) as session:
            RegistrationRepository(session).register(f"ada{number}@example.com")
        if number % 25 == 0:
            database.dispose()
    database.dispose()

    assert {"GetSecretValue": 1} == lambda_environment.secrets_manager.calls


def test_creating_a_database_makes_no_call(lambda_environment: LambdaEnvironment) -> None:
    """`Database()` creates no client, makes no call and opens no connection before the first use."""
    database = Database(DatabaseSettings.from_env())

    assert lambda_environment.secrets_manager.calls.total() == 0
    assert database.events.count("connection_opened") == 0


def test_a_changed_password_is_found(lambda_environment: LambdaEnvironment) -> None:
    """After a rotation, the next login is rejected once, the secret is read again, and the request succeeds."""
    database = Database(DatabaseSettings.from_env())
    seen: list[tuple[str, str]] = []
    database.events.subscribe(lambda event: seen.append((event.name, event.cause)))
    assert database.ping().writable

    lambda_environment.rotate()
    assert database.ping().writable, "an open connection survives a rotation"
    database.dispose()
    assert database.ping().writable
    database.dispose()

    assert [
        ("secret_read", "cold"),
        ("connection_opened", "cold"),
        ("login_rejected", "password"),
        ("secret_read", "rotation"),
        ("connection_opened", "rotation"),
    ] == seen
    assert {"GetSecretValue": 2} == lambda_environment.secrets_manager.calls


def test_a_changed_user_is_found(lambda_environment: LambdaEnvironment, postgres_server: PostgresServer) -> None:
    """If the rotation alternates between two users, the new user name is used."""
    database = Database(DatabaseSettings.from_env())
    assert database.ping().writable
    postgres_server.create_login(lambda_environment.username, "gone")
    postgres_server.create_login("registration_app_clone", "new")
    lambda_environment.store({"username": "registration_app_clone", "password": "new"})
    database.dispose()

    assert database.ping().writable
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT current_user").scalar() == "registration_app_clone"
    database.dispose()


def test_a_permanently_wrong_password_is_one_error(lambda_environment: LambdaEnvironment) -> None:
    """The secret is read a few times at growing intervals; the error names the attempts, and no password."""
    lambda_environment.store({"username": lambda_environment.username, "password": "wrong-for-good"})
    database = Database(DatabaseSettings.from_env())

    with (
        pytest.raises(
            CredentialsRejected, match=r"AWSCURRENT of arn:.*, version .* password authentication failed"
        ) as raised,
        deadline(3),
    ):
        database.ping()

    assert not raised.value.retryable
    assert lambda_environment.secrets_manager.calls.total() <= 10
    assert database.events.count("login_rejected") <= 6
    everything = traceback.TracebackException.from_exception(raised.value, capture_locals=True).format()
    assert "wrong-for-good" not in "".join(everything)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"\x00\x01", "is binary"),
        ("  ", "is empty"),
        ("hunter2-not-json", "is not a JSON object"),
        ('["hunter2"]', "is not a JSON object"),
        ({"password": "hunter2"}, "has no key 'username'"),
        ({"username": "app"}, "has no key 'password'"),
        ({"username": "app", "password": ""}, "has a 'password' that is not a non-empty string without NUL"),
        ({"username": 7, "password": "hunter2"}, "has a 'username' that is not a non-empty string"),
        ({"username": "app", "password": "hunter2\0"}, "has a 'password' that is not"),
        ('{"username": "app", "password": "hunter2\\ud800"}', "has a 'password' that is not"),
        ("[" * 50_000, "is not a JSON object"),
    ],
)
def test_a_malformed_secret_is_one_clear_error(
    lambda_environment: LambdaEnvironment, value: dict[str, Any] | str | bytes, problem: str
) -> None:
    """The error names the ARN and the problem, and quotes nothing from the secret."""
    arn = lambda_environment.secrets_manager.create(f"malformed/{uuid4()}", value)
    credentials = RotationBridge(arn, region="eu-west-1")

    with pytest.raises(SecretMalformed) as raised:
        credentials.current()

    assert f"the secret {arn} {problem}" in str(raised.value)
    everything = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert "hunter2" not in everything.replace(repr(value), "")


def test_a_repaired_secret_is_read(lambda_environment: LambdaEnvironment) -> None:
    """A malformed secret is not read at each request, and its error is not cached for long."""
    arn = lambda_environment.secrets_manager.create(f"mended/{uuid4()}", "not JSON")
    credentials = RotationBridge(arn, region="eu-west-1")
    for _ in range(20):
        with pytest.raises(SecretMalformed):
            credentials.current()
    assert lambda_environment.secrets_manager.calls.total() == 1

    lambda_environment.secrets_manager.put(arn, {"username": "app", "password": "mended"})

    assert eventually(credentials).password == "mended"


def eventually(credentials: RotationBridge) -> Credentials:
    """Return the credentials as soon as there are any."""
    read: list[Credentials] = []

    def can_be_read() -> list[Credentials]:
        with suppress(SecretMalformed, SecretUnavailable):
            read.append(credentials.current())
        return read

    wait_until(can_be_read, "the credentials can be read", interval=0.05)
    return read[0]


def test_a_missing_secret_is_one_clear_error(lambda_environment: LambdaEnvironment) -> None:
    """The error names the ARN and the error code of Secrets Manager."""
    arn = lambda_environment.arn + "x"
    credentials = RotationBridge(arn, region="eu-west-1")

    with pytest.raises(SecretRefused, match="ResourceNotFoundException") as raised:
        credentials.current()

    assert arn in str(raised.value)
    assert not raised.value.retryable


def test_an_unreachable_secrets_manager_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing listens there, a retryable error is raised within seconds."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
        arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
        with pytest.raises(SecretUnavailable, match="Could not connect") as raised:
            RotationBridge(arn, region="eu-west-1").current()

    assert raised.value.retryable


def test_the_secret_is_read_again_after_an_outage(lambda_environment: LambdaEnvironment) -> None:
    """During the outage it is not read at each request; a moment after the outage it is read again."""
    heard: list[str] = []
    credentials = RotationBridge(
        lambda_environment.arn, region="eu-west-1", on_event=lambda _name, cause, _seconds: heard.append(cause)
    )
    with lambda_environment.secrets_manager.outage("down"):
        for _ in range(3):
            with pytest.raises(SecretUnavailable, match="InternalServiceError"):
                credentials.current()
        assert lambda_environment.secrets_manager.calls.total() == 1

    assert eventually(credentials).username == lambda_environment.username
    assert heard == ["cold"]


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("eu-west-1", "https://secretsmanager.eu-west-1.amazonaws.com"),
        ("cn-north-1", "https://secretsmanager.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "https://secretsmanager.us-gov-west-1.amazonaws.com"),
        ("eusc-de-east-1", "https://secretsmanager.eusc-de-east-1.amazonaws.eu"),
        ("us-iso-east-1", "https://secretsmanager.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "https://secretsmanager.us-isob-east-1.sc2s.sgov.gov"),
    ],
)
def test_the_arn_decides_where_the_secret_is_read(monkeypatch: pytest.MonkeyPatch, region: str, endpoint: str) -> None:
    """Region and partition come from the ARN, whatever the region of the Lambda function is."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    partition = {
        "cn-north-1": "aws-cn",
        "us-gov-west-1": "aws-us-gov",
        "eusc-de-east-1": "aws-eusc",
        "us-iso-east-1": "aws-iso",
        "us-isob-east-1": "aws-iso-b",
    }.get(region, "aws")
    settings = DatabaseSettings(
        host="db", name="app", secret_arn=f"arn:{partition}:secretsmanager:{region}:123456789012:secret:app-AbCdEf"
    )
    credentials = RotationBridge(settings.secret_arn or "", region=settings.secret_region)
    client = credentials._reader._client()

    assert endpoint == client.meta.endpoint_url
    assert partition == client.meta.partition


def test_a_failing_subscriber_fails_no_request(
    lambda_environment: LambdaEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception of a metrics hook is logged; the connection opens, and the other hooks are called."""
    database = Database(DatabaseSettings.from_env())
    heard: list[DatabaseEvent] = []

    def broken(event: DatabaseEvent) -> None:
        raise RuntimeError(event.name)

    database.events.subscribe(broken)
    database.events.subscribe(heard.append)

    assert database.ping().writable
    database.dispose()

    assert ["secret_read", "connection_opened"] == [event.name for event in heard]
    assert "a subscriber to database events failed on connection_opened" in caplog.text
    assert lambda_environment.secrets_manager.calls.total() == 1


def test_repr_shows_no_password(secrets_manager: LocalSecretsManager) -> None:
    """Neither the source nor its credentials show the password."""
    arn = secrets_manager.create("repr", {"username": "app", "password": "hunter2"})
    source = RotationBridge(arn, region="eu-west-1")

    assert "hunter2" not in f"{source!r} {source.current()!r} {source.current()}"


def test_waiting_for_another_threads_read_ends_at_the_deadline(lambda_environment: LambdaEnvironment) -> None:
    """A thread that waits for the read gets a retryable error in time."""
    credentials = RotationBridge(lambda_environment.arn, region="eu-west-1")
    reading, over = Event(), Event()

    def read_for_long() -> None:
        with credentials._locked():
            reading.set()
            over.wait(20)

    thread = Thread(target=read_for_long)
    thread.start()
    reading.wait(20)
    started = time.monotonic()
    try:
        with pytest.raises(SecretUnavailable, match="another thread is still reading") as raised, deadline(1):
            credentials.current()
        assert time.monotonic() - started < 5
    finally:
        over.set()
        thread.join()

    assert raised.value.retryable


@pytest.fixture
def no_credentials(secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret, and a process without AWS credentials, whose instance metadata service does not respond."""
    monkeypatch.setattr(_Metadata, "access_key_id", secrets_manager.environment["AWS_ACCESS_KEY_ID"])
    arn = secrets_manager.create(f"app/{uuid4()}", {"username": "app", "password": "found"})
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return arn


class _Metadata(BaseHTTPRequestHandler):
    """An instance metadata service with one role, whose key Secrets Manager accepts."""

    access_key_id: ClassVar[str] = ""
    _ROLE: ClassVar[dict[str, str]] = {
        "Code": "Success",
        "SecretAccessKey": "local",
        "Token": "local",
        "Expiration": "2999-01-01T00:00:00Z",
    }

    def do_PUT(self) -> None:
        """Answer with a token."""
        self._answer("token")

    def do_GET(self) -> None:
        """Answer with the name of the role, or with its credentials."""
        role = {**self._ROLE, "AccessKeyId": self.access_key_id}
        self._answer(json.dumps(role) if self.path.endswith("role") else "role")

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def test_credentials_that_appear_later_are_used(no_credentials: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the metadata service does not respond, the error is retryable; its credentials are used when it does."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}")
    credentials = RotationBridge(no_credentials, region="eu-west-1")

    with pytest.raises(SecretUnavailable, match="give the process AWS credentials") as raised:
        credentials.current()
    with ThreadingHTTPServer(("127.0.0.1", port), _Metadata) as service:
        Thread(target=service.serve_forever, daemon=True).start()
        found = eventually(credentials)
        service.shutdown()

    assert raised.value.retryable
    assert found.password == "found"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "local"}, "Partial credentials found in env"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"}, "/nowhere"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://nowhere.example"}, "Unsupported host"),
        (
            {
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_SECRET_ACCESS_KEY": "local",
                "AWS_CREDENTIAL_EXPIRATION": "2001-01-01T00:00:00Z",
            },
            "still expired",
        ),
    ],
    ids=["partial", "no token file", "container", "expired"],
)
def test_a_failure_to_get_credentials_is_not_kept(
    no_credentials: str, variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is retryable; as soon as there are credentials, a new client uses them."""
    reader = SecretReader(no_credentials, region="eu-west-1")
    with monkeypatch.context() as patch:
        for variable, text in variables.items():
            patch.setenv(variable, text)
        for _ in range(2):
            with pytest.raises(SecretUnavailable, match=message) as raised:
                reader.read("AWSCURRENT")
            assert raised.value.retryable

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", _Metadata.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    outcome = reader.read("AWSCURRENT")

    assert isinstance(outcome, Secret)
    assert outcome.credentials.password == "found"


def test_a_profile_that_does_not_exist_is_one_permanent_error(
    no_credentials: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the profile and the fix."""
    monkeypatch.setenv("AWS_PROFILE", "nowhere")

    with pytest.raises(SecretRefused, match=r"profile \(nowhere\) could not be found: correct AWS_PROFILE") as raised:
        SecretReader(no_credentials, region="eu-west-1").read("AWSCURRENT")

    assert not raised.value.retryable


def test_adopted_credentials_are_used_until_the_current_version_changes(secrets_manager: LocalSecretsManager) -> None:
    """Credentials that the server accepted during a rotation are kept; afterwards the secret decides again."""
    old, new, newer = (Credentials("app", password) for password in ("old", "new", "newer"))
    arn = secrets_manager.create(f"app/{uuid4()}", {"username": "app", "password": "old"})
    bridge = RotationBridge(arn, region="eu-west-1")
    assert bridge.current() == old

    bridge.on_accepted(new)
    assert [new, new] == [bridge.current(), bridge.current()]

    bridge.on_accepted(old)
    assert bridge.current() == old, "the server accepts the current version again"

    bridge.on_accepted(new)
    secrets_manager.put(arn, {"username": "app", "password": "newer"})
    bridge.refresh()
    assert [newer, newer] == [bridge.current(), bridge.current()]
    bridge.on_accepted(newer)
    assert bridge.current() == newer
