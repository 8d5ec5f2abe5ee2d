"""What a failed connect or statement means: the driver's error → ours, from structured fields where there are any."""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import pq

from registration_persistence import errors

# psycopg has no SQLSTATE for an error that ends the attempt to connect, so the server's own words decide, where they
# are in English.
_CONNECT_FAILURES: tuple[tuple[re.Pattern[str], type[errors.RegistrationPersistenceError]], ...] = (
    (
        re.compile(r"password authentication failed|not permitted to log in|proxy has no credentials for the role"),
        errors.CredentialsRejected,
    ),
    (re.compile(r"too many clients|remaining connection slots|too many connections"), errors.TooManyConnections),
    (
        re.compile(
            r"database system is|starting up|shutting down|session is read-only|could not translate host name"
            r"|failed to resolve host|unexpected eof|SYSCALL|reset by peer|closed the connection"
            r"|Connection refused|timeout expired|the deadline came"
        ),
        errors.DatabaseUnavailable,
    ),
    (
        re.compile(
            r"pg_hba\.conf|SSL|sslmode|certificate|host name|does not exist|permission denied"
            r"|unsupported startup parameter|invalid value for parameter|authentication method"
        ),
        errors.ConnectionRejected,
    ),
)

# What decides where they are in another language: the SQLSTATE, or its class, that a traced attempt brought.
_CONNECT_STATES: Mapping[str, type[errors.RegistrationPersistenceError]] = {
    "28P01": errors.CredentialsRejected,
    "28": errors.ConnectionRejected,
    "53300": errors.TooManyConnections,
    "3D": errors.ConnectionRejected,
    "42": errors.ConnectionRejected,
    "22": errors.ConnectionRejected,
    "0A": errors.ConnectionRejected,
}

# Hosts, users and databases are quoted, and may be called anything.
_NAMES = re.compile(r"\"[^\"]*\"|'[^']*'")

_BY_SQLSTATE: dict[str, type[errors.RegistrationPersistenceError]] = {
    "25006": errors.WriterMoved,
    "25P02": errors.TransactionAborted,
    "42703": errors.SchemaOutdated,
    "42P01": errors.SchemaOutdated,
    "40001": errors.TransactionConflict,
    "40P01": errors.TransactionConflict,
    "55P03": errors.LockTimeout,
    "57014": errors.StatementTimeout,
    "25P03": errors.ConnectionLost,
    "57P01": errors.ConnectionLost,
    "57P02": errors.ConnectionLost,
    "57P05": errors.ConnectionLost,
}

# What stands before and after the server's words.
_EXPLANATIONS: Mapping[type[errors.RegistrationPersistenceError], tuple[str, str]] = {
    errors.ConnectionLost: ("the connection was lost before COMMIT was sent, so nothing was kept: ", ""),
    errors.CommitOutcomeUnknown: ("the connection was lost in COMMIT, so it may or may not have been kept: ", ""),
    errors.WriterMoved: ("the server is no writer any more, so nothing was kept: ", ""),
    errors.SchemaOutdated: ("", ": run `registration-persistence migrate`, or look at the statement"),
}

# The server ended a session that was idle, so it had nothing of a COMMIT on its way.
_ENDED_WHILE_IDLE = ("25P03", "57P05")


def needs_sqlstate(error: Exception) -> bool:
    """Tell whether the text of a failed attempt to connect is none that is known, so that only its SQLSTATE decides."""
    return isinstance(error, psycopg.Error) and error.sqlstate is None and _by_text(error) is None


def connect_failure(error: psycopg.Error | UnicodeError, *, where: str) -> errors.RegistrationPersistenceError:
    """Return what a failed attempt to connect to *where* means to the caller; *error* becomes its cause.

    The driver's frames and its connection hold the password, so neither error keeps them.
    """
    if isinstance(error, UnicodeError):  # it quotes what could not be encoded
        return errors.ConnectionRejected(f"cannot connect to {where}: host, user or password cannot be encoded")
    meaning = _connect_failure_class(error)(f"cannot connect to {where}: {' '.join(str(error).split())}")
    # A copy, because the driver's own error leads to the connection's parameters.
    meaning.__cause__ = type(error)(str(error))
    return meaning


def _connect_failure_class(error: psycopg.Error) -> type[errors.RegistrationPersistenceError]:
    state = error.sqlstate or ""
    by_state = _CONNECT_STATES.get(state) or _CONNECT_STATES.get(state[:2])
    return _by_text(error) or by_state or errors.DatabaseUnavailable


def _by_text(error: psycopg.Error) -> type[errors.RegistrationPersistenceError] | None:
    message = _NAMES.sub("", str(error))
    return next((meaning for pattern, meaning in _CONNECT_FAILURES if pattern.search(message)), None)


def statement_failure(
    error: psycopg.Error, *, lost: bool, committing: bool, read_only: bool
) -> errors.RegistrationPersistenceError | None:
    """Return what a failed statement means to the caller; `None` where the driver's error says it best.

    Args:
        error: What psycopg raised.
        lost: Whether the connection is unusable now.
        committing: Whether COMMIT was on its way.
        read_only: Whether the transaction is read-only because the service made it so.
    """
    meaning = _BY_SQLSTATE.get(error.sqlstate or "")
    if meaning is errors.WriterMoved and read_only:
        return None
    if meaning is None and (lost or (error.sqlstate or "").startswith("08")):
        meaning = errors.ConnectionLost
    if meaning is errors.ConnectionLost and committing and error.sqlstate not in _ENDED_WHILE_IDLE:
        meaning = errors.CommitOutcomeUnknown
    if meaning is None:
        return None
    before, after = _EXPLANATIONS.get(meaning, ("", ""))
    return meaning(f"{before}{' '.join(str(error).split())} (SQLSTATE {error.sqlstate or 'unknown'}){after}")


def without_detail(error: psycopg.Error) -> psycopg.Error:
    """Take DETAIL and CONTEXT, where PostgreSQL quotes the row, out of *error*'s message; `error.diag` keeps them."""
    if error.diag.message_primary:
        error.args = (error.diag.message_primary,)
    return error


def transaction_is_aborted(connection: Any) -> bool:
    """Tell whether a failed statement has ended the transaction of *connection*; asks libpq, not the server."""
    return bool(connection.info.transaction_status == pq.TransactionStatus.INERROR)
