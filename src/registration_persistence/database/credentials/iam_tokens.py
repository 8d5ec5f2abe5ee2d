"""`IamTokens`: tokens of IAM instead of a password, each used for 14 of its 15 minutes."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import RLock

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import backoff
from registration_persistence.database.credentials.deadline_lock import held_in_time
from registration_persistence.database.credentials.source import Credentials, CredentialSource
from registration_persistence.database.credentials.token_signer import TOKEN_SECONDS, TokenSigner

# A token is used for 14 of its 15 minutes.
_MAX_AGE_SECONDS = TOKEN_SECONDS - 60

# Pause after a new token was rejected: at first, and at most.
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.2, 2.0


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and its age.

    Args:
        credentials: The role, and the token as its password.
        signed: `monotonic()` and `time.time()` when it was signed. A frozen Lambda may stop either clock.
    """

    credentials: Credentials
    signed: tuple[float, float]

    def is_fresh(self) -> bool:
        """Return whether RDS still accepts the token: neither clock says that it is too old, or not signed yet."""
        ages = (monotonic() - self.signed[0], time.time() - self.signed[1])
        return all(0 <= age < _MAX_AGE_SECONDS for age in ages)


class IamTokens(CredentialSource):
    """Tokens of IAM for one role at one endpoint.

    A token is signed locally, without a call to AWS, and is used for every connection until one of these events:

    - It is 14 minutes old; RDS accepts it for 15.
    - The AWS credentials that signed it expire.
    - The server rejects it. It is renewed once for each login, with the AWS credentials that the process has then.

    Args:
        user: The role that logs in.
        host: The endpoint of the cluster, of an instance or of a proxy.
        port: The port of the endpoint.
        region: The AWS region of the endpoint.
    """

    def __init__(self, user: str, *, host: str, port: int, region: str) -> None:
        self._user, self._host, self._port, self._region = user, host, port, region
        self._signer = TokenSigner(user, host=host, port=port, region=region)
        # Held while a token is signed: one thread signs, and the others use the token that it got.
        self._lock = RLock()
        # The token in use. `None`: a new one is signed at the next use.
        self._token: _Token | None = None
        # The number of pauses since a login was accepted, and the `monotonic()` at which the last one ends.
        self._pauses, self._pause_until = 0, -math.inf
        # The tokens for other endpoints of the cluster.
        self._siblings: dict[str, IamTokens] = {}

    def __repr__(self) -> str:
        return f"IamTokens({self._user!r}, host={self._host!r}, port={self._port}, region={self._region!r})"

    def current(self) -> Credentials:
        """Return the role and its token, a new one if there is none or if it is about to expire.

        Raises:
            SecretUnavailable: There are no AWS credentials, or they could not be loaded this time.
            SecretRefused: The configuration files of AWS are wrong.
        """
        with self._locked():
            if self._token is None or not self._token.is_fresh() or self._signer.is_expiring():
                self._token = self._signed()
            return self._token.credentials

    def replacements(self, rejected: Credentials, *, since: float) -> Iterator[Credentials]:
        """Yield a new token, unless the rejected one was signed for this very login.

        Args:
            rejected: The role and the token that the server rejected.
            since: The `monotonic()` at which the login began.

        Raises:
            SecretUnavailable: There are no AWS credentials, or they could not be loaded this time.
            SecretRefused: The configuration files of AWS are wrong.
        """
        with self._locked():
            renewed = self._renewed(rejected, since)
        if renewed is not None:
            yield renewed
        with self._locked():
            if self._token is not None and self._token.credentials in (rejected, renewed):
                self._forget_token()
            self._start_pause()

    def seconds_until_retry(self) -> float:
        """Return the seconds until the next login may be tried."""
        return max(self._pause_until - monotonic(), 0.0)

    def on_accepted(self, credentials: Credentials) -> None:  # noqa: ARG002 every token that works ends the pause
        """End the pause, and let the next one be short again."""
        self._pauses, self._pause_until = 0, -math.inf

    def advice(self) -> str:
        """Return what to check if the server rejects the token."""
        return (
            f"the token was signed for the user {self._user!r}, the host {self._host!r}, the port {self._port} and the "
            f"region {self._region!r}: check that the role is a member of rds_iam, that IAM authentication is enabled "
            "for the cluster or proxy, that the AWS credentials of this process allow rds-db:connect for this user and "
            f"cluster, and that the clock of this machine is right: it says {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, "
            "and a token is accepted for 15 minutes"
        )

    def for_host(self, host: str) -> CredentialSource:
        """Return the tokens of the same role for another endpoint of the cluster, always the same object.

        Args:
            host: The endpoint, in the same region and with the same port.
        """
        if host == self._host:
            return self
        return self._siblings.setdefault(host, IamTokens(self._user, host=host, port=self._port, region=self._region))

    def refresh(self) -> None:
        """Forget the tokens and the AWS credentials, which may have expired since the snapshot was taken."""
        with self._locked():
            self._forget_token()
            # The monotonic clock may be another one.
            self._pause_until = -math.inf
        for sibling in self._siblings.values():
            sibling.refresh()

    def after_fork_in_child(self) -> None:
        """Keep the token, and drop the locks that the parent process may hold."""
        self._lock = RLock()
        self._signer.forget_credentials()
        for sibling in self._siblings.values():
            sibling.after_fork_in_child()

    def _locked(self) -> AbstractContextManager[None]:
        """Hold the lock in a block; see `held_in_time`."""
        return held_in_time(self._lock, f"another thread is still loading AWS credentials for {self._user!r}")

    def _renewed(self, rejected: Credentials, since: float) -> Credentials | None:
        """Return a token other than the rejected one; `None` if a new one would be rejected too."""
        known = self._token
        if known is not None and known.credentials != rejected:
            return known.credentials  # another thread has renewed it
        if known is None or known.signed[0] >= since:
            return None
        self._forget_token()
        self._token = self._signed()
        # Two tokens of the same second are equal.
        return self._token.credentials if self._token.credentials != rejected else None

    def _signed(self) -> _Token:
        signed = monotonic(), time.time()
        at = f"{datetime.fromtimestamp(signed[1], UTC):%Y-%m-%d %H:%M:%S} UTC"
        origin = f"token of IAM for {self._region}, signed at {at}"
        return _Token(Credentials(self._user, self._signer.sign(), origin), signed)

    def _forget_token(self) -> None:
        self._token = None
        self._signer.forget_credentials()

    def _start_pause(self) -> None:
        """Start a pause, longer than the one before, unless one is running."""
        if not self.seconds_until_retry():
            self._pause_until = monotonic() + backoff(self._pauses, _FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
            self._pauses += 1
