"""`CachedSecret`: the adapter to `aws-secretsmanager-caching`, which decides when a secret is read again."""

from collections.abc import Callable, Mapping
from typing import Any

from registration_persistence.database.credentials.secret_value import Secret, Stage

_STAGE: Stage = "AWSCURRENT"

# Seconds before the secret is read again after a failure, at first and at most: while no value is known, and while the
# last good value can be used. `Connector` waits a little longer than the first pair, so each of its attempts calls.
RETRY_SECONDS_WITHOUT_VALUE, RETRY_SECONDS_WITH_VALUE = (0.25, 0.25), (1.0, 60.0)


class CachedSecret:
    """The `AWSCURRENT` version of a secret, in a `SecretCache` of `aws-secretsmanager-caching`.

    The library contributes two things: the time after which a version is read again, spread at random between half of
    *max_age* and all of it, and the growing pause after a failed read. By itself it would send DescribeSecret and
    GetSecretValue; `_SingleCallClient` answers both from one GetSecretValue.

    Args:
        arn: The ARN of the secret.
        read: Reads the version; called when it is due.
        known: The version that was read a moment ago, if there is one.
        max_age: Whole seconds after which a version is read again.
    """

    def __init__(self, arn: str, read: Callable[[], Secret], *, known: Secret | None, max_age: int) -> None:
        from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

        self._arn = arn
        first, longest = RETRY_SECONDS_WITHOUT_VALUE if known is None else RETRY_SECONDS_WITH_VALUE
        config = SecretCacheConfig(
            secret_refresh_interval=max_age, exception_retry_delay_base=first, exception_retry_delay_max=longest
        )
        self._cache = SecretCache(config, client=_SingleCallClient(read, known))
        if known is not None:
            self.read_if_due()  # stores *known*, whose age counts from now

    def read_if_due(self) -> None:
        """Call *read* if the version is too old, or if the pause after a failure is over.

        A failed read is raised only while no version is known; the same error object is raised until the next read.
        """
        self._cache.get_secret_string(self._arn, version_stage=_STAGE)


class _SingleCallClient:
    """The two methods of the AWS SDK's client that `SecretCache` calls, with one call of *read* for both.

    Args:
        read: Reads the current version.
        known: The version to answer with the first time, without a call.
    """

    def __init__(self, read: Callable[[], Secret], known: Secret | None) -> None:
        self._read, self._known = read, known
        self._response: Mapping[str, Any] = {}

    def describe_secret(self, SecretId: str) -> dict[str, Any]:  # noqa: ARG002, N803 the SDK's signature
        """Read the current version, and return its id."""
        version, self._known = self._known or self._read(), None
        self._response = version.response
        return {"VersionIdsToStages": {version.response["VersionId"]: [_STAGE]}}

    def get_secret_value(self, SecretId: str, VersionId: str) -> Mapping[str, Any]:  # noqa: ARG002, N803 the SDK's signature
        """Return the version that `describe_secret` read."""
        return self._response
