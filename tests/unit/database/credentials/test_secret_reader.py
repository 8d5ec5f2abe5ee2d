"""`SecretReader` without a server: how a response is parsed, and which errors are permanent."""

import time
from typing import Any

import pytest
from botocore.session import Session

from registration_persistence import deadline
from registration_persistence.database.credentials.aws_endpoint import is_endpoint_of_aws
from registration_persistence.database.credentials.secret_reader import SecretReader, _is_permanent, read_secret
from registration_persistence.database.credentials.secret_value import MalformedSecret, Secret, parse_secret
from registration_persistence.errors import ConfigurationError

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"


def parsed(text: str | None) -> Secret | MalformedSecret:
    """Parse a response whose `SecretString` is *text*; `None` means a binary secret."""
    response: dict[str, Any] = {"ARN": ARN, "VersionId": "7"}
    if text is not None:
        response["SecretString"] = text
    return parse_secret(response, ARN, "AWSPENDING")


def test_a_good_secret_gives_credentials_with_their_origin() -> None:
    """The origin names stage, ARN and version; neither `repr` shows the password."""
    secret = parsed('{"username": "app", "password": "hunter2", "engine": "postgres"}')

    assert isinstance(secret, Secret)
    assert ("app", "hunter2") == (secret.credentials.username, secret.credentials.password)
    assert secret.credentials.origin == f"AWSPENDING of {ARN}, version 7"
    assert "hunter2" not in repr(secret)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (None, "is binary"),
        (" \n", "is empty"),
        ("hunter2", "is not a JSON object"),
        ("[" * 100_000, "is not a JSON object"),
        ('{"username": "app"}', "has no key 'password'"),
        ('{"username": "app", "password": null}', "has a 'password' that is not a non-empty string without NUL"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_malformed_secret_is_a_value_that_names_the_fix(text: str | None, state: str) -> None:
    """The sentence names the secret, its state and the fix, and quotes nothing of the secret."""
    expected = f"the secret {ARN} {state}: store a JSON object with username and password"

    assert MalformedSecret(expected) == parsed(text)


@pytest.mark.parametrize(
    ("status", "code", "permanent"),
    [
        (400, "ResourceNotFoundException", True),
        (400, "AccessDeniedException", True),
        (400, "ThrottlingException", False),
        (429, "TooManyRequestsException", False),
        (400, "UnrecognizedClientException", True),
        (400, "ExpiredTokenException", False),
        (400, "InvalidSignatureException", False),
        (500, "InternalServiceError", False),
        (None, "", False),
    ],
)
def test_only_an_error_of_the_client_that_is_no_throttling_is_permanent(
    status: int | None,
    code: str,
    permanent: bool,  # noqa: FBT001 parametrized
) -> None:
    """A missing secret or permission stays missing; a busy or broken service recovers."""
    metadata = {} if status is None else {"ResponseMetadata": {"HTTPStatusCode": status}}

    assert permanent == _is_permanent({**metadata, "Error": {"Code": code}})


@pytest.mark.parametrize(
    ("remaining", "timeout", "limit"),
    [(None, 60, 5.0), (4.5, 60, 2.0), (None, 0.8, 0.8), (0.5, 60, 0.3), (-1, 60, 0.3)],
)
def test_a_call_has_the_longest_limit_that_ends_before_the_deadline(
    remaining: float | None, timeout: float, limit: float
) -> None:
    """Connecting takes 40 % of it, and reading 60 %; botocore never repeats a call."""
    reader = SecretReader(ARN, region="eu-west-1")
    with deadline(3600 if remaining is None else remaining, reserve=0):
        config = reader._client(timeout).meta.config

    assert (config.connect_timeout, config.read_timeout) == pytest.approx((limit * 0.4, limit * 0.6))
    assert config.retries["total_max_attempts"] == 1


def test_the_time_to_create_a_client_is_not_added_to_the_call() -> None:
    """If creating the client takes 0.4 s of 1 s, the call that remains is limited to 0.3 s, not to 0.8 s."""
    reader = SecretReader(ARN, region="eu-west-1")
    reader._session = session = Session()
    session.set_config_variable("region", "eu-west-1")
    create = session.create_client

    def slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.4)
        return create(*arguments, **named)

    session.create_client = slowly
    with deadline(1, reserve=0):
        config = reader._client().meta.config

    assert config.connect_timeout + config.read_timeout == pytest.approx(0.3)


def test_a_wrong_arn_is_an_error_of_the_configuration() -> None:
    """The error names the variable; nothing is called."""
    with pytest.raises(ConfigurationError, match="APP_SECRET is 'nonsense': expected arn:"):
        read_secret("nonsense", name="APP_SECRET")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://secretsmanager.eu-west-1.amazonaws.com/", True),
        ("https://secretsmanager-fips.eu-west-1.amazonaws.com", True),
        ("https://secretsmanager.eu-west-1.api.aws:443/", True),
        ("https://vpce-0a1b-c2.secretsmanager.eu-west-1.vpce.amazonaws.com", True),
        ("https://secretsmanager.us-east-1.amazonaws.com/", False),
        ("http://secretsmanager.eu-west-1.amazonaws.com/", False),
        ("https://secretsmanager.eu-west-1.amazonaws.com:8443/", False),
        ("https://secretsmanager.eu-west-1.amazonaws.com.example/", False),
        ("https://secretsmanager.s3.eu-west-1.amazonaws.com/", False),
        ("https://a.b.secretsmanager.eu-west-1.amazonaws.com/", False),
        ("https://example/secretsmanager.eu-west-1.amazonaws.com", False),
        ("https://secretsmanager.eu-west-1.amazonaws.com@example/", False),
        ("http://127.0.0.1:4566", False),
    ],
)
def test_only_endpoints_of_the_secrets_region_count_as_aws(url: str, *, expected: bool) -> None:
    """They are public or in a VPC, with FIPS or dual-stack, and always with TLS."""
    assert is_endpoint_of_aws(url, "eu-west-1") is expected
