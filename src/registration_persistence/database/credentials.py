"""Where the user name and the password come from; the only module that may import an AWS SDK."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, Protocol

from registration_persistence.database.policy import is_text
from registration_persistence.database.redaction import redact_logs
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.errors import RegistrationPersistenceError, SecretMalformed, SecretUnavailable

# Seconds. With botocore's own defaults, 60 s each, a Lambda would be killed before it heard of a failure.
_SECRETS_MANAGER_CONNECT_TIMEOUT = 2
_SECRETS_MANAGER_READ_TIMEOUT = 3
_SECRETS_MANAGER_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password, which `repr` does not show."""

    username: str
    password: str = field(repr=False)


class CredentialSource(Protocol):
    """What a `Database` asks for credentials, each time that it opens a connection."""

    def current(self) -> Credentials:
        """Return the credentials to try first."""

    def replacement_for(self, rejected: Credentials) -> Credentials | None:
        """Return other credentials, now that the server refused *rejected*; `None` where there are none."""

    def forget(self) -> None:
        """Drop what is cached, and every lock and socket that a parent process may share."""


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """The same credentials for ever; for tests and for a database on this machine."""

    credentials: Credentials

    def current(self) -> Credentials:
        """Return the one user and password there is."""
        return self.credentials

    def replacement_for(self, rejected: Credentials) -> Credentials | None:  # noqa: ARG002 the protocol's signature
        """Return `None`: there is no other password."""
        return None

    def forget(self) -> None:
        """Do nothing: nothing is cached."""


class SecretsManagerCredentials:
    """The `username` and `password` of a secret, read through `aws-secretsmanager-caching`.

    The AWS client is made when credentials are first asked for: two calls then (DescribeSecret, GetSecretValue), none
    afterwards until the cached value is an hour old at most, or the server refuses it.

    Args:
        arn: The secret's ARN.
        region: The region it lives in; the endpoint's partition follows from it.
        on_read: Called with the cause (`cold` or `rotation`) and the seconds it took when the secret was read anew.
    """

    def __init__(
        self, arn: str, *, region: str, on_read: Callable[[str, float], None] = lambda _cause, _seconds: None
    ) -> None:
        self._arn = arn
        self._region = region
        self._on_read = on_read
        self._cache: Any = None
        self._client: Any = None
        self.forget()

    def __repr__(self) -> str:
        return f"SecretsManagerCredentials({self._arn!r})"

    def current(self) -> Credentials:
        """Return what the secret holds, from the cache where it is there.

        Raises:
            SecretUnavailable: Secrets Manager did not answer, refused, or has no such secret.
            SecretMalformed: The secret has no user name and password of the form that is expected.
        """
        with self._lock:
            return self._read("cold")

    def replacement_for(self, rejected: Credentials) -> Credentials | None:
        """Read the secret afresh, unless another thread has just done so; `None` where it still holds *rejected*.

        `SecretCache.refresh_secret_now` sleeps 2.5 to 5 s (measured, aws-secretsmanager-caching 1.2.0); a new cache
        object asks at once.
        """
        with self._lock:
            known = self._read("cold")
            if known != rejected:
                return known
            self._cache = None
            fresh = self._read("rotation")
            return None if fresh == rejected else fresh

    def forget(self) -> None:
        """Drop the cached secret, the client and its sockets, and the lock that another thread may hold."""
        self._lock = RLock()
        self._cache = self._client = None

    def _read(self, cause: str) -> Credentials:
        started, fresh = time.monotonic(), self._cache is None
        if fresh:
            self._cache = self._new_cache()
        try:
            parsed = _parse(self._secret_string())
            if isinstance(parsed, str):
                raise SecretMalformed(
                    f"the secret {self._arn} {parsed}: store a JSON object with username and password"
                )
        except RegistrationPersistenceError:
            self._cache = None  # it would hand out the failure, or what is malformed, after that has been mended
            raise
        if fresh:
            self._on_read(cause, time.monotonic() - started)
        return parsed

    def _secret_string(self) -> str | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            secret: str | None = self._cache.get_secret_string(self._arn, version_stage="AWSCURRENT")
        except (BotoCoreError, ClientError) as error:
            raise SecretUnavailable(f"cannot read the secret {self._arn}: {error}") from error.with_traceback(None)
        return secret

    def _new_cache(self) -> Any:  # the library has no types
        from aws_secretsmanager_caching import SecretCache
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        redact_logs()
        if self._client is None:
            config = Config(
                connect_timeout=_SECRETS_MANAGER_CONNECT_TIMEOUT,
                read_timeout=_SECRETS_MANAGER_READ_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": _SECRETS_MANAGER_ATTEMPTS},
            )
            try:
                self._client = Session(region_name=self._region).client("secretsmanager", config=config)
            except (BotoCoreError, ValueError) as error:
                raise SecretUnavailable(f"cannot make a client to read the secret {self._arn}: {error}") from error
        return SecretCache(client=self._client)


def credentials_for(settings: DatabaseSettings, *, on_read: Callable[[str, float], None]) -> CredentialSource:
    """Return the source that *settings* name: the secret, or in `test` and `local` the user and password given."""
    if settings.user and settings.password:
        return StaticCredentials(Credentials(settings.user, settings.password))
    return SecretsManagerCredentials(settings.secret_arn or "", region=settings.secret_region, on_read=on_read)


def _parse(secret: str | None) -> Credentials | str:
    """Return the credentials in *secret*, or what is wrong with it; never raises, for a traceback would show it."""
    if secret is None:
        return "is binary"
    if not secret.strip():
        return "is empty"
    try:
        value = json.loads(secret)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return "is not a JSON object"
    for key in ("username", "password"):
        if key not in value:
            return f"has no key {key!r}"
        if not isinstance(value[key], str) or not is_text(value[key]):
            return f"has a {key!r} that is not a string with something in it"
    return Credentials(value["username"], value["password"])
