"""`Secret`: one version of a secret, and how it is parsed from the response of GetSecretValue."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from registration_persistence.database.credentials.source import Credentials
from registration_persistence.database.settings_limits import is_text

Stage: TypeAlias = Literal["AWSCURRENT", "AWSPENDING"]
"""The staging label of a version: the one in use, or the one that a rotation has not made current yet."""

_MAX_SECRET_CHARACTERS = 65_536


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret.

    Args:
        credentials: The user name and password in it.
        response: The response of GetSecretValue, which holds the password.
    """

    credentials: Credentials
    response: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class MalformedSecret:
    """A version that was read but has no user name and password.

    Args:
        problem: A sentence that names the secret, its state and the fix; it quotes nothing of the secret.
    """

    problem: str


def parse_secret(response: Mapping[str, Any], arn: str, stage: Stage) -> Secret | MalformedSecret:
    """Return the version in *response*; never raises, because the traceback would show the secret.

    Args:
        response: The response of GetSecretValue.
        arn: The ARN of the secret, for the message.
        stage: The staging label of the version.
    """
    text = response.get("SecretString")
    value = _json_value(text or "")
    problem = _problem_of(text, value)
    if problem is not None:
        return MalformedSecret(f"the secret {arn} {problem}: store a JSON object with username and password")
    origin = f"{stage} of {response.get('ARN', 'the secret')}, version {response['VersionId']}"
    return Secret(Credentials(value["username"], value["password"], origin), response)


def _json_value(text: str) -> Any:
    """Return the value of a JSON text, or `None` if *text* is not JSON, or longer than a secret can be."""
    if len(text) > _MAX_SECRET_CHARACTERS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _problem_of(text: str | None, value: Any) -> str | None:
    """Return why *value*, parsed from *text*, is not a user name and a password; `None` if it is."""
    if text is None:
        return "is binary"
    if not text.strip():
        return "is empty"
    if not isinstance(value, dict):
        return "is not a JSON object"
    for key in ("username", "password"):
        if key not in value:
            return f"has no key {key!r}"
        if not isinstance(value[key], str) or not is_text(value[key]):
            return f"has a {key!r} that is not a non-empty string without NUL"
    return None
