"""`TimedSecret`: decides when a secret is read again, without an AWS SDK."""

import math
from collections.abc import Callable

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import backoff
from registration_persistence.database.credentials.secret_cache import (
    RETRY_SECONDS_WITH_VALUE,
    RETRY_SECONDS_WITHOUT_VALUE,
)
from registration_persistence.database.credentials.secret_value import Secret
from registration_persistence.errors import SecretMalformed, SecretUnavailable


class TimedSecret:
    """The `AWSCURRENT` version of a secret, with the rules of `CachedSecret` and without its library.

    The library imports botocore, which a cold start with the Lambda extension does not load.

    Args:
        read: Reads the version; called when it is due.
        known: The version that was read a moment ago, if there is one.
        max_age: Whole seconds after which a version is read again; spread at random between half of it and all of it.
    """

    def __init__(self, read: Callable[[], Secret], *, known: Secret | None, max_age: int) -> None:
        self._read, self._has_value, self._max_age = read, known is not None, max_age
        # `monotonic()` at which the version is read.
        self._due_at = -math.inf
        # The failed reads since the last good one, and the error of the last read if no version is known.
        self._failures = 0
        self._error: SecretUnavailable | SecretMalformed | None = None
        if known is not None:
            self._wait_for(backoff(0, max_age, max_age))

    def read_if_due(self) -> None:
        """Call *read* if the version is too old, or if the pause after a failure is over.

        A failed read is raised only while no version is known; the same error object is raised until the next read.
        """
        if monotonic() >= self._due_at:
            self._read_now()
        if self._error is not None:
            raise self._error

    def _read_now(self) -> None:
        try:
            self._read()
        except (SecretUnavailable, SecretMalformed) as error:
            self._error = None if self._has_value else error
            first, longest = RETRY_SECONDS_WITH_VALUE if self._has_value else RETRY_SECONDS_WITHOUT_VALUE
            self._wait_for(backoff(self._failures, first, longest, jitter=(1.0, 1.0)))
            self._failures += 1
        else:
            self._has_value, self._error, self._failures = True, None, 0
            self._wait_for(backoff(0, self._max_age, self._max_age))

    def _wait_for(self, seconds: float) -> None:
        self._due_at = monotonic() + seconds
