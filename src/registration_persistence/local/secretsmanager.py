"""Secrets Manager on this machine: moto's, over HTTP, with every call counted."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Thread
from types import TracebackType
from typing import Any, Self

_REGION = "eu-west-1"
# Marks the calls of this module's own client.
_OURS = "registration-persistence-local"


class LocalSecretsManager:
    """A Secrets Manager that forgets everything at the end; use it as a context manager.

    Attributes:
        down: Set it, and every call is answered with 503 until it is taken back.
        calls: How often each operation was called, by name; what `create` and `put` call is left out.
    """

    def __init__(self) -> None:
        self.down = False
        self.calls: Counter[str] = Counter()
        self._server: Any = None
        self._client: Any = None

    @property
    def environment(self) -> dict[str, str]:
        """What an AWS SDK must find in its environment to talk to this server."""
        return {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        from boto3.session import Session
        from botocore.config import Config
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs a line for each request
        application = self._counting(DomainDispatcherApplication(create_backend_app))
        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        Thread(target=self._server.serve_forever, daemon=True, name="secrets-manager").start()
        environment = self.environment
        self._client = Session(
            region_name=_REGION,
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        ).client(
            "secretsmanager",
            endpoint_url=environment["AWS_ENDPOINT_URL_SECRETS_MANAGER"],
            config=Config(user_agent_extra=_OURS),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()
        self._server.shutdown()
        self._server.server_close()

    def create(self, name: str, value: dict[str, Any] | str | bytes) -> str:
        """Store a new secret and return its ARN; an object is stored as JSON."""
        arn: str = self._client.create_secret(Name=name, **_stored(value))["ARN"]
        return arn

    def put(self, arn: str, value: dict[str, Any] | str | bytes) -> None:
        """Make *value* the current version of a secret."""
        self._client.put_secret_value(SecretId=arn, **_stored(value))

    def _counting(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
            if _OURS not in environ.get("HTTP_USER_AGENT", ""):
                self.calls[operation] += 1
            if self.down:
                start_response("503 Service Unavailable", [("Content-Type", "application/x-amz-json-1.1")])
                return [b'{"__type": "InternalServiceError", "message": "down"}']
            return application(environ, start_response)

        return counted


def _stored(value: dict[str, Any] | str | bytes) -> dict[str, str | bytes]:
    if isinstance(value, bytes):
        return {"SecretBinary": value}
    return {"SecretString": value if isinstance(value, str) else json.dumps(value)}
