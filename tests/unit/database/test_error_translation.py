"""The translation of a failed connect, by the messages of libpq and of the server."""

import psycopg
import pytest

from registration_persistence import RegistrationPersistenceError
from registration_persistence.database.error_translation import connect_failure, needs_sqlstate
from registration_persistence.errors import (
    ConnectionRejected,
    CredentialsRejected,
    DatabaseUnavailable,
    TooManyConnections,
)

AT = 'connection failed: connection to server at "10.0.0.7", port 5432 failed: '
SLOTS = "remaining connection slots are reserved for roles with the SUPERUSER attribute"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (AT + 'FATAL:  password authentication failed for user "app"', CredentialsRejected),
        (AT + 'FATAL:  PAM authentication failed for user "app"', CredentialsRejected),
        (AT + 'FATAL:  LDAP authentication failed for user "app"', CredentialsRejected),
        (AT + "FATAL:  The IAM authentication failed for the role app. Check the IAM token", CredentialsRejected),
        (AT + "FATAL:  IAM authentication is allowed only with SSL connections.", ConnectionRejected),
        (AT + "FATAL:  This RDS Proxy has no credentials for the role app. Check them", CredentialsRejected),
        (AT + "FATAL:  The password that was provided for the role app is wrong.", CredentialsRejected),
        (AT + "FATAL:  sorry, too many clients already", TooManyConnections),
        (AT + f"FATAL:  {SLOTS}", TooManyConnections),
        (AT + "FATAL:  no more connections allowed (max_client_conn)", TooManyConnections),
        (AT + "FATAL:  Timed-out waiting to acquire database connection", TooManyConnections),
        (AT + "FATAL:  query_wait_timeout", DatabaseUnavailable),
        (AT + "FATAL:  server login has been failing, try again later (server_login_retry)", DatabaseUnavailable),
        (AT + "FATAL:  client_login_timeout (server down)", DatabaseUnavailable),
        (AT + "FATAL:  pgbouncer cannot connect to server", DatabaseUnavailable),
        (AT + "FATAL:  the database system is starting up", DatabaseUnavailable),
        (AT + "session is read-only", DatabaseUnavailable),
        (AT + "Connection refused\n\tIs the server running on that host?", DatabaseUnavailable),
        (AT + "SSL SYSCALL error: Connection reset by peer", DatabaseUnavailable),
        (AT + "SSL error: unexpected eof while reading", DatabaseUnavailable),
        (AT + "SSL connection has been closed unexpectedly", DatabaseUnavailable),
        (AT + "unrecognized SSL error code: 6", DatabaseUnavailable),
        (AT + "SSL error: tlsv1 alert internal error", DatabaseUnavailable),
        (AT + "SSL error: wrong version number", DatabaseUnavailable),
        (AT + "server sent an error response during SSL exchange", DatabaseUnavailable),
        ("connection timeout expired", DatabaseUnavailable),
        ("failed to resolve host 'db.example': [Errno -2] Name or service not known", DatabaseUnavailable),
        ("failed to resolve host 'certificate.example': [Errno -2] Name or service not known", DatabaseUnavailable),
        (AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.8", user "app", no encryption', ConnectionRejected),
        (AT + "SSL error: certificate verify failed", ConnectionRejected),
        (AT + "SSL error: tlsv1 alert protocol version", ConnectionRejected),
        (AT + "SSL error: no ciphers available", ConnectionRejected),
        (AT + "server does not support SSL, but SSL was required", ConnectionRejected),
        (AT + "FATAL:  This RDS Proxy requires TLS connections", ConnectionRejected),
        (AT + 'server certificate for "a.example" does not match host name "b.example"', ConnectionRejected),
        (AT + 'FATAL:  database "registration" does not exist', ConnectionRejected),
        (AT + 'FATAL:  invalid value for parameter "TimeZone": "Mars"', ConnectionRejected),
    ],
)
def test_a_failed_connect_has_a_class_of_its_own(message: str, expected: type[RegistrationPersistenceError]) -> None:
    """The class decides about another attempt; quoted names are ignored, and the message has one line."""
    error = psycopg.OperationalError(message)

    failure = connect_failure([error], where="registration at db:5432")

    assert (expected, psycopg.OperationalError, message) == (
        type(failure),
        type(failure.__cause__),
        str(failure.__cause__),
    )
    assert getattr(failure.__cause__, "pgconn", None) is None
    assert str(failure).startswith("cannot connect to registration at db:5432: ")
    assert "\n" not in str(failure)
    assert not needs_sqlstate(error)


def test_a_password_that_cannot_be_encoded_is_not_shown() -> None:
    """A password with a lone surrogate is rejected, and the error does not contain it."""
    error = UnicodeEncodeError("utf-8", "hunter2\ud800", 7, 8, "surrogates not allowed")

    failure = connect_failure([error], where="registration at db:5432")

    assert isinstance(failure, ConnectionRejected)
    assert failure.__cause__ is None
    assert "hunter2" not in str(failure)
    assert not needs_sqlstate(error)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("28P01", CredentialsRejected),
        ("28000", ConnectionRejected),
        ("53300", TooManyConnections),
        ("57P03", DatabaseUnavailable),
        ("3D000", ConnectionRejected),
        ("42501", ConnectionRejected),
        ("22023", ConnectionRejected),
        ("0A000", ConnectionRejected),
        (None, DatabaseUnavailable),
    ],
)
def test_an_unknown_message_is_classified_by_its_sqlstate(
    state: str | None, expected: type[RegistrationPersistenceError]
) -> None:
    """If the SQLSTATE is unknown too, the failure counts as temporary."""
    error = psycopg.OperationalError(AT + "FATAL:  ein Text in einer anderen Sprache")
    assert needs_sqlstate(error)

    error.sqlstate = state

    assert expected is type(connect_failure([error], where="registration at db:5432"))


def test_the_failures_at_several_addresses_are_one_error() -> None:
    """A failure that can pass decides before one that cannot, and a rejected login before both; each text is kept."""
    rejected = psycopg.OperationalError(AT + "FATAL: no pg_hba.conf entry")
    unavailable = psycopg.errors.ConnectionTimeout("connection timeout expired")
    login = psycopg.OperationalError(AT + "FATAL: password authentication failed")

    first = connect_failure([rejected, unavailable, unavailable], where="registration at db:5432")
    second = connect_failure([rejected, unavailable, login], where="registration at db:5432")

    assert (DatabaseUnavailable, psycopg.errors.ConnectionTimeout) == (type(first), type(first.__cause__))
    assert f"cannot connect to registration at db:5432: {rejected}; {unavailable}" == str(first)
    assert CredentialsRejected is type(second)
