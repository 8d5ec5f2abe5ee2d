"""`Login`: one attempt to connect, with the current credentials and then with their replacements."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from registration_persistence.clock import monotonic
from registration_persistence.database.connection import BoundedConnection, TracedConnection
from registration_persistence.database.credentials.source import Credentials, CredentialSource
from registration_persistence.database.error_translation import connect_failure, needs_sqlstate
from registration_persistence.database.events import DatabaseEvent, Events
from registration_persistence.errors import (
    CredentialsRejected,
    RegistrationPersistenceError,
    SecretMalformed,
    SecretUnavailable,
)


# This module returns errors instead of raising them. The traceback of a raised error keeps the frames that it passes
# through, and the frames that log in hold the password.
@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The outcome of a login that succeeded.

    Args:
        connection: The open connection.
        after_rejection: Whether the server had rejected other credentials before.
    """

    connection: BoundedConnection
    after_rejection: bool = False


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The outcome of a login that failed.

    Args:
        error: The failure, for the caller to raise or to wait out; its traceback holds no password.
    """

    error: RegistrationPersistenceError


@dataclass(frozen=True, slots=True)
class _DriverError:
    """An error of psycopg; its traceback holds the password."""

    error: psycopg.Error | UnicodeError


class Login:
    """Connects with the credentials of a source.

    Args:
        where: Database, host and port, for error messages.
        credentials: The source of user name and password.
        events: Receives `login_rejected`.
    """

    def __init__(self, where: str, credentials: CredentialSource, events: Events) -> None:
        self._where, self._credentials, self._events = where, credentials, events

    def attempt(self, parameters: dict[str, Any]) -> LoggedIn | LoginFailed:
        """Connect with one credentials candidate after the other, until the server does not reject the login.

        Args:
            parameters: psycopg's and libpq's parameters, without user and password.
        """
        since = monotonic()
        tried: list[Credentials] = []
        rejection: CredentialsRejected | None = None
        try:
            for credentials in self._candidates(since):
                tried.append(credentials)
                outcome = self._log_in(parameters, credentials)
                if isinstance(outcome, LoggedIn):
                    self._report_accepted(credentials, outcome)
                    return replace(outcome, after_rejection=len(tried) > 1)
                if not isinstance(outcome.error, CredentialsRejected):
                    return outcome
                rejection = outcome.error
        except (SecretUnavailable, SecretMalformed) as error:
            return LoginFailed(error if rejection is None else self._with_rejected(tried, error, error))
        assert rejection is not None
        return LoginFailed(self._with_rejected(tried, rejection, rejection.__cause__ or rejection))

    def _candidates(self, since: float) -> Iterator[Credentials]:
        first = self._credentials.current()
        yield first
        yield from self._credentials.replacements(first, since=since)

    def _report_accepted(self, credentials: Credentials, login: LoggedIn) -> None:
        try:
            self._credentials.on_accepted(credentials)
        except BaseException:
            login.connection.close()
            raise

    def _with_rejected(
        self, rejected: list[Credentials], last: RegistrationPersistenceError, reason: BaseException
    ) -> RegistrationPersistenceError:
        """Return an error like *last* whose message names the *rejected* credentials and the *reason*."""
        versions = " and ".join(f"{each.username!r} ({each.origin or 'from the settings'})" for each in rejected)
        rotating = ", which a rotation is about to make current" if "PENDING" in rejected[-1].origin else ""
        error = type(last)(
            f"cannot connect to {self._where}: it refused the login of {versions}{rotating}; "
            f"{' '.join(str(reason).split())}"
        )
        error.__cause__ = last.__cause__
        return error

    def _log_in(self, parameters: dict[str, Any], credentials: Credentials) -> LoggedIn | LoginFailed:
        """Connect with *credentials*, once, or twice to learn the SQLSTATE of an unrecognised failure."""
        started = monotonic()
        outcome = _connect(BoundedConnection, parameters, credentials)
        if isinstance(outcome, _DriverError) and needs_sqlstate(outcome.error) and sys.platform == "linux":
            outcome = _connect(TracedConnection, parameters, credentials)
        if isinstance(outcome, _DriverError):
            failure = connect_failure(outcome.error, where=self._where)
            if isinstance(failure, CredentialsRejected):
                self._events.emit(DatabaseEvent("login_rejected", "password", monotonic() - started))
            return LoginFailed(failure)
        return outcome


def _connect(
    kind: type[BoundedConnection], parameters: dict[str, Any], credentials: Credentials
) -> LoggedIn | _DriverError:
    try:
        return LoggedIn(kind.connect(**parameters, user=credentials.username, password=credentials.password))
    except (psycopg.Error, UnicodeError) as error:
        return _DriverError(error)
