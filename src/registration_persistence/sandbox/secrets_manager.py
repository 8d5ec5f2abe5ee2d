"""A local Secrets Manager: the server of moto behind an access key, with counted calls and with outages."""

import json
import logging
import os
import secrets
from collections import Counter
from contextlib import AbstractContextManager
from threading import Thread
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from registration_persistence.durations import Duration
from registration_persistence.sandbox.isolation import isolated_environment
from registration_persistence.sandbox.ports import LOOPBACK
from registration_persistence.sandbox.secrets_manager_requests import (
    AccessGuard,
    CallCounter,
    OutageKind,
    OutageSwitch,
)

_REGION = "eu-west-1"

# Part of the User-Agent of this module's own client, whose calls are neither counted nor disturbed.
_OWN_USER_AGENT = "registration-persistence-local"

_SHUTDOWN_POLL_SECONDS = 0.05

SecretValue = dict[str, Any] | str | bytes
"""The value of a secret; a `dict` is stored as a JSON object."""


class LocalSecretsManager:
    """A local Secrets Manager, whose secrets are lost at the end; use it as a context manager.

    It answers only requests with its access key, which is random, so that neither other users of this machine nor web
    pages read the secrets. `environment` has the key.
    """

    def __init__(self) -> None:
        self._access_key_id = f"LOCAL{secrets.token_hex(16).upper()}"
        self._secret_access_key = secrets.token_urlsafe(30)
        self._counts = CallCounter(_OWN_USER_AGENT)
        self._outages = OutageSwitch(_OWN_USER_AGENT)
        self._server: Any = None
        self._thread: Thread | None = None
        self._client: Any = None

    @property
    def calls(self) -> Counter[str]:
        """The number of calls of every client, by operation, without the calls of this object."""
        return self._counts.total

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which an AWS SDK uses this server, and no file of its own.

        They contain the access key, without which the server answers 403.
        """
        return {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://{LOOPBACK}:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": self._access_key_id,
            "AWS_SECRET_ACCESS_KEY": self._secret_access_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def __enter__(self) -> Self:
        with isolated_environment():
            self._start()
            self._client.list_secrets()  # moto reads variables and files until it has answered the first call
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()
        self._server.shutdown()
        self._server.server_close()
        assert self._thread is not None
        self._thread.join()

    def create(self, name: str, value: SecretValue) -> str:
        """Store a new secret, and return its ARN.

        Args:
            name: Name of the secret.
            value: Value of the secret; a `dict` is stored as a JSON object.
        """
        arn: str = self._client.create_secret(Name=name, **_encoded(value))["ARN"]
        return arn

    def put(self, arn: str, value: SecretValue) -> None:
        """Store a value as the version AWSCURRENT.

        This does not work after `finish_rotation` for the same secret: moto would label two versions AWSCURRENT.

        Args:
            arn: ARN of the secret.
            value: The new value; a `dict` is stored as a JSON object.
        """
        self._client.put_secret_value(SecretId=arn, **_encoded(value))

    def put_pending(self, arn: str, value: SecretValue) -> str:
        """Store a value as the version AWSPENDING, and return the id of the version.

        Args:
            arn: ARN of the secret.
            value: The new value; a `dict` is stored as a JSON object.
        """
        version: str = self._client.put_secret_value(
            SecretId=arn, ClientRequestToken=str(uuid4()), VersionStages=["AWSPENDING"], **_encoded(value)
        )["VersionId"]
        return version

    def finish_rotation(self, arn: str, version_id: str) -> None:
        """Label a version AWSCURRENT, and the previous one AWSPREVIOUS.

        Args:
            arn: ARN of the secret.
            version_id: Id of the version, as returned by `put_pending`.
        """
        stages = self._client.describe_secret(SecretId=arn)["VersionIdsToStages"]
        (current,) = (version for version, labels in stages.items() if "AWSCURRENT" in labels)
        self._client.update_secret_version_stage(
            SecretId=arn, VersionStage="AWSCURRENT", MoveToVersionId=version_id, RemoveFromVersionId=current
        )

    def read(self, arn: str, stage: str = "AWSCURRENT") -> dict[str, Any]:
        """Return the value of a secret, which must be a JSON object.

        Args:
            arn: ARN of the secret.
            stage: Label of the version: `AWSCURRENT`, the default, `AWSPENDING` or `AWSPREVIOUS`.
        """
        # moto does not update its default version when AWSCURRENT moves, so the label is always sent.
        value = json.loads(self._client.get_secret_value(SecretId=arn, VersionStage=stage)["SecretString"])
        assert isinstance(value, dict)
        return value

    def response_of(self, arn: str) -> dict[str, Any] | None:
        """Return the response of GetSecretValue for the version AWSCURRENT; `None` if there is none.

        Args:
            arn: ARN of the secret.
        """
        from botocore.exceptions import ClientError

        try:
            response = self._client.get_secret_value(SecretId=arn, VersionStage="AWSCURRENT")
        except ClientError:
            return None
        return {name: value for name, value in response.items() if name != "ResponseMetadata"}

    def delete(self, arn: str) -> None:
        """Delete a secret without a recovery window.

        Args:
            arn: ARN of the secret.
        """
        self._client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)

    def outage(self, kind: OutageKind = "down", delay: Duration = 10.0) -> AbstractContextManager[None]:
        """Disturb every call until the block ends, except the calls of this object.

        Args:
            kind: `down` answers 503; `throttled` answers 400 with a ThrottlingException; `slow` answers correctly but
                late. Defaults to `down`.
            delay: Delay of a `slow` answer, as a `timedelta` or in seconds, 0 or more. The answer comes at the latest
                when the block ends. Defaults to 10 s.

        Raises:
            ValueError: *kind* is not an `OutageKind`.
        """
        return self._outages.outage(kind, delay)

    def calls_of(self, app_id: str) -> Counter[str]:
        """Return the number of calls of some clients, by operation.

        Args:
            app_id: The value of `AWS_SDK_UA_APP_ID` in the environment of the clients.
        """
        return self._counts.of_client(app_id)

    def forget_calls(self) -> None:
        """Reset every count to 0."""
        self._counts.reset()

    def _start(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs a line for each request
        application = self._counts.around(self._outages.around(DomainDispatcherApplication(create_backend_app)))
        guarded = AccessGuard(self._access_key_id).around(application)
        self._server = make_server(LOOPBACK, 0, guarded, threaded=True)
        serve = self._server.serve_forever
        self._thread = Thread(target=serve, args=(_SHUTDOWN_POLL_SECONDS,), daemon=True, name="secrets-manager")
        self._thread.start()
        self._client = self._own_client()

    def _own_client(self) -> Any:
        from boto3.session import Session
        from botocore.config import Config

        session = Session(self._access_key_id, self._secret_access_key, region_name=_REGION)
        return session.client(
            "secretsmanager",
            endpoint_url=self.environment["AWS_ENDPOINT_URL_SECRETS_MANAGER"],
            config=Config(user_agent_extra=_OWN_USER_AGENT),
        )


def _encoded(value: SecretValue) -> dict[str, str | bytes]:
    if isinstance(value, bytes):
        return {"SecretBinary": value}
    return {"SecretString": value if isinstance(value, str) else json.dumps(value)}
