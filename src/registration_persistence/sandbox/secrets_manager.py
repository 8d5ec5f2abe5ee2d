"""Secrets Manager on this machine: moto's, over HTTP, with every call counted, and with outages."""

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Literal, Self, get_args
from uuid import uuid4

_REGION = "eu-west-1"

# Marks the calls of this module's own client.
_OURS = "registration-persistence-local"

# How botocore says what `AWS_SDK_UA_APP_ID` holds.
_APP_ID = re.compile(r"(?:^| )app/(\S+)")

_REFUSALS = {
    "down": ("503 Service Unavailable", b'{"__type": "InternalServiceError", "message": "down"}'),
    "throttled": ("400 Bad Request", b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'),
}

OutageKind = Literal["down", "throttled", "slow"]
"""`down` answers 503, `throttled` 400 with a ThrottlingException, `slow` what was asked for, but late."""

SecretValue = dict[str, Any] | str | bytes
"""What a secret holds; an object is stored as JSON."""

_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class LocalSecretsManager:
    """A Secrets Manager that forgets everything at the end; use it as a context manager.

    Attributes:
        calls: How often each operation was called, by name; what this object itself calls is left out.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._calls_of: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._counting = Lock()
        self._outage: _Outage | None = None
        self._server: Any = None
        self._thread: Thread | None = None
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
        application = self._counted(self._disturbed(DomainDispatcherApplication(create_backend_app)))
        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="secrets-manager")
        self._thread.start()
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
        assert self._thread is not None
        self._thread.join()

    def create(self, name: str, value: SecretValue) -> str:
        """Store a new secret and return its ARN."""
        arn: str = self._client.create_secret(Name=name, **_stored(value))["ARN"]
        return arn

    def put(self, arn: str, value: SecretValue) -> None:
        """Make *value* the current version of a secret; not of one that `finish_rotation` was called for.

        There, moto would label two versions AWSCURRENT.
        """
        self._client.put_secret_value(SecretId=arn, **_stored(value))

    def put_pending(self, arn: str, value: SecretValue) -> str:
        """Store *value* as the version AWSPENDING, which nobody uses yet, and return the version's id."""
        version: str = self._client.put_secret_value(
            SecretId=arn, ClientRequestToken=str(uuid4()), VersionStages=["AWSPENDING"], **_stored(value)
        )["VersionId"]
        return version

    def finish_rotation(self, arn: str, version_id: str) -> None:
        """Make a version AWSCURRENT, and the one that was it AWSPREVIOUS."""
        stages = self._client.describe_secret(SecretId=arn)["VersionIdsToStages"]
        (current,) = (version for version, labels in stages.items() if "AWSCURRENT" in labels)
        self._client.update_secret_version_stage(
            SecretId=arn, VersionStage="AWSCURRENT", MoveToVersionId=version_id, RemoveFromVersionId=current
        )

    def read(self, arn: str, stage: str = "AWSCURRENT") -> dict[str, Any]:
        """Return the JSON object that the version with the label *stage* holds."""
        # Named, because moto forgets which version is the default one when AWSCURRENT moves.
        value = json.loads(self._client.get_secret_value(SecretId=arn, VersionStage=stage)["SecretString"])
        assert isinstance(value, dict)
        return value

    def delete(self, arn: str) -> None:
        """Remove a secret at once, without a time in which it could be restored."""
        self._client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)

    @contextmanager
    def outage(self, kind: OutageKind = "down", seconds: float = 10.0) -> Iterator[None]:
        """Disturb every call but this object's own until the block ends.

        Args:
            kind: See `OutageKind`.
            seconds: How late a `slow` answer comes; at the latest when the block ends.
        """
        if kind not in get_args(OutageKind):
            raise ValueError(f"there is no outage {kind!r}: expected one of {', '.join(get_args(OutageKind))}")
        before, outage = self._outage, _Outage(kind, seconds)
        self._outage = outage
        try:
            yield
        finally:
            self._outage = before
            outage.over.set()

    def calls_of(self, app_id: str) -> Counter[str]:
        """Return the calls of the clients whose environment has *app_id* as `AWS_SDK_UA_APP_ID`, by operation."""
        with self._counting:
            return Counter(self._calls_of[app_id])

    def forget_calls(self) -> None:
        """Count from nothing again."""
        with self._counting:
            self.calls.clear()
            self._calls_of.clear()

    def _counted(self, application: _Application) -> _Application:
        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            agent = environ.get("HTTP_USER_AGENT", "")
            if _OURS not in agent:
                operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
                client = _APP_ID.search(agent)
                with self._counting:
                    self.calls[operation] += 1
                    if client:
                        self._calls_of[client[1]][operation] += 1
            return application(environ, start_response)

        return counted

    def _disturbed(self, application: _Application) -> _Application:
        def disturbed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            outage = self._outage
            if outage and _OURS not in environ.get("HTTP_USER_AGENT", ""):
                if outage.kind != "slow":
                    status, body = _REFUSALS[outage.kind]
                    start_response(status, [("Content-Type", "application/x-amz-json-1.1")])
                    return [body]
                outage.over.wait(outage.seconds)
            return application(environ, start_response)

        return disturbed


@dataclass(frozen=True, slots=True)
class _Outage:
    kind: OutageKind
    seconds: float
    over: Event = field(default_factory=Event)


def _stored(value: SecretValue) -> dict[str, str | bytes]:
    if isinstance(value, bytes):
        return {"SecretBinary": value}
    return {"SecretString": value if isinstance(value, str) else json.dumps(value)}
