"""Translates psycopg's errors into the errors of this package, by SQLSTATE if there is one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq

from registration_persistence import errors
from registration_persistence.lazy_pattern import lazy_pattern

# psycopg reports no SQLSTATE for a failed attempt to connect, so the English text of libpq and the server decides.
_CONNECT_FAILURES_BY_TEXT: tuple[tuple[re.Pattern[str], type[errors.RegistrationPersistenceError]], ...] = (
    (
        lazy_pattern(
            r"(?:password|PAM|LDAP|RADIUS|IAM) authentication failed|not permitted to log in"
            r"|[Pp]roxy has no credentials for the role|password that was provided for the role"
        ),
        errors.CredentialsRejected,
    ),
    (
        lazy_pattern(
            r"too many clients|remaining connection slots|too many connections|no more connections allowed"
            r"|[Tt]imed[- ]out waiting to acquire database connection"
        ),
        errors.TooManyConnections,
    ),
    (
        lazy_pattern(
            r"database system is|starting up|shutting down|session is read-only|could not translate host name"
            r"|failed to resolve host|unexpected eof|SYSCALL|reset by peer|closed the connection"
            r"|Connection refused|timeout expired"
            r"|query_wait_timeout|server login has been failing|client_login_timeout|cannot connect"  # PgBouncer
        ),
        errors.DatabaseUnavailable,
    ),
    (
        lazy_pattern(
            r"pg_hba\.conf|does not support SSL|SSL (?:is |was )?required|requires (?:TLS|SSL)|only with SSL|sslmode"
            r"|certificate|unknown ca|alert protocol version|unsupported protocol|no shared cipher|no ciphers"
            r"|handshake failure|host name|does not exist|permission denied|unsupported startup parameter"
            r"|invalid value for parameter|authentication method|channel binding"
        ),
        errors.ConnectionRejected,
    ),
    # A proxy may end or disturb the TLS session during a failover, in any way.
    (lazy_pattern(r"SSL"), errors.DatabaseUnavailable),
)

# If the addresses of a host fail in different ways, the first of these decides: a failure that can pass goes first.
_DECIDING_ORDER = [meaning for _, meaning in _CONNECT_FAILURES_BY_TEXT]

# If the text is unrecognised, for example in another language: by the SQLSTATE of a `TracedConnection`, or its class.
_CONNECT_FAILURES_BY_SQLSTATE: Mapping[str, type[errors.RegistrationPersistenceError]] = {
    "28P01": errors.CredentialsRejected,
    "28": errors.ConnectionRejected,
    "53300": errors.TooManyConnections,
    "3D": errors.ConnectionRejected,
    "42": errors.ConnectionRejected,
    "22": errors.ConnectionRejected,
    "0A": errors.ConnectionRejected,
}

# The quoted names of hosts, users and databases, which must not match the texts above.
_QUOTED_NAMES = lazy_pattern(r"\"[^\"]*\"|'[^']*'")

_STATEMENT_FAILURES: Mapping[str, type[errors.RegistrationPersistenceError]] = {
    "25006": errors.WriterMoved,
    "25P02": errors.TransactionAborted,
    "42703": errors.SchemaOutdated,
    "42883": errors.SchemaOutdated,  # a function of the migrations is missing
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

# The text before and after the server's message.
_EXPLANATIONS: Mapping[type[errors.RegistrationPersistenceError], tuple[str, str]] = {
    errors.ConnectionLost: ("the connection was lost before COMMIT was sent, so nothing was kept: ", ""),
    errors.CommitOutcomeUnknown: ("the connection was lost in COMMIT, so it may or may not have been kept: ", ""),
    errors.WriterMoved: ("the server has become read-only, so nothing was kept: ", ""),
    errors.SchemaOutdated: ("", ": run `registration-persistence migrate`, or correct the statement"),
    errors.TransactionConflict: ("", ": repeat the unit of work"),
    errors.LockTimeout: ("", ": repeat the unit of work, or raise APP_DATABASE_LOCK_TIMEOUT"),
    errors.StatementTimeout: ("", ": shorten the statement, or raise the deadline or APP_DATABASE_STATEMENT_TIMEOUT"),
}

# "cached plan must not change result type" has this function of the server, and the SQLSTATE of many other errors.
_FEATURE_NOT_SUPPORTED, _RESULT_TYPE_CHECK = "0A000", "RevalidateCachedQuery"

# A prepared statement does not exist, or exists already; psycopg names its statements `_pg3_0`, `_pg3_1` and so on.
_STATEMENT_NAME_ERRORS, _NAME_PREFIX = frozenset({"26000", "42P05"}), "_pg3_"

# PgBouncer and RDS Proxy refuse a statement with these texts while no session of the server is assigned to the client.
_REFUSED_BY_POOLER = lazy_pattern(
    r"query_wait_timeout|server login has been failing|(?:pgbouncer )?cannot connect|client_login_timeout"
    r"|timed[- ]out waiting to acquire database connection",
    re.IGNORECASE,
)

# idle_in_transaction_session_timeout and idle_session_timeout: the session was idle, so no COMMIT was being processed.
_IDLE_TIMEOUTS = ("25P03", "57P05")


def needs_sqlstate(error: Exception) -> bool:
    """Return whether the text of a failed attempt to connect is unrecognised, so only the SQLSTATE can classify it."""
    return isinstance(error, psycopg.Error) and error.sqlstate is None and _class_by_text(error) is None


def connect_failure(
    failures: Sequence[psycopg.Error | UnicodeError], *, where: str
) -> errors.RegistrationPersistenceError:
    """Return the error of this package for a failed attempt to connect; its cause is a copy of the deciding failure.

    The traceback of a failure and its connection hold the password, so the result refers to neither.

    Args:
        failures: The failure at each address of the host: errors of psycopg, or of the encoding of its arguments.
        where: Database, host and port, for the message.
    """
    known = [failure for failure in failures if isinstance(failure, psycopg.Error)]
    if not known:  # the text of a UnicodeError quotes the value
        return errors.ConnectionRejected(
            f"cannot connect to {where}: host, user or password cannot be encoded as UTF-8: correct the settings"
        )
    deciding = min(known, key=lambda failure: _DECIDING_ORDER.index(_connect_failure_class(failure)))
    texts = dict.fromkeys(_printable(" ".join(str(failure).split())) for failure in known)
    meaning = _connect_failure_class(deciding)(f"cannot connect to {where}: {'; '.join(texts)}")
    # A copy, because psycopg's own error refers to the connection and its parameters.
    meaning.__cause__ = type(deciding)(str(deciding))
    return meaning


def is_read_only_server(error: errors.RegistrationPersistenceError) -> bool:
    """Return whether connecting failed with *error* because the server accepts no writes; the text is libpq's own."""
    return isinstance(error, errors.DatabaseUnavailable) and "session is read-only" in str(error.__cause__)


def _printable(text: str) -> str:
    """Return *text* without control characters: a server that is not authenticated may have sent it."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _connect_failure_class(error: psycopg.Error) -> type[errors.RegistrationPersistenceError]:
    state = error.sqlstate or ""
    by_state = _CONNECT_FAILURES_BY_SQLSTATE.get(state) or _CONNECT_FAILURES_BY_SQLSTATE.get(state[:2])
    return _class_by_text(error) or by_state or errors.DatabaseUnavailable


def _class_by_text(error: psycopg.Error) -> type[errors.RegistrationPersistenceError] | None:
    message = _QUOTED_NAMES.sub("", str(error))
    return next((meaning for pattern, meaning in _CONNECT_FAILURES_BY_TEXT if pattern.search(message)), None)


def statement_failure(
    error: psycopg.Error, *, lost: bool, committing: bool, read_only: bool, autocommit: bool = False
) -> errors.RegistrationPersistenceError | None:
    """Return the error of this package for a failed statement; `None` if psycopg's error is to be raised.

    Args:
        error: The error of psycopg.
        lost: Whether the connection is unusable.
        committing: Whether COMMIT may have been sent.
        read_only: Whether the service itself made the transaction read-only.
        autocommit: Whether each statement commits in its own transaction. Defaults to false.
    """
    meaning = _STATEMENT_FAILURES.get(error.sqlstate or "")
    if is_stale_statement(error):
        meaning = errors.TransactionConflict
    if meaning is errors.WriterMoved and read_only:
        return None
    is_refused = is_refused_by_pooler(error)
    if is_refused or (meaning is None and (lost or (error.sqlstate or "").startswith("08"))):
        meaning = errors.ConnectionLost
    if meaning is errors.ConnectionLost and committing and not is_refused and error.sqlstate not in _IDLE_TIMEOUTS:
        meaning = errors.CommitOutcomeUnknown
    if meaning is None:
        return None
    before, after = _EXPLANATIONS.get(meaning, ("", ""))
    if meaning is errors.ConnectionLost and autocommit:
        before = "the connection was lost, and nothing of this statement was kept: "
    return meaning(f"{before}{' '.join(str(error).split())} (SQLSTATE {error.sqlstate or 'unknown'}){after}")


def is_lost(error: psycopg.Error, connection: Any) -> bool:
    """Return whether *connection* is unusable after *error*.

    psycopg can notice a broken socket before libpq, which then reports the connection as neither closed nor broken.
    """
    broken = isinstance(error, psycopg.OperationalError) and (connection.closed or connection.broken)
    return bool(broken or connection.info.transaction_status == pq.TransactionStatus.ACTIVE)


def is_refused_by_pooler(error: psycopg.Error) -> bool:
    """Return whether a pooler ended the connection instead of passing a statement on, so the server never got it.

    Each error of the server names a function in its source, also one that a trigger raises with the same text.
    """
    text = error.diag.message_primary or ""
    return error.diag.source_function is None and _REFUSED_BY_POOLER.match(text) is not None


def is_stale_statement(error: psycopg.Error) -> bool:
    """Return whether *error* says that the server does not accept a statement that psycopg has prepared.

    Neither the name of the function in the server nor the name of the statement is translated.
    """
    if error.sqlstate == _FEATURE_NOT_SUPPORTED:
        return error.diag.source_function == _RESULT_TYPE_CHECK
    return error.sqlstate in _STATEMENT_NAME_ERRORS and _NAME_PREFIX in str(error)
