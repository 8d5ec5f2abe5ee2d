"""What an attempt to connect that failed means, by what libpq and the server said."""

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
    ("said", "meaning"),
    [
        (AT + 'FATAL:  password authentication failed for user "app"', CredentialsRejected),
        (AT + "FATAL:  sorry, too many clients already", TooManyConnections),
        (AT + f"FATAL:  {SLOTS}", TooManyConnections),
        (AT + "FATAL:  the database system is starting up", DatabaseUnavailable),
        (AT + "session is read-only", DatabaseUnavailable),
        (AT + "Connection refused\n\tIs the server running on that host?", DatabaseUnavailable),
        (AT + "SSL SYSCALL error: Connection reset by peer", DatabaseUnavailable),
        (AT + "SSL error: unexpected eof while reading", DatabaseUnavailable),
        ("connection timeout expired", DatabaseUnavailable),
        ("failed to resolve host 'db.example': [Errno -2] Name or service not known", DatabaseUnavailable),
        ("failed to resolve host 'certificate.example': [Errno -2] Name or service not known", DatabaseUnavailable),
        (AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.8", user "app", no encryption', ConnectionRejected),
        (AT + "SSL error: certificate verify failed", ConnectionRejected),
        (AT + 'server certificate for "a.example" does not match host name "b.example"', ConnectionRejected),
        (AT + 'FATAL:  database "registration" does not exist', ConnectionRejected),
        (AT + 'FATAL:  invalid value for parameter "TimeZone": "Mars"', ConnectionRejected),
    ],
)
def test_what_a_failed_connect_means(said: str, meaning: type[RegistrationPersistenceError]) -> None:
    """The class decides whether to try again; names that are quoted do not count, and the text is one line."""
    error = psycopg.OperationalError(said)

    failure = connect_failure(error, where="registration at db:5432")

    assert (meaning, psycopg.OperationalError, said) == (type(failure), type(failure.__cause__), str(failure.__cause__))
    assert getattr(failure.__cause__, "pgconn", None) is None
    assert str(failure).startswith("cannot connect to registration at db:5432: ")
    assert "\n" not in str(failure)
    assert not needs_sqlstate(error)


def test_what_cannot_be_encoded_is_not_quoted() -> None:
    """A password with a lone surrogate is refused without showing it."""
    error = UnicodeEncodeError("utf-8", "hunter2\ud800", 7, 8, "surrogates not allowed")

    failure = connect_failure(error, where="registration at db:5432")

    assert isinstance(failure, ConnectionRejected)
    assert failure.__cause__ is None
    assert "hunter2" not in str(failure)
    assert not needs_sqlstate(error)


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("28P01", CredentialsRejected),
        ("28000", ConnectionRejected),
        ("53300", TooManyConnections),
        ("57P03", DatabaseUnavailable),
        ("3D000", ConnectionRejected),
        ("42501", ConnectionRejected),
        (None, DatabaseUnavailable),
    ],
)
def test_in_another_language_the_sqlstate_decides(
    state: str | None, meaning: type[RegistrationPersistenceError]
) -> None:
    """A text that is not known is asked for its SQLSTATE, and without one counts as something that may pass."""
    error = psycopg.OperationalError(AT + "FATAL:  Hier steht etwas anderes")
    assert needs_sqlstate(error)

    error.sqlstate = state

    assert meaning is type(connect_failure(error, where="registration at db:5432"))
