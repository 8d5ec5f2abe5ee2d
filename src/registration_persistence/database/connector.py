"""Opening a connection: whose credentials, which failures to wait out, and for how long."""

import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from sqlalchemy.pool import ConnectionPoolEntry

from registration_persistence.database.backoff import backoff
from registration_persistence.database.connection import BoundedConnection, TracedConnection
from registration_persistence.database.credentials.source import Credentials, CredentialSource
from registration_persistence.database.deadlines import deadline, remaining
from registration_persistence.database.error_translation import connect_failure, needs_sqlstate
from registration_persistence.database.events import DatabaseEvent, Events
from registration_persistence.database.liveness import REOPENING
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.errors import (
    CredentialsRejected,
    DatabaseUnavailable,
    RegistrationPersistenceError,
    SecretMalformed,
    SecretUnavailable,
    TooManyConnections,
)

# Seconds. A server that is starting, or a slot that is taken, is tried again at first and at the longest after so long.
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0

# Seconds, besides the statement timeout, after which a server that says nothing is given up.
_SILENCE = 2.0

_WAITS = {
    DatabaseUnavailable: "not_ready",
    TooManyConnections: "no_slot",
    CredentialsRejected: "login_rejected",
    SecretUnavailable: "no_secret",
}

_OPENED_BEFORE = "registration_persistence.opened_before"


class Connector:
    """Opens each connection of an engine with the credentials of the moment; waits out what passes.

    It goes on for as long as the deadline allows, without one for `connect_timeout`.
    """

    def __init__(self, settings: DatabaseSettings, credentials: CredentialSource, events: Events) -> None:
        self._where = f"{settings.name} at {settings.host}:{settings.port}"
        self._settings = settings
        self._credentials = credentials
        self._events = events
        self._disposed = False

    def __call__(
        self, _dialect: Any, record: ConnectionPoolEntry, _arguments: Any, parameters: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        """Open a connection, as SQLAlchemy's `do_connect`.

        Raises:
            RegistrationPersistenceError: The failure that did not pass.
        """
        started, history = time.monotonic(), _history(record)
        cause = self._cause(history)
        limit = self._settings.connect_timeout if remaining() == math.inf else remaining()
        with deadline(limit, reserve=0):
            attempts, failure = 0, None
            while not isinstance(outcome := self._round(parameters), _Opened):
                # An attempt that the deadline cut short says less than the one before.
                failure = failure if failure and remaining() <= 0 else outcome
                self._wait_after(failure, attempts)
                attempts += 1
        self._events.emit(
            DatabaseEvent("connection_opened", "rotation" if outcome.replaced else cause, time.monotonic() - started)
        )
        self._disposed = False
        history.pop(REOPENING, None)
        history[_OPENED_BEFORE] = True
        return outcome.connection

    def forget_pool(self, _engine: Any) -> None:
        """Note that the next connection is opened because the pool was disposed of."""
        self._disposed = True

    def _cause(self, history: dict[Any, Any]) -> str:
        if not self._events.count("connection_opened"):
            return "cold"
        known: str | None = history.get(REOPENING)
        return known or ("recycled" if self._disposed or _OPENED_BEFORE in history else "further")

    def _round(self, parameters: dict[str, Any]) -> "_Opened | RegistrationPersistenceError":
        """Try the credentials that there are, one after the other; errors are returned, for frames hold passwords."""
        since = time.monotonic()
        tried: list[Credentials] = []
        last: RegistrationPersistenceError | None = None
        try:
            for credentials in self._candidates(since):
                tried.append(credentials)
                outcome = self._login(parameters, credentials)
                if isinstance(outcome, _Opened):
                    outcome.replaced = len(tried) > 1
                    self._tell(credentials, outcome)
                if not isinstance(outcome, CredentialsRejected):
                    return outcome
                last = outcome
        except (SecretUnavailable, SecretMalformed) as error:
            return error if last is None else self._about(tried, type(error), error)
        assert last is not None
        return self._about(tried, CredentialsRejected, last)

    def _tell(self, credentials: Credentials, opened: "_Opened") -> None:
        try:
            self._credentials.on_accepted(credentials)
        except BaseException:
            opened.connection.close()
            raise

    def _candidates(self, since: float) -> Iterator[Credentials]:
        first = self._credentials.current()
        yield first
        yield from self._credentials.replacements(first, since=since)

    def _about(
        self, tried: list[Credentials], kind: type[RegistrationPersistenceError], last: RegistrationPersistenceError
    ) -> RegistrationPersistenceError:
        """Return an error of *kind* that names what was *tried* before *last* was met."""
        versions = " and ".join(f"{each.username!r} ({each.origin or 'from the settings'})" for each in tried)
        rotating = ", which a rotation is about to make current" if "PENDING" in tried[-1].origin else ""
        said = last if last.__cause__ is None or kind is not CredentialsRejected else last.__cause__
        error = kind(
            f"cannot connect to {self._where}: it refused the login of {versions}{rotating}; "
            f"{' '.join(str(said).split())}"
        )
        error.__cause__ = last.__cause__
        return error

    def _login(self, parameters: dict[str, Any], credentials: Credentials) -> "_Opened | RegistrationPersistenceError":
        started = time.monotonic()
        outcome = _attempt(BoundedConnection, parameters, credentials)
        if isinstance(outcome, Exception) and needs_sqlstate(outcome) and sys.platform == "linux":
            outcome = _attempt(TracedConnection, parameters, credentials)
        if isinstance(outcome, Exception):
            failure = connect_failure(outcome, where=self._where)
            if isinstance(failure, CredentialsRejected):
                self._events.emit(DatabaseEvent("login_rejected", "password", time.monotonic() - started))
            return failure
        if self._settings.statement_timeout:
            outcome.longest_silence = self._settings.statement_timeout + _SILENCE
        return _Opened(outcome)

    def _wait_after(self, failure: RegistrationPersistenceError, attempts: int) -> None:
        """Wait before the next attempt, or raise *failure* where that cannot help or would take too long."""
        kind = next((name for kind, name in _WAITS.items() if isinstance(failure, kind)), None)
        if kind is None or not (failure.retryable or isinstance(failure, CredentialsRejected)):
            raise failure
        wait = backoff(attempts, _FIRST_WAIT, _LONGEST_WAIT)
        if isinstance(failure, CredentialsRejected):
            wait = max(wait, self._credentials.seconds_until_retry())
        if wait >= remaining():
            raise failure
        self._events.emit(DatabaseEvent("wait", kind, wait))
        time.sleep(wait)


def _history(record: ConnectionPoolEntry) -> dict[Any, Any]:
    """Return what is noted of a place in the pool, whichever connection is in it."""
    history = record.record_info
    assert history is not None
    return history


class _Opened:
    """A connection, and whether other credentials had been refused before."""

    def __init__(self, connection: BoundedConnection) -> None:
        self.connection = connection
        self.replaced = False


def _attempt(
    kind: type[BoundedConnection], parameters: dict[str, Any], credentials: Credentials
) -> BoundedConnection | psycopg.Error | UnicodeError:
    """Connect, and return the error instead of raising it: the frames it was raised in hold the password."""
    try:
        return kind.connect(**parameters, user=credentials.username, password=credentials.password)
    except (psycopg.Error, UnicodeError) as error:
        return error
