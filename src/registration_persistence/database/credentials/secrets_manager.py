"""Where the user name and the password come from; the only module that may import an AWS SDK."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from registration_persistence.database.backoff import backoff
from registration_persistence.database.credentials.source import Credentials, CredentialSource, StaticCredentials
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.log_redaction import redact_logs
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.database.settings_rules import SECRET_ARN, arn_problem, is_text
from registration_persistence.errors import ConfigurationError, SecretMalformed, SecretRefused, SecretUnavailable

_CURRENT, _PENDING = "AWSCURRENT", "AWSPENDING"

# Seconds that one call may take: the most that fits into the deadline. With botocore's own limits, 60 s to connect and
# 60 s to read, a Lambda would be killed before it heard of a failure.
_CALL_LIMITS = (5.0, 2.0, 0.8, 0.3)

# The same for a value that is only being checked, as the one that is known will do.
_REFRESH_LIMIT = 0.8

# Seconds between two times that Secrets Manager is asked about refused logins, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0

# The same after it failed, where nothing is known yet, and where the last good value is used on.
_RETRY_COLD, _RETRY_STALE = (0.25, 1.0), (1.0, 60.0)

# Seconds that the login of another thread may take with what that thread has just read.
_LOGIN = 0.25

# Seconds that a thread waits while another reads.
_LONGEST_LOCK = 60.0

_THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded")

_CLIENT_ERRORS = range(400, 500)

_logger = logging.getLogger("registration_persistence.database")


class SecretsManagerCredentials(CredentialSource):
    """The `username` and `password` of a secret, read through `aws-secretsmanager-caching`.

    One call when credentials are first asked for; then one each hour at most, and one or two when the server refuses
    what is cached. A cache entry that cannot be renewed is used on, which a warning says once.

    Args:
        arn: The secret's ARN.
        region: The region it lives in; the endpoint's partition follows from it.
        on_event: Called with the name of a `DatabaseEvent`, its cause and the seconds it took.
        max_age: Seconds, whole ones, after which a value is looked at again before it is used for a connection.
    """

    def __init__(
        self,
        arn: str,
        *,
        region: str,
        on_event: Callable[[str, str, float], None] = lambda *_event: None,
        max_age: int = 3600,
    ) -> None:
        self._arn, self._region, self._on_event, self._max_age = arn, region, on_event, max_age
        self._lock = RLock()
        self._session: Any = None
        self._clients: dict[float, Any] = {}
        self._cache: Any = None
        self._latest: _Version | None = None
        self._pending: Credentials | None = None
        self._read_at: dict[str, float] = {}
        self._asked_at: dict[str, float] = {}
        self._adopted: Credentials | None = None
        self._superseded: Credentials | None = None
        self._stale = False
        self._fruitless, self._not_before = 0, -math.inf

    def __repr__(self) -> str:
        return f"SecretsManagerCredentials({self._arn!r})"

    def current(self) -> Credentials:
        """Return the current version, from the cache, or what replaced it when the server refused it.

        Raises:
            SecretUnavailable: Secrets Manager did not answer, or failed so lately that it was not asked again.
            SecretRefused: It has no such secret, or does not let this process read it.
            SecretMalformed: The secret has no user name and password of the form that is expected.
        """
        with self._locked():
            current = self._cached()
            if current != self._superseded:
                self._adopted = self._superseded = None
            return self._adopted or current

    def replacements(self, rejected: Credentials, *, since: float) -> Iterator[Credentials]:
        """Yield the current version where it has changed, then the one that a rotation is about to make current.

        Between setting a password and finishing, a rotation has it in `AWSPENDING` alone.
        """
        tried = [rejected]
        for read in (self._fresh_current, self._fresh_pending):
            with self._locked():
                found = read(since)
            if found is not None and found not in tried:
                tried.append(found)
                yield found
        self._postpone()

    def seconds_until_retry(self) -> float:
        """Return the seconds until Secrets Manager may be asked again about a refused login."""
        return max(self._not_before - time.monotonic(), 0.0)

    def on_accepted(self, credentials: Credentials) -> None:
        """Stay with *credentials*, also while they are not the current version yet."""
        # Where another thread reads for long, it is told another time.
        with suppress(SecretUnavailable), self._locked():
            current = self._latest.credentials if self._latest else None
            self._adopted, self._superseded = (None, None) if credentials == current else (credentials, current)
            self._fruitless, self._not_before = 0, -math.inf

    def refresh(self) -> None:
        """Read the current version afresh, where there is one in use; it stays so where that fails."""
        with self._locked():
            # Connections did not survive, and the monotonic clock may be another.
            self._clients, self._read_at, self._asked_at, self._not_before = {}, {}, {}, -math.inf
            if self._latest is not None:
                try:
                    self._cache = self._new_cache(self._read_current("restore"))
                except (SecretUnavailable, SecretMalformed):
                    return  # a warning has said so

    def after_fork_in_child(self) -> None:
        """Keep what was read, and nothing that the parent process may hold: client, sockets, locks."""
        self._lock = RLock()
        self._session = self._cache = None
        self._clients = {}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one thread read at a time, and the others take what it found."""
        if not self._lock.acquire(timeout=max(min(remaining(), _LONGEST_LOCK), 0)):
            raise SecretUnavailable(f"another thread is still reading the secret {self._arn}")
        try:
            yield
        finally:
            self._lock.release()

    def _cached(self) -> Credentials:
        known = self._latest
        if self._cache is None:
            self._cache = self._new_cache(known)
        try:
            self._cache.get_secret_string(self._arn, version_stage=_CURRENT)
            if known is None:
                self._cache = self._new_cache(self._latest)
        except (SecretUnavailable, SecretMalformed) as error:
            raise type(error)(str(error)) from error.__cause__  # the cache raises the same object each time
        assert self._latest is not None
        return self._latest.credentials

    def _new_cache(self, known: "_Version | None") -> Any:  # the library has no types
        from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

        cause = "cold" if known is None else "refresh"
        first, longest = _RETRY_COLD if known is None else _RETRY_STALE
        config = SecretCacheConfig(
            secret_refresh_interval=self._max_age,
            exception_retry_delay_base=first,
            exception_retry_delay_max=longest,
        )
        cache = SecretCache(config, client=_OneCall(lambda: self._read_current(cause), known))
        if known is not None:
            cache.get_secret_string(self._arn, version_stage=_CURRENT)  # its clock begins now
        return cache

    def _fresh_current(self, since: float) -> Credentials | None:
        if self._must_ask(_CURRENT, since):
            self._cache = self._new_cache(self._read_current("rotation"))
        return self._latest.credentials if self._latest else None

    def _fresh_pending(self, since: float) -> Credentials | None:
        if self._must_ask(_PENDING, since):
            self._pending = None
            try:
                self._pending = self._read(_PENDING, "pending").credentials
            except (SecretRefused, SecretMalformed) as error:  # no rotation is under way, or it has not come that far
                _logger.debug("no credentials in %s: %s", _PENDING, error)
        return self._pending

    def _must_ask(self, stage: str, since: float) -> bool:
        if self.seconds_until_retry() or self._read_at.get(stage, -math.inf) >= since:
            return False
        asked = self._asked_at.get(stage, -math.inf)
        if asked >= since - _LOGIN:
            return False
        self._asked_at[stage] = time.monotonic()
        return True

    def _postpone(self) -> None:
        if not self.seconds_until_retry():
            self._not_before = time.monotonic() + backoff(self._fruitless, _FIRST_PAUSE, _LONGEST_PAUSE)
            self._fruitless += 1

    def _read_current(self, cause: str) -> "_Version":
        try:
            self._latest = self._read(_CURRENT, cause)
        except (SecretUnavailable, SecretMalformed) as error:
            if self._latest is not None and not self._stale:
                self._stale = True
                _logger.warning("the last good value of the secret stays in use: %s", error)
                self._on_event("secret_stale", "unavailable", 0.0)
            raise
        self._stale = False
        return self._latest

    def _read(self, stage: str, cause: str) -> "_Version":
        started = time.monotonic()
        version = self._version(stage, _REFRESH_LIMIT if cause == "refresh" else math.inf)
        self._read_at[stage] = started
        if isinstance(version, str):
            raise SecretMalformed(f"the secret {self._arn} {version}: store a JSON object with username and password")
        self._on_event("secret_read", cause, time.monotonic() - started)
        return version

    def _version(self, stage: str, limit: float) -> "_Version | str":
        """Return what *stage* holds, or what is wrong with it; raises nowhere that its frames would show a secret."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        try:
            return _parsed(self._client(limit).get_secret_value(SecretId=self._arn, VersionStage=stage), stage)
        except ClientError as error:
            meaning = SecretRefused if _is_refusal(error.response) else SecretUnavailable
            raise meaning(f"cannot read the secret {self._arn}: {error}") from error.with_traceback(None)
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise SecretRefused(f"cannot read the secret {self._arn}: {error}") from error.with_traceback(None)
        except (BotoCoreError, ValueError) as error:
            raise SecretUnavailable(f"cannot read the secret {self._arn}: {error}") from error.with_traceback(None)

    def _client(self, limit: float = math.inf) -> Any:  # the library has no types
        """Return a client that gives up within *limit* seconds, and within what the deadline leaves."""
        from boto3.session import Session
        from botocore.config import Config

        limit = min(remaining(), limit)
        seconds = next((choice for choice in _CALL_LIMITS if choice <= limit), _CALL_LIMITS[-1])
        if seconds not in self._clients:
            redact_logs()
            self._session = self._session or Session(region_name=self._region)
            config = Config(
                connect_timeout=seconds * 0.4, read_timeout=seconds * 0.6, retries={"total_max_attempts": 1}
            )
            self._clients[seconds] = self._session.client("secretsmanager", config=config)
        return self._clients[seconds]


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of a secret, as Secrets Manager gave it."""

    credentials: Credentials
    response: Mapping[str, Any] = field(repr=False)


class _OneCall:
    """What `SecretCache` asks of a client, with one GetSecretValue where it makes a DescribeSecret besides.

    Args:
        read: Reads the current version.
        known: What to answer the first time.
    """

    def __init__(self, read: Callable[[], _Version], known: _Version | None) -> None:
        self._read, self._known = read, known
        self._response: Mapping[str, Any] = {}

    def describe_secret(self, SecretId: str) -> dict[str, Any]:  # noqa: ARG002, N803 the SDK's signature
        """Say which version is current."""
        version, self._known = self._known or self._read(), None
        self._response = version.response
        return {"VersionIdsToStages": {version.response["VersionId"]: [_CURRENT]}}

    def get_secret_value(self, SecretId: str, VersionId: str) -> Mapping[str, Any]:  # noqa: ARG002, N803 the SDK's signature
        """Give the version that `describe_secret` read."""
        return self._response


def credentials_for(settings: DatabaseSettings, *, on_event: Callable[[str, str, float], None]) -> CredentialSource:
    """Return the source that *settings* name: the secret, or in `test` and `local` the user and password given."""
    if settings.user and settings.password:
        return StaticCredentials(Credentials(settings.user, settings.password))
    return SecretsManagerCredentials(settings.secret_arn or "", region=settings.secret_region, on_event=on_event)


def read_secret(arn: str, *, name: str = "the secret's ARN") -> Credentials:
    """Return the current credentials of a secret that is not the database's own; one call, within the deadline.

    Args:
        arn: The secret.
        name: What an error calls it, for example the variable that it was read from.

    Raises:
        ConfigurationError: It is no ARN of a secret.
        SecretUnavailable: Secrets Manager did not answer.
        SecretRefused: It has no such secret, or does not let this process read it.
        SecretMalformed: The secret has no user name and password of the form that is expected.
    """
    if problem := arn_problem(arn, name):
        raise ConfigurationError([problem])
    match = SECRET_ARN.fullmatch(arn)
    assert match is not None
    return SecretsManagerCredentials(arn, region=match["region"]).current()


def _is_refusal(response: Mapping[str, Any]) -> bool:
    """Tell whether asking again cannot help: no such secret, no permission, no key; but not where it is throttled."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in _CLIENT_ERRORS and response.get("Error", {}).get("Code") not in _THROTTLED


def _parsed(response: Mapping[str, Any], stage: str) -> _Version | str:
    """Return the version in *response*, or what is wrong with it; never raises, for a traceback would show it."""
    secret = response.get("SecretString")
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
    origin = f"{stage} of {response.get('ARN', 'the secret')}, version {response['VersionId']}"
    return _Version(Credentials(value["username"], value["password"], origin), response)
