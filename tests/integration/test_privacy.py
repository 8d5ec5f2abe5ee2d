"""No password, token, mailbox or profile in a log line, a `repr`, an error or a traceback, local variables included."""

import base64
import hashlib
import logging
import os
import pickle
import shutil
import subprocess
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support import LambdaEnvironment, Rows, SignUp

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
    RegistrationRepository,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.domain.email import normalise_email
from registration_persistence.outcomes import Cancelled, Issued, Registered, Verified, WrongCode
from registration_persistence.sandbox import embedded_binaries
from registration_persistence.testing import skip_or_fail

MAILBOX = "ada.lovelace@example.com"
NAME = "Augusta Ada King"
PASSWORD = "correct-horse-battery-staple"
PEPPER = "pepper-of-the-registration-codes"


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
    assert_silent(repr(results), *secrets)
    assert_silent(repr([database, database.settings, database.credentials, database.engine]), PASSWORD)
    assert everything_logged.records
    assert_silent(everything_logged.text, *secrets, PASSWORD, "key-of-ada")
    assert_silent(str([record.__dict__ for record in everything_logged.records]), *secrets, PASSWORD)


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
        failure(RegistrationRepository(session), made.token)

    assert_silent(written(raised.value), MAILBOX, NAME, made.token)
    assert_silent(everything_logged.text, MAILBOX, NAME, made.token)


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
    lambda_environment: LambdaEnvironment,
    everything_logged: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither error, frames nor logs hold the password that was refused."""
    monkeypatch.setenv("APP_DATABASE_CONNECT_TIMEOUT", "2")
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
        verification = VerificationRepository(session)
        made = registrations.register(MAILBOX)
        assert isinstance(made, Registered)
        assert isinstance(verification.verify_by_token(made.token), Verified)


TYPED = "Ada.Lovelace@Bücher.example"
SPELLINGS = (TYPED, normalise_email(TYPED).key, TYPED.upper(), TYPED.lower())
FORMS = {
    form
    for spelling in (part for address in SPELLINGS for part in (address, *address.split("@")))
    for form in (
        spelling,
        spelling.encode().hex(),
        base64.b64encode(spelling.encode()).decode(),
        hashlib.sha256(spelling.encode()).hexdigest(),
    )
}


@pytest.fixture
def read_all(database: Database, rows: Rows) -> Callable[[], tuple[str, str]]:
    """Reads what `pg_dump` writes of the database, and every row of every table as text; octets are hex in both."""
    own = embedded_binaries() / "pg_dump"
    program = own if own.exists() else shutil.which("pg_dump")
    if program is None:
        skip_or_fail("there is no pg_dump: install the package postgresql-client")
    settings = database.settings

    def read() -> tuple[str, str]:
        dump = subprocess.run(
            [program, "-h", settings.host, "-p", str(settings.port), "-U", str(settings.user), "-d", settings.name],
            env={**os.environ, "PGPASSWORD": str(settings.password)},
            capture_output=True,
            check=True,
            text=True,
        )
        tables = [row["name"] for row in rows("SELECT relname AS name FROM pg_stat_user_tables")]
        lines = [row["line"] for table in tables for row in rows(f"SELECT t::text AS line FROM {table} t")]
        return dump.stdout, "\n".join(lines)

    return read


def forms_in(written: str) -> set[str]:
    """The forms of the address that are in *written*, in whatever case."""
    folded = written.lower()
    return {form for form in FORMS if form.lower() in folded}


def test_an_erasure_leaves_nothing_of_the_address(
    database: Database, sign_up: SignUp, read_all: Callable[[], tuple[str, str]]
) -> None:
    """The database holds an address in no form once every registration of its mailbox has been erased."""
    with database.session(autocommit=True) as session:
        registrations = RegistrationRepository(session)
        verification = VerificationRepository(session, peppers=Peppers({1: PEPPER.encode()}))
        outbox, privacy = OutboxRepository(session), PrivacyRepository(session)
        ada = sign_up(TYPED, profile={"forms": sorted(FORMS)}, idempotency_key=TYPED).registration.id
        cancelled = sign_up(TYPED.lower(), profile={TYPED: 1}, idempotency_key=TYPED.lower()).registration.id
        verification.issue_token(ada, min_gap=timedelta(0))
        issued = verification.issue_code(ada, min_gap=timedelta(0))
        assert isinstance(issued, Issued)
        assert isinstance(verification.verify_by_code(ada, "nonsense"), WrongCode)
        assert isinstance(verification.verify_by_code(ada, issued.secret), Verified)
        assert isinstance(registrations.cancel(cancelled), Cancelled)
        registrations.update_profile(ada, {TYPED: TYPED})
        ConsentRepository(session).record(ada, [Consent("newsletter", "1")])
        bulk_import(session, [ImportRow(TYPED, "pending", idempotency_key=TYPED.upper())])
        for message in outbox.claim():
            outbox.retry(message, "smtp:550", timedelta(minutes=1))
        before = read_all()

        everything = privacy.ids_by_email(TYPED)
        for registration_id in everything:
            privacy.erase(registration_id)
        after = read_all()

    assert len(everything) == 3
    assert [FORMS, FORMS] == [forms_in(written) for written in before], "the search finds what is there"
    assert [set(), set()] == [forms_in(written) for written in after]
    assert [True, True] == [str(ada) in written and "smtp:550" in written for written in after]


def test_the_error_of_a_broken_rule_keeps_no_parameters(database: Database) -> None:
    """What an error tracker reads of SQLAlchemy's own errors, pickles included, holds neither mailbox nor profile."""
    with database.session() as session:
        session.execute(text("ALTER TABLE outbox ADD CONSTRAINT ck_outbox_nothing CHECK (false) NOT VALID"))

    with pytest.raises(IntegrityError) as raised, database.session() as session:
        RegistrationRepository(session).register(MAILBOX, profile={"name": NAME})

    assert raised.value.params is None
    assert MAILBOX.encode() not in pickle.dumps(raised.value)
