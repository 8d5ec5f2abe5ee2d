"""`RotationBridge`: the credentials in a secret of Secrets Manager, also while the secret rotates."""

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING

from registration_persistence.clock import monotonic
from registration_persistence.database.credentials.deadline_lock import held_in_time
from registration_persistence.database.credentials.read_throttle import ReadThrottle
from registration_persistence.database.credentials.secret_cache import CachedSecret
from registration_persistence.database.credentials.secret_reader import SecretReader
from registration_persistence.database.credentials.secret_value import MalformedSecret, Secret, Stage
from registration_persistence.database.credentials.source import Credentials, CredentialSource
from registration_persistence.database.events import EventCallback, SecretReadCause
from registration_persistence.durations import Duration, in_seconds
from registration_persistence.errors import SecretMalformed, SecretRefused, SecretUnavailable

if TYPE_CHECKING:
    from registration_persistence.database.credentials.lambda_extension import LambdaExtension
    from registration_persistence.database.credentials.timed_secret import TimedSecret

# Limit of a routine refresh; short, because the cached value still works.
_REFRESH_TIMEOUT_SECONDS = 0.8

_logger = logging.getLogger("registration_persistence.database")


@dataclass(frozen=True, slots=True)
class _Adoption:
    """Credentials that the server accepted although they are not the current version.

    Args:
        accepted: The credentials, from `AWSPENDING`.
        instead_of: The current version at that time. When it changes, the adoption ends.
    """

    accepted: Credentials
    instead_of: Credentials | None


class RotationBridge(CredentialSource):
    """The user name and password in a secret of Secrets Manager, also while the secret rotates.

    The secret is in one of these states, as this process sees it:

    - **cold**: it has not been read. The first connection reads `AWSCURRENT` with one call.
    - **current**: the cached `AWSCURRENT` version is used. It is read again after *max_age* at most.
    - **adopted**: in the rotation window the server expects the password that only `AWSPENDING` holds. After the server
      has rejected the current version, both are read, and the accepted credentials are used until `AWSCURRENT` changes.
    - **stale**: `AWSCURRENT` could not be read again. The last good value stays in use, and one warning is logged.

    Args:
        arn: The ARN of the secret.
        region: The region of the secret, from which the endpoint and its partition follow.
        on_event: Called with the name of a `DatabaseEvent`, its cause and its duration in seconds. Defaults to no call.
        max_age: Time after which a cached value is read again, rounded up to whole seconds. Defaults to one hour.
        only_aws: Whether another server than AWS is refused. Defaults to false.
        extension: The Lambda extension, which is asked until Secrets Manager itself has answered once: after a rejected
            login, or because the extension did not answer. Defaults to none.
    """

    def __init__(
        self,
        arn: str,
        *,
        region: str,
        on_event: EventCallback = lambda *_event: None,
        max_age: Duration = 3600,
        only_aws: bool = False,
        extension: "LambdaExtension | None" = None,
    ) -> None:
        self._arn, self._on_event, self._max_age = arn, on_event, math.ceil(in_seconds(max_age))
        self._reader = SecretReader(arn, region=region, only_aws=only_aws)
        # `None`: Secrets Manager itself is read, so that no value is followed by an older one.
        self._extension = extension
        # Held while the secret is read: one thread reads, and the others use the value that it got.
        self._lock = RLock()
        # Decides when AWSCURRENT is read again. `None`: it is created at the next use.
        self._cache: CachedSecret | TimedSecret | None = None
        # The last good AWSCURRENT version. `None`: cold.
        self._latest: Secret | None = None
        # The last good AWSPENDING version. `None`: it has not been read, or could not be.
        self._pending: Credentials | None = None
        # The credentials in use instead of AWSCURRENT. `None`: the secret is not adopted.
        self._adoption: _Adoption | None = None
        # Whether the warning of a stale secret was logged.
        self._stale = False
        # Limits the reads that follow rejected logins.
        self._throttle = ReadThrottle()

    def __repr__(self) -> str:
        return f"RotationBridge({self._arn!r})"

    def current(self) -> Credentials:
        """Return the adopted credentials, or else the cached current version, which is read if that is due.

        Raises:
            SecretUnavailable: Secrets Manager did not answer, or failed so recently that it is not called again yet.
            SecretRefused: The secret does not exist, or this process may not read it.
            SecretMalformed: The secret is not a JSON object with a user name and a password.
        """
        with self._locked():
            current = self._cached()
            if self._adoption is not None and current != self._adoption.instead_of:
                self._adoption = None
            return self._adoption.accepted if self._adoption else current

    def replacements(self, rejected: Credentials, *, since: float) -> Iterator[Credentials]:
        """Yield the current version if it has changed, then the version that a rotation has not made current yet.

        Before them, adopted credentials are yielded, which another thread may have found since. Each version is read
        when it is asked for. If the server rejects both, Secrets Manager is left alone for `seconds_until_retry`.

        Args:
            rejected: The credentials that the server rejected.
            since: The `monotonic()` at which the attempt began; a version that was read later is up to date.

        Raises:
            SecretUnavailable: Secrets Manager did not answer.
            SecretMalformed: The current version is not a JSON object with a user name and a password.
        """
        tried = [rejected]
        for read in (self._adopted, self._fresh_current, self._fresh_pending):
            with self._locked():
                found = read(since)
            if found is not None and found not in tried:
                tried.append(found)
                yield found
        self._throttle.start_pause()

    def seconds_until_retry(self) -> float:
        """Return the seconds until Secrets Manager may be asked again about a rejected login."""
        return self._throttle.seconds_left()

    def on_accepted(self, credentials: Credentials) -> None:
        """Adopt *credentials* if they are not the current version, and end the pause."""
        # If another thread reads for a long time, the next connection adopts them.
        with suppress(SecretUnavailable), self._locked():
            current = self._latest.credentials if self._latest else None
            self._adoption = None if credentials == current else _Adoption(credentials, current)
            self._throttle.on_accepted()

    def refresh(self) -> None:
        """Read the current version again if one is in use; if that fails, the known value stays in use."""
        with self._locked():
            # The connections did not survive the snapshot, and the monotonic clock may be another one.
            self._reader.drop_clients()
            self._throttle.forget_times()
            if self._latest is not None:
                with suppress(SecretUnavailable, SecretMalformed):  # a warning was logged
                    self._cache = self._new_cache(self._read_current("restore"))

    def after_fork_in_child(self) -> None:
        """Keep the credentials, and drop the clients, sockets and locks that the parent process may use."""
        self._lock = RLock()
        self._cache = None
        self._reader.forget_session()

    def _locked(self) -> AbstractContextManager[None]:
        """Hold the lock in a block; see `held_in_time`."""
        return held_in_time(self._lock, f"another thread is still reading the secret {self._arn}")

    def _cached(self) -> Credentials:
        """Return the current version, which is read if that is due."""
        known = self._latest
        if self._cache is None:
            self._cache = self._new_cache(known)
        try:
            self._cache.read_if_due()
            if known is None:
                self._cache = self._new_cache(self._latest)
        except (SecretUnavailable, SecretMalformed) as error:
            raise type(error)(str(error)) from error.__cause__  # a copy: the cache raises the same object each time
        assert self._latest is not None
        return self._latest.credentials

    def _new_cache(self, known: Secret | None) -> "CachedSecret | TimedSecret":
        read = partial(self._read_current, "cold" if known is None else "refresh")
        if self._extension is not None:
            from registration_persistence.database.credentials.timed_secret import TimedSecret

            return TimedSecret(read, known=known, max_age=self._max_age)
        return CachedSecret(self._arn, read, known=known, max_age=self._max_age)

    def _adopted(self, since: float) -> Credentials | None:  # noqa: ARG002 the signature of the other two
        """Return the adopted credentials; `None` if there are none."""
        return self._adoption.accepted if self._adoption else None

    def _fresh_current(self, since: float) -> Credentials | None:
        """Return `AWSCURRENT`, read again unless the known value is newer than the rejected login."""
        if self._throttle.must_read("AWSCURRENT", since):
            self._cache = self._new_cache(self._read_current("rotation"))
        return self._latest.credentials if self._latest else None

    def _fresh_pending(self, since: float) -> Credentials | None:
        """Return `AWSPENDING`, read again unless the known value is newer than the rejected login."""
        if self._throttle.must_read("AWSPENDING", since):
            self._pending = None
            try:
                self._pending = self._read("AWSPENDING", "pending").credentials
            except (SecretRefused, SecretMalformed) as error:  # no rotation, or it has not stored a password yet
                _logger.debug("no credentials in AWSPENDING: %s", error)
        return self._pending

    def _read_current(self, cause: SecretReadCause) -> Secret:
        """Read `AWSCURRENT`; if that fails while a value is known, the secret becomes stale."""
        try:
            self._latest = self._read("AWSCURRENT", cause)
        except (SecretUnavailable, SecretMalformed) as error:
            if self._latest is not None and not self._stale:
                self._stale = True
                _logger.warning("the last good value of the secret stays in use: %s", error)
                self._on_event("secret_stale", "unavailable", 0.0)
            raise
        self._stale = False
        return self._latest

    def _read(self, stage: Stage, cause: SecretReadCause) -> Secret:
        """Read *stage*, and emit an event if it holds credentials."""
        started, timeout = monotonic(), _REFRESH_TIMEOUT_SECONDS if cause == "refresh" else math.inf
        if self._extension is not None and cause in {"cold", "refresh"}:
            secret = self._extension.read(timeout=timeout)
            if secret is not None:  # it may be old, so the throttle does not learn of it
                self._on_event("secret_read", cause, monotonic() - started)
                return secret
        outcome = self._reader.read(stage, timeout=timeout)
        self._throttle.on_read(stage, started)
        self._extension = None
        if isinstance(outcome, MalformedSecret):
            raise SecretMalformed(outcome.problem)
        self._on_event("secret_read", cause, monotonic() - started)
        return outcome
