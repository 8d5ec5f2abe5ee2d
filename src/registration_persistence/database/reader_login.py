"""`ReaderLogin`: an attempt to connect to the reader endpoint, and to the writer if no reader answers."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import backoff
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.deadlines import deadline, remaining
from registration_persistence.database.events import DatabaseEvent, Events, ReaderFailure
from registration_persistence.database.liveness import is_reported_writable
from registration_persistence.database.login import LoggedIn, Login, LoginFailed
from registration_persistence.errors import (
    ConnectionRejected,
    CredentialsRejected,
    RegistrationPersistenceError,
    SecretMalformed,
    SecretUnavailable,
    TooManyConnections,
)

# A silent reader must leave most of the deadline to the writer.
_MAX_READER_SECONDS, _MAX_SHARE_OF_DEADLINE = 1.0, 0.25

# With less time for the attempt, the reader is not tried: a login over TLS could take longer.
_MIN_READER_SECONDS = 0.2

# The pause before the reader endpoint is tried again, while it gives no reader: at first, and at most.
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 2.0, 30.0

# With less time, a connection that leads to the writer is not replaced.
_MIN_SECONDS_TO_RETURN = 2.0

_FAILURES: Mapping[type[RegistrationPersistenceError], ReaderFailure] = {
    TooManyConnections: "no_slot",
    CredentialsRejected: "login_rejected",
    ConnectionRejected: "rejected",
}

_logger = logging.getLogger("registration_persistence.database")


class ReaderLogin:
    """Connects to a reader; to the writer if the reader endpoint gives no connection, or gave none a moment ago.

    Every failure counts: an unknown host, a refused connection, a server that is silent or starting up, no free slot, a
    rejected login and a rejected client. The reader endpoint gets one attempt, of at most 1 s and a quarter of the
    time that is left. After a failure, it is tried again after 2 s, and after pauses that grow to 30 s; in between,
    connections lead to the writer without an attempt.

    Args:
        reader: Connects to the reader endpoint.
        writer: Connects to the writer.
        parameters: The parameters of the reader that differ from those of the writer.
        credentials: The credentials of *reader*.
        events: Receives `reader_unavailable`.
    """

    def __init__(
        self,
        reader: Login,
        writer: Login,
        parameters: Mapping[str, Any],
        credentials: CredentialSource,
        events: Events,
    ) -> None:
        self._reader, self._writer, self._parameters = reader, writer, parameters
        self._credentials, self._events = credentials, events
        self._pause = _Pause()

    def attempt(self, parameters: dict[str, Any]) -> LoggedIn | LoginFailed:
        """Connect to the reader endpoint if its turn has come; otherwise, or if that fails, to the writer.

        Args:
            parameters: psycopg's and libpq's parameters for the writer, without user and password.
        """
        if self._pause.is_over() and _reader_seconds() >= _MIN_READER_SECONDS:
            outcome = self._attempt_reader({**parameters, **self._parameters})
            if outcome is not None:
                return outcome
        outcome = self._writer.attempt(parameters)
        return replace(outcome, cause="reader_fallback") if isinstance(outcome, LoggedIn) else outcome

    def may_return(self) -> bool:
        """Return whether a connection that leads to the writer is replaced now, because there may be a reader again."""
        return remaining() >= _MIN_SECONDS_TO_RETURN and self._pause.is_over()

    def forget_pause(self, *_arguments: object) -> None:
        """Try the reader endpoint with the next connection; called when the pool was disposed of."""
        self._pause.end()

    def _attempt_reader(self, parameters: dict[str, Any]) -> LoggedIn | LoginFailed | None:
        """Return the outcome; `None` if the reader endpoint gave no connection."""
        try:
            self._credentials.current()  # the reader's limit is not for Secrets Manager
        except (SecretUnavailable, SecretMalformed) as error:
            return LoginFailed(error)
        is_retry, started = self._pause.number > 0, monotonic()
        if is_retry:
            self._pause.start()  # already now, so that other threads use the writer in the meantime
        with deadline(_reader_seconds(), reserve=0):
            outcome = self._reader.attempt(parameters)
        # Without readers, Aurora's reader endpoint leads to the writer.
        if isinstance(outcome, LoggedIn) and not is_reported_writable(outcome.connection):
            self._pause.end()
        elif not is_retry and self._pause.is_over():
            self._pause.start()
        if isinstance(outcome, LoggedIn):
            return replace(outcome, cause="reader")
        if not is_retry:
            _logger.warning("no reader answered, so read-only sessions use the writer: %s", outcome.error)
        self._report(outcome.error, monotonic() - started)
        return None

    def _report(self, error: RegistrationPersistenceError, seconds: float) -> None:
        cause: ReaderFailure = next(
            (cause for kind, cause in _FAILURES.items() if isinstance(error, kind)), "not_ready"
        )
        self._events.emit(DatabaseEvent("reader_unavailable", cause, seconds))


class _Pause:
    """The pause before the next attempt. If two threads see its end at the same moment, there are two attempts.

    Attributes:
        number: The number of pauses since a reader answered.
    """

    number: int

    def __init__(self) -> None:
        self.number = 0
        self._seconds, self._started_at = 0.0, _now()

    def is_over(self) -> bool:
        """Return whether no pause is running."""
        return max(now - then for now, then in zip(_now(), self._started_at, strict=True)) >= self._seconds

    def start(self) -> None:
        """Start a pause, longer than the one before."""
        self._seconds = backoff(self.number, _FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        self.number, self._started_at = self.number + 1, _now()

    def end(self) -> None:
        """End the pause, and let the next one be short again."""
        self.number, self._seconds = 0, 0.0


def _reader_seconds() -> float:
    """Return the time limit of an attempt at the reader endpoint."""
    return min(_MAX_READER_SECONDS, remaining() * _MAX_SHARE_OF_DEADLINE)


def _now() -> tuple[float, float]:
    # Both clocks: while a process is frozen, either may stand still.
    return time.time(), monotonic()
