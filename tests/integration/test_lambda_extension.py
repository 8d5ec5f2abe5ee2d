"""The secret from the Parameters and Secrets Lambda Extension: cold starts, stale values, and its failures."""

import json
import logging
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Timer
from typing import Any, get_args

import pytest
from support import LambdaEnvironment

from registration_persistence import Credentials, Database, DatabaseSettings
from registration_persistence.database.credentials import lambda_extension
from registration_persistence.database.credentials.lambda_extension import LambdaExtension, _secret_in
from registration_persistence.database.credentials.rotation_bridge import RotationBridge
from registration_persistence.errors import SecretMalformed, SecretUnavailable
from registration_persistence.sandbox import ExtensionFault, LocalSecretsExtension, LocalSecretsManager

VALUE = {"username": "app", "password": "hunter2"}
NO_SDK = "boto3", "botocore", "urllib3", "aws_secretsmanager_caching"

COLD_START = f"""
import sys
from registration_persistence import get_db
database = get_db()
assert database.warm_up()
print(sorted(set({NO_SDK}) & set(sys.modules)), database.events.count("secret_read", "cold"))
"""


@pytest.fixture
def extension(secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSecretsExtension]:
    """An extension, and the environment of a function that uses it."""
    with LocalSecretsExtension(secrets_manager) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def bridge_of(arn: str) -> RotationBridge:
    """Return a source of credentials in a cold process, with the extension."""
    return RotationBridge(arn, region="eu-west-1", extension=LambdaExtension(arn))


def test_a_cold_start_loads_no_aws_sdk_and_uses_no_proxy(
    lambda_environment: LambdaEnvironment, extension: LocalSecretsExtension
) -> None:
    """The process asks the extension once and Secrets Manager never, and ignores the proxy in its variables."""
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", COLD_START], env={**os.environ, **proxies}, capture_output=True, text=True, check=False
    )

    assert ("[] 1\n", 0) == (done.stdout, done.returncode), done.stderr
    assert extension.requests == 1
    assert lambda_environment.secrets_manager.calls.total() == 0


def test_a_rejected_login_bypasses_the_old_value_of_the_extension(
    lambda_environment: LambdaEnvironment, extension: LocalSecretsExtension
) -> None:
    """After a rotation a cold process gets the previous password, and then reads AWSCURRENT from Secrets Manager."""
    warm = Database(DatabaseSettings.from_env())
    warm.ping()
    warm.dispose()
    lambda_environment.rotate()
    database = Database(DatabaseSettings.from_env())
    seen: list[tuple[str, str]] = []
    database.events.subscribe(lambda event: seen.append((event.name, event.cause)))
    for _ in range(2):
        assert database.ping().writable
        database.dispose()

    assert [
        ("secret_read", "cold"),
        ("login_rejected", "password"),
        ("secret_read", "rotation"),
        ("connection_opened", "rotation"),
        ("connection_opened", "recycled"),
    ] == seen
    assert extension.requests == 2
    assert {"GetSecretValue": 1} == lambda_environment.secrets_manager.calls


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("not_ready", "is not ready after "),
        ("failing", "answered with the status 500: check the ARN, allow secretsmanager:GetSecretValue"),
        ("forbidden", "rejected AWS_SESSION_TOKEN (status 403): leave that variable as Lambda has set it"),
        ("slow", "did not answer in 0.5 s: check that the function reaches Secrets Manager"),
        ("dripping", "did not answer in 0.5 s: check that the function reaches Secrets Manager"),
        ("closing", "gave an answer that is not HTTP (RemoteDisconnected): check which program has its port"),
        ("garbage", "gave an answer that is not HTTP (BadStatusLine): check which program has its port"),
        ("huge", "gave an answer that is not this secret with a user name and a password"),
        ("redirecting", "answered with the status 302"),
        ("missing", "does not run on port 1: add its layer to the function"),
        ("without token", "cannot be asked without AWS_SESSION_TOKEN, which Lambda sets, but not with SnapStart"),
        ("token with a space", "cannot be asked without AWS_SESSION_TOKEN"),
        (
            "port of letters",
            "cannot be asked, because PARAMETERS_SECRETS_EXTENSION_HTTP_PORT is not a port: set it to a number",
        ),
    ],
)
def test_secrets_manager_replaces_an_extension_that_fails(
    extension: LocalSecretsExtension,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    state: Any,
    message: str,
) -> None:
    """A cold start does not fail: the secret is read with the SDK, and one warning has the state and the fix."""
    secrets_manager, token = extension.secrets_manager, extension.environment["AWS_SESSION_TOKEN"]
    variable, value = {
        "missing": ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "1"),
        "port of letters": ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "http"),
        "without token": ("AWS_SESSION_TOKEN", ""),
        "token with a space": ("AWS_SESSION_TOKEN", f"{token} x"),
    }.get(state, ("UNUSED", ""))
    monkeypatch.setenv(variable, value)
    arn = secrets_manager.create(f"extension/{state}", VALUE)
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(lambda_extension, "_MAX_SECONDS", 0.5 if state in {"slow", "dripping"} else 30.0)
    with ExitStack() as stack:
        if state in get_args(ExtensionFault):
            stack.enter_context(extension.fault(state))
        credentials = bridge_of(arn)
        found = credentials.current()

    assert ("app", "hunter2") == (found.username, found.password)
    assert secrets_manager.calls["GetSecretValue"] == 1
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert f"the AWS Parameters and Secrets Lambda Extension {message}" in warning.getMessage()
    assert f"The secret {arn} is read from Secrets Manager" in warning.getMessage()
    assert credentials.current() == found
    assert secrets_manager.calls["GetSecretValue"] == 1
    assert "hunter2" not in caplog.text
    assert token not in caplog.text


def test_an_extension_that_is_starting_is_asked_again(
    secrets_manager: LocalSecretsManager, extension: LocalSecretsExtension, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers 400 until it is ready, and then with the secret; Secrets Manager is not called."""
    for limit in ("_MAX_SECONDS", "_MAX_START_SECONDS"):
        monkeypatch.setattr(lambda_extension, limit, 30.0)
    arn = secrets_manager.create("extension/starting", VALUE)
    with extension.fault("not_ready"):
        timer = Timer(0.05, lambda: setattr(extension, "_fault", None))
        timer.start()
        found = bridge_of(arn).current()
        timer.join()

    assert found == Credentials("app", "hunter2")
    assert extension.requests > 1
    assert secrets_manager.calls.total() == 0


@pytest.mark.parametrize("value", ["hunter2", b"hunter2", {"username": "app"}], ids=["text", "bytes", "no password"])
def test_a_malformed_value_is_read_from_secrets_manager(
    secrets_manager: LocalSecretsManager, extension: LocalSecretsExtension, value: Any
) -> None:
    """The secret may be repaired, and the extension has the old value; if it is not, the error is the usual one."""
    arn = secrets_manager.create(f"extension/malformed-{type(value).__name__}", value)

    with pytest.raises(SecretMalformed, match="store a JSON object with username and password"):
        bridge_of(arn).current()

    assert extension.requests == 1
    secrets_manager.put(arn, VALUE)
    assert bridge_of(arn).current() == Credentials("app", "hunter2")


def test_an_error_shows_neither_the_token_nor_the_secret(
    secrets_manager: LocalSecretsManager, extension: LocalSecretsExtension
) -> None:
    """If Secrets Manager fails too, its error is raised, without the token in the variables of its traceback."""
    arn = secrets_manager.create("extension/down", VALUE)
    credentials = bridge_of(arn)
    with (
        extension.fault("closing"),
        secrets_manager.outage("down"),
        pytest.raises(SecretUnavailable, match="cannot read the secret") as raised,
    ):
        credentials.current()

    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    own = re.sub(r"(?s)os\.environ.*?\n", "", shown)
    assert extension.environment["AWS_SESSION_TOKEN"] not in own
    assert "hunter2" not in own.replace(repr(VALUE), "")


ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
GOOD = {"ARN": ARN, "VersionId": "7", "VersionStages": ["AWSCURRENT"], "SecretString": json.dumps(VALUE)}


def test_the_answer_of_the_extension_is_parsed() -> None:
    """The fields of AWS's extension are enough, and the ARN of the settings may lack the six random characters."""
    answer: dict[str, Any] = {
        **GOOD,
        "CreatedDate": "2026-01-02T03:04:05Z",
        "Name": "app",
        "SecretBinary": None,
        "ResultMetadata": {},
    }

    for arn in (ARN, ARN.removesuffix("-AbCdEf")):
        secret = _secret_in(json.dumps(answer).encode(), arn)
        assert secret is not None
        assert ("app", "hunter2") == (secret.credentials.username, secret.credentials.password)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"x" * (512 * 1024 + 1),
        *(
            json.dumps({**GOOD, **change}).encode()
            for change in (
                {"ARN": ARN.replace("app", "other")},
                {"ARN": f"{ARN}-x"},
                {"ARN": None},
                {"VersionId": 7},
                {"VersionId": "7\nfake line of a log"},
                {"VersionStages": ["AWSPREVIOUS"]},
                {"VersionStages": "AWSCURRENT"},
                {"SecretString": VALUE},
                {"SecretString": None},
            )
        ),
    ],
    ids=range(15),
)
def test_any_other_answer_is_no_secret(body: bytes) -> None:
    """Another secret, another version, another type and text that is not JSON are refused without an error."""
    assert _secret_in(body, ARN) is None
