"""Invokes the migration function of an environment and explains failures."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from registration_infra.config import EnvironmentConfig

Action = Literal["bootstrap", "upgrade", "current", "check"]

# A little longer than the longest timeout of a Lambda function.
_READ_TIMEOUT_SECONDS = 930
_EXCERPT_BYTES = 200


class InvocationFailed(Exception):
    """The migration function could not be invoked, or it failed; the message says what to do."""


def invoke(config: EnvironmentConfig, action: Action) -> dict[str, Any]:
    """Invoke the migration function and return its answer.

    The function is invoked at most once, because a second invocation would run the action again.

    Args:
        config: The environment.
        action: The action of the function.

    Raises:
        InvocationFailed: The function could not be invoked, failed, or gave no valid answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError

    name = f"{config.prefix}-migrate"
    try:
        answer = _client(config).invoke(
            # With the account id, so that credentials of another account cannot reach a function of the same name.
            FunctionName=f"{config.account}:function:{name}",
            Payload=json.dumps({"action": action}).encode(),
        )
        content = answer["Payload"].read()
    except NoCredentialsError:
        raise InvocationFailed("there are no AWS credentials: sign in (aws sso login), or set AWS_PROFILE") from None
    except HTTPClientError as error:
        raise InvocationFailed(_outcome_unknown(config, name, action, str(error))) from error
    except ClientError as error:
        raise InvocationFailed(_client_error(config, name, action, error.response)) from error
    except BotoCoreError as error:
        raise InvocationFailed(f"{name} could not be invoked for {action}: {error}") from error
    return _parse(name, action, content, failed="FunctionError" in answer)


def _client(config: EnvironmentConfig) -> Any:
    from boto3.session import Session
    from botocore.config import Config

    return Session(region_name=config.region).client(
        "lambda",
        # TCP keep-alive, because a network may drop a connection that has been silent for minutes.
        config=Config(read_timeout=_READ_TIMEOUT_SECONDS, retries={"total_max_attempts": 1}, tcp_keepalive=True),
    )


def _client_error(config: EnvironmentConfig, name: str, action: Action, response: Mapping[str, Any]) -> str:
    code, problem = (response["Error"].get(key, "") for key in ("Code", "Message"))
    if response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _outcome_unknown(config, name, action, f"{code}: {problem}")
    if code == "ResourceNotFoundException":
        return (
            f"{name} does not exist in {config.account}, {config.region}: deploy the database first, with "
            f"make deploy-database ENVIRONMENT={config.name}"
        )
    if code == "TooManyRequestsException":
        return f"{name} is already running, and may run only once at a time: wait until it has ended"
    return f"{name} could not be invoked for {action}: {code}: {problem}"


def _outcome_unknown(config: EnvironmentConfig, name: str, action: Action, problem: str) -> str:
    return (
        f"{name} was invoked for {action} and may still be running: {problem}; see its log /aws/lambda/{name}, and "
        f"run `python deploy.py current {config.name}` for the revision of the database"
    )


def _parse(name: str, action: Action, content: bytes, *, failed: bool) -> dict[str, Any]:
    try:
        payload = json.loads(content)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise InvocationFailed(f"{name} answered {action} with {content[:_EXCERPT_BYTES]!r}: expected a JSON object")
    if failed:
        message = " ".join(str(payload.get("errorMessage")).split())
        raise InvocationFailed(f"{name} failed in {action}: {payload.get('errorType')}: {message}")
    return payload
