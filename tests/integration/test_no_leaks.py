"""Nothing leaks: no password, token, mailbox or profile is in a log line, a `repr`, an error or a traceback."""

import logging
import pickle
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from support import LambdaEnvironment

from registration_persistence import (
    Consent,
    ConsentRepository,
    Database,
    DatabaseSettings,
    EventRepository,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    RegistrationPersistenceError,
    RegistrationRepository,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.outcomes import Issued, Registered, Verified

MAILBOX = "ada.lovelace@example.com"
NAME = "Augusta Ada King"
PASSWORD = "correct-horse-battery-staple"
PEPPER = "pepper-of-the-registration-codes"


@pytest.fixture
def debug_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The captured log, with every logger of this process at DEBUG."""
    caplog.set_level(logging.DEBUG)
    for name in ("registration_persistence", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg", "alembic"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def error_report(error: BaseException) -> str:
    """Return the chain of errors as an error tracker would send it, with the local variables of all frames but ours."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    pieces: list[str] = []
    link: traceback.TracebackException | None = report
    while link is not None:
        pieces += link.format_exception_only()
        for frame in link.stack:
            if frame.filename != __file__:
                pieces += [frame.name, str(frame.locals)]
        link = link.__cause__ or link.__context__
    return "".join(pieces) + repr(error)


def assert_no_leak(output: str, *secrets: str) -> None:
    """Assert that *output* contains none of *secrets*, in upper or lower case."""
    for secret in secrets:
        assert secret.lower() not in output.lower(), f"{secret!r} was leaked"


def test_logs_and_results_of_every_method_leak_nothing(
    lambda_environment: LambdaEnvironment, debug_log: pytest.LogCaptureFixture
) -> None:
    """Every method is called with all loggers at DEBUG."""
    lambda_environment.server.create_login(lambda_environment.username, PASSWORD)
    lambda_environment.store({"username": lambda_environment.username, "password": PASSWORD})
    debug_log.clear()  # LocalSecretsManager has logged the call that stores the secret
    database = Database(DatabaseSettings.from_env())
    with database.session() as session:
        peppers = Peppers({1: PEPPER.encode()})
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session, peppers=peppers)
        consents, outbox, privacy = ConsentRepository(session), OutboxRepository(session), PrivacyRepository(session)
        arguments: dict[str, Any] = {
            "profile": {"name": NAME},
            "consents": [Consent("terms", "1")],
            "idempotency_key": "key-of-ada",
        }
        made, other = registrations.register(MAILBOX, **arguments), registrations.register(f"also.{MAILBOX}")
        assert isinstance(made, Registered)
        ada, also = made.registration.id, other.registration.id
        issued = verification.issue_code(also, min_gap=timedelta(0))
        assert isinstance(issued, Issued)
        results = [
            peppers,
            made,
            registrations.register(MAILBOX, **arguments),
            verification.peek_token(made.token),
            verification.verify_by_token(made.token),
            registrations.activate(ada),
            registrations.find_by_email(MAILBOX),
            registrations.list_page(),
            issued,
            verification.issue_token(also),
            verification.verify_by_code(also, issued.secret),
            registrations.update_profile(also, {"name": NAME}),
            bulk_import(session, [ImportRow(f"further.{MAILBOX}", profile={"name": NAME}), ImportRow(NAME)]),
            consents.record(ada, [Consent("newsletter", "1")]),
            consents.history(ada),
            EventRepository(session).list_events(ada),
            outbox.claim(),
            privacy.ids_by_email(MAILBOX),
            privacy.erase(ada),
        ]
        held = privacy.export_subject(also)
    database.dispose()

    secrets = [MAILBOX, NAME, made.token, PEPPER, f"'{issued.secret}'"]
    assert held["registration"]["email"] == f"also.{MAILBOX}"
    assert_no_leak(repr(results), *secrets)
    assert_no_leak(repr([database, database.settings, database.credentials, database.engine]), PASSWORD)
    assert debug_log.records
    assert_no_leak(debug_log.text, *secrets, PASSWORD, "key-of-ada")
    assert_no_leak(str([record.__dict__ for record in debug_log.records]), *secrets, PASSWORD)


Failure = Callable[[RegistrationRepository, str], object]


@pytest.mark.parametrize(
    ("damage", "failure"),
    [
        ("ALTER TABLE registrations RENAME TO gone", lambda r, _: r.register(MAILBOX, profile={"name": NAME})),
        ("ALTER TABLE registrations RENAME TO gone", lambda r, _: r.find_by_email(MAILBOX)),
        (
            "ALTER TABLE registrations RENAME TO gone",
            lambda r, token: VerificationRepository(r._session).verify_by_token(token),
        ),
        (
            "ALTER TABLE registrations RENAME TO gone",
            lambda r, token: VerificationRepository(r._session).peek_token(token),
        ),
        (
            "ALTER TABLE registrations ADD CONSTRAINT narrow CHECK (octet_length(email) < 3) NOT VALID",
            lambda r, _: r.register(MAILBOX, profile={"name": NAME}),
        ),
        (
            "ALTER TABLE registrations ADD CONSTRAINT narrow CHECK (version < 2) NOT VALID",
            lambda r, token: VerificationRepository(r._session).verify_by_token(token),
        ),
        ("ALTER TABLE registrations RENAME TO gone", lambda r, _: r.update_profile(uuid4(), {"name": NAME})),
        ("ALTER TABLE registrations RENAME TO gone", lambda r, _: PrivacyRepository(r._session).ids_by_email(MAILBOX)),
        ("ALTER TABLE registrations RENAME TO gone", lambda r, _: bulk_import(r._session, [ImportRow(MAILBOX)])),
        (
            "ALTER TABLE registrations ADD CONSTRAINT narrow CHECK (octet_length(email) < 3) NOT VALID",
            lambda r, _: bulk_import(r._session, [ImportRow(MAILBOX, profile={"name": NAME})]),
        ),
        ("SELECT 1", lambda r, _: r.register(MAILBOX + "@" + MAILBOX, profile={"name": NAME})),
        ("SELECT 1", lambda r, _: r.update_profile(uuid4(), {"name": NAME * 1000})),
        ("SELECT 1", lambda r, _: r.register(MAILBOX, profile={"name": NAME + "\0"})),
        ("SELECT 1", lambda r, _: r.register(MAILBOX, profile={"name": NAME * 1000})),
        ("SELECT 1", lambda r, _: r.register(MAILBOX, profile={"name": NAME}, idempotency_key="taken")),
    ],
)
def test_errors_leak_nothing(
    database: Database, debug_log: pytest.LogCaptureFixture, damage: str, failure: Failure
) -> None:
    """A missing table, a CHECK whose DETAIL quotes the row, and invalid input raise errors without personal data."""
    with database.session() as session:
        registrations = RegistrationRepository(session)
        registrations.register("eve@example.com", idempotency_key="taken")
        made = registrations.register(MAILBOX, profile={"name": NAME})
        assert isinstance(made, Registered)
        session.execute(text(damage))

    with pytest.raises((RegistrationPersistenceError, SQLAlchemyError)) as raised, database.session() as session:
        failure(RegistrationRepository(session), made.token)

    assert_no_leak(error_report(raised.value), MAILBOX, NAME, made.token)
    assert_no_leak(debug_log.text, MAILBOX, NAME, made.token)


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_error_of_a_lost_connection_leaks_nothing(database: Database, *, autocommit: bool) -> None:
    """It shows neither the parameters of the statement nor the password."""
    with pytest.raises(RegistrationPersistenceError) as raised, database.session(autocommit=autocommit) as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        with database.engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        RegistrationRepository(session).register(MAILBOX, profile={"name": NAME})

    assert_no_leak(error_report(raised.value), MAILBOX, NAME, str(database.settings.password))


def test_a_rejected_login_does_not_leak_the_password(
    lambda_environment: LambdaEnvironment,
    debug_log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the error, nor its frames, nor the logs contain the rejected password."""
    monkeypatch.setenv("APP_DATABASE_CONNECT_TIMEOUT", "2")
    lambda_environment.store({"username": lambda_environment.username, "password": PASSWORD})
    debug_log.clear()
    database = Database(DatabaseSettings.from_env())

    with pytest.raises(Exception, match="password authentication failed") as raised:
        database.ping()

    cause = raised.value.__cause__
    assert isinstance(cause, psycopg.OperationalError)
    assert_no_leak(error_report(raised.value), PASSWORD)
    assert_no_leak(repr([getattr(cause, name) for name in dir(cause)]), PASSWORD)
    assert_no_leak(debug_log.text, PASSWORD)


def test_the_redaction_does_not_prevent_verification(database: Database) -> None:
    """Tokens are hidden from tracebacks, and can still be verified."""
    with database.session() as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session)
        made = registrations.register(MAILBOX)
        assert isinstance(made, Registered)
        assert isinstance(verification.verify_by_token(made.token), Verified)


def test_the_error_of_a_violated_constraint_has_no_parameters(database: Database) -> None:
    """SQLAlchemy's own errors, also if pickled, hold neither the mailbox nor the profile."""
    with database.session() as session:
        session.execute(text("ALTER TABLE outbox ADD CONSTRAINT ck_outbox_nothing CHECK (false) NOT VALID"))

    with pytest.raises(IntegrityError) as raised, database.session() as session:
        RegistrationRepository(session).register(MAILBOX, profile={"name": NAME})

    assert raised.value.params is None
    assert MAILBOX.encode() not in pickle.dumps(raised.value)
