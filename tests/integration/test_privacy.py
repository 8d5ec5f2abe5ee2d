"""No password, token, mailbox or profile in a log line, a `repr`, an error or a traceback, local variables included."""

import logging
import traceback
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from support import LambdaEnvironment

from registration_persistence import Consent, Database, DatabaseSettings, Registered, RegistrationRepository, Verified

MAILBOX = "ada.lovelace@example.com"
NAME = "Augusta Ada King"
PASSWORD = "correct-horse-battery-staple"


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger of this process at its chattiest."""
    caplog.set_level(logging.DEBUG)
    for name in ("registration_persistence", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg", "alembic"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def written(error: BaseException) -> str:
    """What an error tracker would send: the chain of errors, each frame of the package and below with its locals."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    pieces: list[str] = []
    link: traceback.TracebackException | None = whole
    while link is not None:
        pieces += link.format_exception_only()
        for frame in link.stack:
            if frame.filename != __file__:
                pieces += [frame.name, str(frame.locals)]
        link = link.__cause__ or link.__context__
    return "".join(pieces) + repr(error)


def assert_silent(said: str, *secrets: str) -> None:
    """*said* contains none of *secrets*, in whatever case."""
    for secret in secrets:
        assert secret.lower() not in said.lower(), f"{secret!r} was given away"


def test_the_whole_way_is_silent(
    lambda_environment: LambdaEnvironment, everything_logged: pytest.LogCaptureFixture
) -> None:
    """Every method, with all loggers at DEBUG, gives nothing away in logs and results."""
    lambda_environment.server.create_login(lambda_environment.username, PASSWORD)
    lambda_environment.store({"username": lambda_environment.username, "password": PASSWORD})
    everything_logged.clear()  # of what storing the secret logged
    database = Database(DatabaseSettings.from_env())
    with database.session() as session:
        registrations = RegistrationRepository(session)
        arguments: dict[str, Any] = {
            "profile": {"name": NAME},
            "consents": [Consent("terms", "1")],
            "idempotency_key": "key-of-ada",
        }
        made = registrations.register(MAILBOX, **arguments)
        assert isinstance(made, Registered)
        results = [
            made,
            registrations.register(MAILBOX, **arguments),
            registrations.peek_token(made.secret),
            registrations.verify_by_token(made.secret),
            registrations.activate(made.registration.id),
            registrations.find_by_email(MAILBOX),
            registrations.list_page(),
        ]
    database.dispose()

    assert_silent(repr(results), MAILBOX, NAME, made.secret)
    assert_silent(repr([database, database.settings, database.credentials, database.engine]), PASSWORD)
    assert everything_logged.records
    assert_silent(everything_logged.text, MAILBOX, NAME, made.secret, PASSWORD, "key-of-ada")
    assert_silent(str([record.__dict__ for record in everything_logged.records]), MAILBOX, NAME, made.secret, PASSWORD)


Failure = Callable[[RegistrationRepository, str], object]


@pytest.mark.parametrize(
    ("sabotage", "failure"),
    [
        ("ALTER TABLE registrations RENAME TO gone", lambda r, _: r.register(MAILBOX, profile={"name": NAME})),
        ("ALTER TABLE registrations RENAME TO gone", lambda r, _: r.find_by_email(MAILBOX)),
        ("ALTER TABLE registrations RENAME TO gone", lambda r, token: r.verify_by_token(token)),
        ("ALTER TABLE registrations RENAME TO gone", lambda r, token: r.peek_token(token)),
        (
            "ALTER TABLE registrations ADD CONSTRAINT narrow CHECK (octet_length(email) < 3) NOT VALID",
            lambda r, _: r.register(MAILBOX, profile={"name": NAME}),
        ),
        (
            "ALTER TABLE registrations ADD CONSTRAINT narrow CHECK (version < 2) NOT VALID",
            lambda r, token: r.verify_by_token(token),
        ),
        ("SELECT 1", lambda r, _: r.register(MAILBOX + "@" + MAILBOX, profile={"name": NAME})),
        ("SELECT 1", lambda r, _: r.register(MAILBOX, profile={"name": NAME + "\0"})),
        ("SELECT 1", lambda r, _: r.register(MAILBOX, profile={"name": NAME * 1000})),
        ("SELECT 1", lambda r, _: r.register(MAILBOX, profile={"name": NAME}, idempotency_key="taken")),
    ],
)
def test_no_failure_gives_anything_away(
    database: Database, everything_logged: pytest.LogCaptureFixture, sabotage: str, failure: Failure
) -> None:
    """A missing table, a broken CHECK whose DETAIL quotes the row, bad input: the error tells what, not who."""
    with database.session() as session:
        registrations = RegistrationRepository(session)
        registrations.register("eve@example.com", idempotency_key="taken")
        made = registrations.register(MAILBOX, profile={"name": NAME})
        assert isinstance(made, Registered)
        session.execute(text(sabotage))

    with pytest.raises(Exception) as raised, database.session() as session:  # noqa: PT011 each failure has its own
        failure(RegistrationRepository(session), made.secret)

    assert_silent(written(raised.value), MAILBOX, NAME, made.secret)
    assert_silent(everything_logged.text, MAILBOX, NAME, made.secret)


@pytest.mark.parametrize("autocommit", [True, False])
def test_no_lost_connection_gives_anything_away(database: Database, *, autocommit: bool) -> None:
    """The error of a connection that broke in the middle shows neither the parameters nor the password."""
    with pytest.raises(Exception) as raised, database.session(autocommit=autocommit) as session:  # noqa: PT011 as above
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        with database.engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        RegistrationRepository(session).register(MAILBOX, profile={"name": NAME})

    assert_silent(written(raised.value), MAILBOX, NAME, str(database.settings.password))


def test_no_refused_login_gives_the_password_away(
    lambda_environment: LambdaEnvironment, everything_logged: pytest.LogCaptureFixture
) -> None:
    """Neither error, frames nor logs hold the password that was refused."""
    lambda_environment.store({"username": lambda_environment.username, "password": PASSWORD})
    everything_logged.clear()
    database = Database(DatabaseSettings.from_env())

    with pytest.raises(Exception, match="password authentication failed") as raised:
        database.ping()

    cause = raised.value.__cause__
    assert isinstance(cause, psycopg.OperationalError)
    assert_silent(written(raised.value), PASSWORD)
    assert_silent(repr([getattr(cause, name) for name in dir(cause)]), PASSWORD)
    assert_silent(everything_logged.text, PASSWORD)


def test_tokens_are_verified_all_the_same(database: Database) -> None:
    """The guard against giving tokens away does not stand in their way."""
    with database.session() as session:
        registrations = RegistrationRepository(session)
        made = registrations.register(MAILBOX)
        assert isinstance(made, Registered)
        assert isinstance(registrations.verify_by_token(made.secret), Verified)
