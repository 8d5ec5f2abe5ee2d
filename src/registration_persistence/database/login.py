"""`Login`: one attempt to connect, with the current credentials and then with their replacements."""

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg

from registration_persistence.clock import monotonic
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.database.credentials.source import Credentials, CredentialSource
from registration_persistence.database.deadlines import deadline, remaining
from registration_persistence.database.error_translation import connect_failure, needs_sqlstate
from registration_persistence.database.events import DatabaseEvent, Events, OpeningCause
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.database.waits import BLOCKING, CallUnfinished, Waits
from registration_persistence.errors import (
    ConnectionRejected,
    CredentialsRejected,
    RegistrationPersistenceError,
    SecretMalformed,
    SecretUnavailable,
)
from registration_persistence.light_dataclass import dataclass

# psycopg raises NotImplementedError when it reads a value of another style. That is too late: in autocommit, the
# statement that returned the value has been committed. The startup options set both, except in front of a pooler.
_READABLE_STYLES = {"DateStyle": "ISO", "IntervalStyle": "postgres"}


# The time limit at an address, if there are more. It is long enough for a login, and short enough for a silent address.
_MAX_SECONDS_AT_ADDRESS = 2.0


# This module returns errors instead of raising them. The traceback of a raised error keeps the frames that it passes
# through, and the frames that log in hold the password.
@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The outcome of a login that succeeded.

    Args:
        connection: The open connection.
        after_rejection: Whether the server had rejected other credentials before.
        address: The IP address of the server; empty for a Unix socket.
        addresses: All addresses of its host name.
        cause: Why the connection was opened, if the login knows it.
    """

    connection: BoundedConnection[Any]
    after_rejection: bool = False
    address: str = ""
    addresses: tuple[str, ...] = ()
    cause: OpeningCause | None = None


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
        waits: The waits of the engine. Defaults to those that block the thread.
    """

    def __init__(self, where: str, credentials: CredentialSource, events: Events, waits: Waits = BLOCKING) -> None:
        self._where, self._credentials, self._events, self._waits = where, credentials, events, waits
        # The address that answered the last login. It is tried first, so that a silent one does not delay each attempt.
        self._last_address = ""

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
            f"{'; ' + advice if (advice := self._credentials.advice()) else ''}"
        )
        error.__cause__ = last.__cause__
        return error

    def _log_in(self, parameters: dict[str, Any], credentials: Credentials) -> LoggedIn | LoginFailed:
        """Connect with *credentials* to one address of the host after the other, each with a share of the time."""
        started, address = monotonic(), ""
        addresses, failures = _addresses_of(parameters["host"], first=self._last_address, waits=self._waits)
        # No certificate has the dot at the end of an absolute name.
        parameters = {**parameters, "host": parameters["host"].removesuffix(".")}
        for number, address in enumerate(addresses):
            with deadline(_seconds_at(number, len(addresses)), reserve=0):
                outcome = _log_in_at({**parameters, "hostaddr": address}, credentials, self._waits)
            if isinstance(outcome, LoggedIn):
                self._last_address = address
                return self._checked(replace(outcome, address=address, addresses=tuple(addresses)))
            failures.append(outcome.error)
            if isinstance(connect_failure([outcome.error], where=self._where), CredentialsRejected):
                self._last_address = address
        # Imported here, because a cold start does not need its modules.
        from registration_persistence.database.server_refusal import explained

        failure = explained(connect_failure(failures, where=self._where), parameters, address, self._waits)
        if isinstance(failure, CredentialsRejected):
            self._events.emit(DatabaseEvent("login_rejected", "password", monotonic() - started))
        return LoginFailed(failure)

    def _checked(self, login: LoggedIn) -> LoggedIn | LoginFailed:
        """Close the connection of *login* if psycopg cannot read the dates or intervals that the server sends."""
        for name, readable in _READABLE_STYLES.items():
            # A pooler may report nothing.
            style = login.connection.info.parameter_status(name) or readable
            if not style.startswith(readable):
                login.connection.close()
                return LoginFailed(
                    ConnectionRejected(
                        f"cannot connect to {self._where}: its {name} is {style!r}, which psycopg cannot read: "
                        f"run `registration-persistence bootstrap`, or ALTER ROLE ... SET {name.lower()} = '{readable}'"
                    )
                )
        return login


def login_at(
    settings: DatabaseSettings, credentials: CredentialSource, events: Events, waits: Waits = BLOCKING
) -> Login:
    """Return the login at the host of *settings*."""
    return Login(f"{settings.name} at {settings.host}:{settings.port}", credentials, events, waits)


def _seconds_at(number: int, addresses: int) -> float:
    """Return the time limit at the address of this *number*, from 0; the last one has the rest of the time."""
    share = remaining() / (addresses - number)
    return share if number == addresses - 1 else min(share, _MAX_SECONDS_AT_ADDRESS)


def _addresses_of(host: str, *, first: str, waits: Waits) -> tuple[list[str], list[psycopg.Error | UnicodeError]]:
    """Return the IP addresses of *host* and no failure, or no address and the failure of the look-up.

    Args:
        host: The name, which may be an address or the folder of a socket.
        first: The address that comes first if the name has it.
        waits: The waits of the look-up.
    """
    if host.startswith(("/", "@")):
        return [""], []  # a Unix socket has none
    try:
        found = waits.call(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    except CallUnfinished:
        return [], [psycopg.OperationalError(f"failed to resolve host {host!r}: no answer until the deadline")]
    except OSError as error:
        return [], [psycopg.OperationalError(f"failed to resolve host {host!r}: {error}")]
    except UnicodeError as error:
        return [], [error]
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    return sorted(addresses, key=lambda address: address != first), []


def _log_in_at(parameters: dict[str, Any], credentials: Credentials, waits: Waits) -> LoggedIn | _DriverError:
    """Connect once, or twice to learn the SQLSTATE of an unrecognised failure."""
    outcome = _connect(waits.connection_class(traced=False), parameters, credentials)
    if isinstance(outcome, _DriverError) and needs_sqlstate(outcome.error) and sys.platform == "linux":
        outcome = _connect(waits.connection_class(traced=True), parameters, credentials)
    return outcome


def _connect(
    kind: type[BoundedConnection[Any]], parameters: dict[str, Any], credentials: Credentials
) -> LoggedIn | _DriverError:
    try:
        # psycopg's own timeout is the same and comes a little later. Its error does not say how far the attempt came.
        with deadline(parameters["connect_timeout"], reserve=0):
            connection = kind.connect(
                **parameters,
                user=credentials.username,
                password=credentials.password,
                cursor_factory=kind.own_cursor_class(),
            )
    except (psycopg.Error, UnicodeError) as error:
        return _DriverError(error)
    return LoggedIn(connection)
