"""`Connector`: opens connections with the current credentials, and waits while a failure can pass."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import ref

import psycopg
from sqlalchemy import Engine
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from registration_persistence.clock import monotonic
from registration_persistence.database.backoff import RecoveryBackoff, fitting_wait
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.deadlines import deadline, remaining
from registration_persistence.database.error_translation import is_read_only_server
from registration_persistence.database.events import DatabaseEvent, Events, OpeningCause, WaitCause
from registration_persistence.database.liveness import LAST_USED_AT, REOPEN_CAUSE
from registration_persistence.database.login import LoggedIn, Login, LoginFailed, login_at
from registration_persistence.database.reader_login import ReaderLogin
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.database.waits import BLOCKING, Waits
from registration_persistence.errors import (
    ConfigurationError,
    CredentialsRejected,
    DatabaseUnavailable,
    RegistrationPersistenceError,
    SecretUnavailable,
    TooManyConnections,
)

# A silent server is given up after the statement timeout plus this margin.
_SILENCE_MARGIN_SECONDS = 2.0

# The failures that can pass, and the cause of the event `wait`.
_WAIT_CAUSES: Mapping[type[RegistrationPersistenceError], WaitCause] = {
    DatabaseUnavailable: "not_ready",
    TooManyConnections: "no_slot",
    CredentialsRejected: "login_rejected",
    SecretUnavailable: "no_secret",
}

# The waits before the next attempt, by the cause of the failure; decision 33 has their reasons.
_BACKOFFS: Mapping[WaitCause, RecoveryBackoff] = {
    "not_ready": RecoveryBackoff(first=0.05, longest=0.25, short_for=3.0, jitter=(0.8, 1.0)),
    "no_slot": RecoveryBackoff(first=0.05, longest=0.3, short_for=3.0, jitter=(0.5, 1.0)),
    "login_rejected": RecoveryBackoff(first=0.05, longest=1.0, short_for=math.inf, jitter=(0.5, 1.0)),
    "no_secret": RecoveryBackoff(first=0.28, longest=0.28, short_for=7.0, jitter=(0.92, 1.0)),
}

# For a server that answers but is read-only, because its name is about to lead to the new writer.
_READ_ONLY_BACKOFF = RecoveryBackoff(first=0.06, longest=0.06, short_for=1.2, jitter=(0.8, 1.0))

# libpq sends the values of these to the server, whatever the parameters of the connection are, unless it is "default".
_SESSION_VARIABLES = ("PGDATESTYLE", "PGGEQO", "PGTZ")

# Key of a pool record's `record_info`: the record had a connection before.
_OPENED_BEFORE = "registration_persistence.opened_before"

# Key of a pool record's `record_info`: the address of the server of the last connection.
_ADDRESS = "registration_persistence.address"


class Connector:
    """Opens each connection of an engine; tries again while the failure can pass.

    It tries until the deadline, or without one for the `connect_timeout` of *settings*.

    Args:
        settings: The settings of the database.
        credentials: The source of user name and password, asked for each attempt.
        events: Receives `connection_opened`, `login_rejected` and `wait`.
        login: Makes each attempt. Defaults to a login at the host of *settings*.
        waits: The waits of the engine. Defaults to those that block the thread.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        credentials: CredentialSource,
        events: Events,
        login: Login | ReaderLogin | None = None,
        waits: Waits = BLOCKING,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._events = events
        self._login = login or login_at(settings, credentials, events, waits)
        self._waits = waits
        self._engine: Callable[[], Engine | None] = lambda: None
        # The pool of the last connection; another one took its place if the pool was disposed of.
        self._pool: Callable[[], Pool | None] = lambda: None
        # `monotonic()` at which the server was last found not ready.
        self._not_ready_at = -math.inf

    def __call__(
        self, _dialect: Any, record: ConnectionPoolEntry, _arguments: Any, parameters: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        """Open a connection; the handler of SQLAlchemy's event `do_connect`.

        Raises:
            ConfigurationError: A variable is set that libpq obeys although every parameter is set.
            RegistrationPersistenceError: The last failure, if it cannot pass or did not pass in time.
        """
        if not self._events.observers:
            return self._connect(record, parameters)
        with self._events.observation("connect", "connect"):
            return self._connect(record, parameters)

    def _connect(self, record: ConnectionPoolEntry, parameters: dict[str, Any]) -> psycopg.Connection[Any]:
        if problems := list(_variable_problems()):
            raise ConfigurationError(problems)
        started, history = monotonic(), _history(record)
        history.setdefault(LAST_USED_AT, started)
        limit = self._settings.connect_timeout if remaining() == math.inf else remaining()
        with deadline(limit, reserve=0):
            login = self._log_in(parameters)
        if self._settings.statement_timeout:
            login.connection.max_silence_seconds = self._settings.statement_timeout + _SILENCE_MARGIN_SECONDS
        # A pooler that ends a session while it has commands of a pipeline to read loses the reason.
        login.connection.asks_for_id = login.connection.joins_begin = self._settings.pool != "proxy"
        cause = self._opening_cause(login, history, was_disposed_of=self._was_disposed_of())
        self._events.emit(DatabaseEvent("connection_opened", cause, monotonic() - started))
        for key in (REOPEN_CAUSE, LAST_USED_AT):
            history.pop(key, None)
        history.update({_OPENED_BEFORE: True, _ADDRESS: login.address})
        return login.connection

    def serve(self, engine: Engine) -> None:
        """Remember *engine*, whose pool is replaced when it is disposed of, and give its dialect the events."""
        self._engine, self._pool = ref(engine), ref(engine.pool)
        dialect: Any = engine.dialect
        dialect.events = self._events

    def _opening_cause(self, login: LoggedIn, history: dict[Any, Any], *, was_disposed_of: bool) -> OpeningCause:
        if login.cause:
            return login.cause
        if login.after_rejection:
            return "rotation"
        if not self._events.count("connection_opened"):
            return "cold"
        known: OpeningCause | None = history.get(REOPEN_CAUSE)
        if known in {"thaw", "lost"} and self._was_away(login, history):
            return "failover"
        return known or ("recycled" if was_disposed_of or _OPENED_BEFORE in history else "further")

    def _was_disposed_of(self) -> bool:
        """Return whether the pool was disposed of since the last connection was opened."""
        engine, before = self._engine(), self._pool()
        if engine is None:
            return False
        self._pool = ref(engine.pool)
        return before is not engine.pool

    def _was_away(self, login: LoggedIn, history: dict[Any, Any]) -> bool:
        """Return whether the server was not ready since the last use of the previous connection, or has moved."""
        return self._not_ready_at >= history[LAST_USED_AT] or history.get(_ADDRESS) not in login.addresses

    def _log_in(self, parameters: dict[str, Any]) -> LoggedIn:
        """Log in, again and again while the failure can pass.

        Raises:
            RegistrationPersistenceError: The last failure, if it cannot pass or did not pass in time.
        """
        started, attempts = monotonic(), 0
        failure: RegistrationPersistenceError | None = None
        while isinstance(outcome := self._login.attempt(parameters), LoginFailed):
            # If the deadline cut the attempt short, the failure before it says more.
            failure = failure if failure and remaining() <= 0 else outcome.error
            if isinstance(failure, DatabaseUnavailable):
                self._not_ready_at = monotonic()
            self._wait_after(failure, attempts, lasting=monotonic() - started)
            attempts += 1
        return outcome

    def _wait_after(self, failure: RegistrationPersistenceError, attempts: int, *, lasting: float) -> None:
        """Wait before the next attempt; raise *failure* if it cannot pass, or if no time is left for an attempt."""
        cause = next((cause for kind, cause in _WAIT_CAUSES.items() if isinstance(failure, kind)), None)
        if cause is None or not (failure.retryable or isinstance(failure, CredentialsRejected)):
            raise failure
        waits = _READ_ONLY_BACKOFF if is_read_only_server(failure) else _BACKOFFS[cause]
        least = self._credentials.seconds_until_retry() if isinstance(failure, CredentialsRejected) else 0.0
        wait = fitting_wait(max(waits.seconds(attempts, lasting), least), remaining())
        # Credentials that never change would be rejected again.
        if wait is None or least == math.inf:
            raise failure
        self._events.emit(DatabaseEvent("wait", cause, wait))
        self._waits.sleep(wait)


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
