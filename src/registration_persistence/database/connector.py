"""`Connector`: opens connections with the current credentials, and waits while a failure can pass."""

import math
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from sqlalchemy.pool import ConnectionPoolEntry

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import backoff
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.deadlines import deadline, remaining
from registration_persistence.database.events import DatabaseEvent, Events, OpeningCause, WaitCause
from registration_persistence.database.liveness import REOPEN_CAUSE
from registration_persistence.database.login import Login, LoginFailed, login_at
from registration_persistence.database.reader_login import ReaderLogin
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.errors import (
    ConfigurationError,
    CredentialsRejected,
    DatabaseUnavailable,
    RegistrationPersistenceError,
    SecretUnavailable,
    TooManyConnections,
)

# The wait before the next attempt to connect: at first, and at most.
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.05, 1.0

# A silent server is given up after the statement timeout plus this margin.
_SILENCE_MARGIN_SECONDS = 2.0

# The failures that can pass, and the cause of the event `wait`.
_WAIT_CAUSES: Mapping[type[RegistrationPersistenceError], WaitCause] = {
    DatabaseUnavailable: "not_ready",
    TooManyConnections: "no_slot",
    CredentialsRejected: "login_rejected",
    SecretUnavailable: "no_secret",
}

# libpq sends the values of these to the server, whatever the parameters of the connection are, unless it is "default".
_SESSION_VARIABLES = ("PGDATESTYLE", "PGGEQO", "PGTZ")

# Key of a pool record's `record_info`: the record had a connection before.
_OPENED_BEFORE = "registration_persistence.opened_before"


class Connector:
    """Opens each connection of an engine; tries again while the failure can pass.

    It tries until the deadline, or without one for the `connect_timeout` of *settings*.

    Args:
        settings: The settings of the database.
        credentials: The source of user name and password, asked for each attempt.
        events: Receives `connection_opened`, `login_rejected` and `wait`.
        login: Makes each attempt. Defaults to a login at the host of *settings*.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        credentials: CredentialSource,
        events: Events,
        login: Login | ReaderLogin | None = None,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._events = events
        self._login = login or login_at(settings, credentials, events)
        self._disposed = False

    def __call__(
        self, _dialect: Any, record: ConnectionPoolEntry, _arguments: Any, parameters: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        """Open a connection; the handler of SQLAlchemy's event `do_connect`.

        Raises:
            ConfigurationError: A variable is set that libpq obeys although every parameter is set.
            RegistrationPersistenceError: The last failure, if it cannot pass or did not pass in time.
        """
        if problems := list(_variable_problems()):
            raise ConfigurationError(problems)
        started, history = monotonic(), _history(record)
        cause = self._opening_cause(history)
        limit = self._settings.connect_timeout if remaining() == math.inf else remaining()
        with deadline(limit, reserve=0):
            attempts, failure = 0, None
            while isinstance(outcome := self._login.attempt(parameters), LoginFailed):
                # If the deadline cut the attempt short, the failure before it says more.
                failure = failure if failure and remaining() <= 0 else outcome.error
                self._wait_after(failure, attempts)
                attempts += 1
        if self._settings.statement_timeout:
            outcome.connection.max_silence_seconds = self._settings.statement_timeout + _SILENCE_MARGIN_SECONDS
        self._emit_opened(outcome.cause or ("rotation" if outcome.after_rejection else cause), started)
        self._disposed = False
        history.pop(REOPEN_CAUSE, None)
        history[_OPENED_BEFORE] = True
        return outcome.connection

    def forget_pool(self, _engine: Any) -> None:
        """Remember that the pool was disposed of, which is why the next connection is opened."""
        self._disposed = True

    def _opening_cause(self, history: dict[Any, Any]) -> OpeningCause:
        if not self._events.count("connection_opened"):
            return "cold"
        known: OpeningCause | None = history.get(REOPEN_CAUSE)
        return known or ("recycled" if self._disposed or _OPENED_BEFORE in history else "further")

    def _emit_opened(self, cause: OpeningCause, started: float) -> None:
        self._events.emit(DatabaseEvent("connection_opened", cause, monotonic() - started))

    def _wait_after(self, failure: RegistrationPersistenceError, attempts: int) -> None:
        """Wait before the next attempt; raise *failure* if it cannot pass, or if the wait would end too late."""
        cause = next((cause for kind, cause in _WAIT_CAUSES.items() if isinstance(failure, kind)), None)
        if cause is None or not (failure.retryable or isinstance(failure, CredentialsRejected)):
            raise failure
        wait = backoff(attempts, _FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS)
        if isinstance(failure, CredentialsRejected):
            wait = max(wait, self._credentials.seconds_until_retry())
        if wait >= remaining():
            raise failure
        self._events.emit(DatabaseEvent("wait", cause, wait))
        time.sleep(wait)


def _variable_problems() -> Iterator[str]:
    """Yield a problem for each variable of this process that would change the connections."""
    if "PGSERVICE" in os.environ:
        yield "PGSERVICE is set, so libpq would read a service file: unset it"
    for name in _SESSION_VARIABLES:
        if os.environ.get(name, "default").lower() != "default":
            yield f"{name} is set, so libpq would send it to the server, which would obey it: unset it"


def _history(record: ConnectionPoolEntry) -> dict[Any, Any]:
    """Return the pool record's `record_info`, which outlives its connections."""
    history = record.record_info
    assert history is not None
    return history
