"""The versions of the secret that is rotated, in Secrets Manager."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from problems import RotationFailed

from registration_persistence import Credentials

Label = Literal["AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"]

# A call takes at most 12 s: two attempts, each with one connect and one answer.
_CONNECT_TIMEOUT_SECONDS, _READ_TIMEOUT_SECONDS, _MAX_ATTEMPTS = 2, 4, 2


@dataclass(frozen=True, slots=True)
class Version:
    """The content of a version.

    Args:
        credentials: The user name and the password.
        others: All other keys of the JSON object; a rotation keeps them.
    """

    credentials: Credentials
    others: Mapping[str, object] = field(repr=False)


class RotatingSecret:
    """One secret, and the version that a rotation creates.

    Args:
        arn: The ARN of the secret.
        version_id: The id of the new version: the `ClientRequestToken` of Secrets Manager.
    """

    def __init__(self, arn: str, version_id: str) -> None:
        self._arn = arn
        self._version_id = version_id
        self._client = _client(region=arn.split(":")[3])

    def is_finished(self) -> bool:
        """Return whether the new version is `AWSCURRENT` already.

        Raises:
            RotationFailed: The version is neither `AWSCURRENT` nor `AWSPENDING`, so it belongs to no running rotation.
        """
        labels = self._labels().get(self._version_id, [])
        if "AWSCURRENT" in labels:
            return True
        if "AWSPENDING" not in labels:
            raise RotationFailed(f"version {self._version_id} is not AWSPENDING: it belongs to no running rotation")
        return False

    def pending(self) -> Version | None:
        """Return the content of the new version; `None` if it has none yet."""
        return self._read("AWSPENDING", VersionId=self._version_id)

    def labelled(self, label: Label) -> Version | None:
        """Return the version with *label*; `None` if there is none."""
        return self._read(label)

    def store_pending(self, version: Version) -> None:
        """Store the content of the new version, unless an invocation at the same time has stored another one."""
        login = {"username": version.credentials.username, "password": version.credentials.password}
        try:
            self._client.put_secret_value(
                SecretId=self._arn,
                ClientRequestToken=self._version_id,
                SecretString=json.dumps({**version.others, **login}),
                VersionStages=["AWSPENDING"],
            )
        except self._client.exceptions.ResourceExistsException:
            return

    def make_current(self) -> None:
        """Label the new version `AWSCURRENT`; the label `AWSPREVIOUS` follows by itself."""
        current = [version for version, labels in self._labels().items() if "AWSCURRENT" in labels]
        if current == [self._version_id]:
            return
        self._client.update_secret_version_stage(
            SecretId=self._arn,
            VersionStage="AWSCURRENT",
            MoveToVersionId=self._version_id,
            **({"RemoveFromVersionId": current[0]} if current else {}),
        )

    def _labels(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = self._client.describe_secret(SecretId=self._arn).get("VersionIdsToStages", {})
        return found

    def _read(self, label: Label, **version: str) -> Version | None:
        try:
            found = self._client.get_secret_value(SecretId=self._arn, VersionStage=label, **version)
        except self._client.exceptions.ResourceNotFoundException:
            return None
        content = _json_object(found.get("SecretString", ""))
        username, password = content.pop("username", None), content.pop("password", None)
        if not isinstance(username, str) or not isinstance(password, str) or not username or not password:
            raise RotationFailed(f"{label} of {self._arn} is not a JSON object with username and password")
        return Version(Credentials(username, password), content)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@cache
def _client(*, region: str) -> Any:
    from boto3.session import Session
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        read_timeout=_READ_TIMEOUT_SECONDS,
        retries={"total_max_attempts": _MAX_ATTEMPTS, "mode": "standard"},
    )
    return Session().client("secretsmanager", region_name=region, config=config)
