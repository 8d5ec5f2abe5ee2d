"""No span, event or metric holds data of a person, a token or a password, whatever the input is."""

import dataclasses
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from otlp_collector import Sdk
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import untyped

from registration_persistence import (
    Consent,
    ConsentRepository,
    Credentials,
    Database,
    DatabaseSettings,
    EventRepository,
    ImportRow,
    OutboxRepository,
    Peppers,
    PrivacyRepository,
    RegistrationRepository,
    Retention,
    StaticCredentials,
    VerificationRepository,
    bulk_import,
)
from registration_persistence.telemetry import opentelemetry

SECRET = "hunter2-lovelace"
MAILBOX = f"{SECRET}@example.com"
REPOSITORIES: list[Callable[[Session], Any]] = [
    RegistrationRepository,
    lambda session: VerificationRepository(session, peppers=Peppers({1: b"p" * 32})),
    ConsentRepository,
    EventRepository,
    OutboxRepository,
    Retention,
    PrivacyRepository,
]
HOSTILE: list[Any] = [
    SECRET,
    MAILBOX,
    f"{MAILBOX}\0",
    f"'; DROP TABLE x; -- {MAILBOX}",
    f"{SECRET * 100}@example.com",
    {SECRET: MAILBOX},
    [Consent(SECRET, MAILBOX)],
    [ImportRow(MAILBOX, profile={"name": SECRET})],
]
# A row that breaks a constraint; the server quotes it in its answer.
BROKEN = "INSERT INTO registrations (id, email, email_key) VALUES (gen_random_uuid(), :email, :email)"


def _live(session: Session, secrets: set[str]) -> None:
    """Sign up, verify, change, import and erase."""
    registered = untyped(RegistrationRepository(session).register(MAILBOX, profile={"name": SECRET}))
    secrets.add(registered.token)
    identity = registered.registration.id
    VerificationRepository(session).verify_by_token(registered.token)
    RegistrationRepository(session).update_profile(identity, {"city": SECRET})
    RegistrationRepository(session).find_by_email(MAILBOX)
    bulk_import(session, [ImportRow(f"another-{MAILBOX}", profile={"name": SECRET})])
    PrivacyRepository(session).export_subject(identity)
    PrivacyRepository(session).erase(identity)


def _call(repository: Callable[[Session], Any], name: str, value: object, session: Session) -> object:
    return getattr(repository(session), name)(value)


def _misuse(database: Database) -> None:
    """Call every method of every repository with each hostile value."""
    for repository in REPOSITORIES:
        names = [name for name, _ in inspect.getmembers(repository(Session()), inspect.ismethod) if name[0] != "_"]
        for name in names:
            for value in HOSTILE:
                with suppress(Exception):
                    database.run(partial(_call, repository, name, value))


@pytest.mark.usefixtures("psycopg_spans")
def test_no_data_of_a_person_reaches_the_collector(database_settings: DatabaseSettings, sdk: Sdk) -> None:
    """Every method with valid and hostile inputs, failing statements, and a wrong password, beside other spans."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    opentelemetry.instrument(database)
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(engine=database.engine, tracer_provider=sdk.tracer_provider, skip_dep_check=True)
    secrets = {SECRET}
    try:
        database.run(lambda session: _live(session, secrets))
        _misuse(database)
        with pytest.raises(Exception, match="null value") as raised:
            database.run(lambda session: session.execute(text(BROKEN), {"email": MAILBOX}))
        assert SECRET not in str(raised.value)
        with pytest.raises(ValueError, match=SECRET), database.session():
            raise ValueError(MAILBOX)
        wrong = Database(
            dataclasses.replace(database_settings, connect_timeout=2), StaticCredentials(Credentials("app", SECRET))
        )
        opentelemetry.instrument(wrong)
        with pytest.raises(Exception, match="refused the login"):
            wrong.run(lambda session: session.execute(text("SELECT 1")))
    finally:
        instrumentor.uninstrument()
        database.dispose()

    sdk.flush()
    assert len(sdk.collector.spans()) > 400
    everything = "".join(sdk.collector.bodies)
    assert len(secrets) == 2
    assert [] == _around(everything, secrets)


def _around(everything: str, secrets: set[str]) -> list[str]:
    """Return the text around the first occurrence of each secret."""
    places = [everything.find(secret) for secret in secrets]
    return [everything[max(place - 300, 0) : place + 100] for place in places if place >= 0]
