"""Fixtures of the integration tests: repositories, rows, sign-ups and the environment of a Lambda."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from outbox_queue import Queue
from races import MAX_THREADS
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TERMS, Change, LambdaEnvironment, Person, Rows, SignUp, login_in_secrets_manager

from registration_persistence import (
    Database,
    DatabaseSettings,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    Retention,
    VerificationRepository,
    get_db,
)
from registration_persistence.database import process
from registration_persistence.outcomes import Registered, Verified
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer
from registration_persistence.testing import RoundTripCounter


@pytest.fixture
def autocommit_session(database: Database) -> Iterator[Session]:
    """A session in autocommit: each statement commits by itself."""
    with database.session(autocommit=True) as session:
        yield session


@pytest.fixture
def registrations(autocommit_session: Session) -> RegistrationRepository:
    """A `RegistrationRepository` in autocommit."""
    return RegistrationRepository(autocommit_session)


@pytest.fixture
def verification(autocommit_session: Session) -> VerificationRepository:
    """A `VerificationRepository` in autocommit."""
    return VerificationRepository(autocommit_session)


@pytest.fixture
def privacy(autocommit_session: Session) -> PrivacyRepository:
    """A `PrivacyRepository` in autocommit."""
    return PrivacyRepository(autocommit_session)


@pytest.fixture
def wire(database_settings: DatabaseSettings) -> Iterator[RoundTripCounter]:
    """A proxy that counts the round trips between client and server."""
    with RoundTripCounter(database_settings.host, database_settings.port) as counter:
        yield counter


@pytest.fixture
def counted(database_settings: DatabaseSettings, wire: RoundTripCounter) -> Iterator[Database]:
    """A database with an open connection through `wire`."""
    settings = dataclasses.replace(
        database_settings, host="127.0.0.1", port=wire.port, sslmode="disable", pool="lambda"
    )
    database = Database(settings)
    database.ping()
    wire.round_trips()
    yield database
    database.dispose()


@pytest.fixture
def rows(database: Database) -> Rows:
    """Return the rows of a query as dictionaries, read through a separate connection."""

    def read(sql: str) -> list[dict[str, Any]]:
        with database.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql)).mappings()]

    return read


@pytest.fixture
def change(database: Database) -> Change:
    """Execute SQL and commit it, without the repositories."""

    def execute(sql: str) -> None:
        with database.session() as session:
            session.connection().exec_driver_sql(sql)

    return execute


@pytest.fixture
def sign_up(database: Database) -> SignUp:
    """Register a person with consent to the terms, in a separate session."""

    def register(email: str = "ada@example.com", **arguments: Any) -> Registered:
        with database.session(autocommit=True) as session:
            outcome = RegistrationRepository(session).register(email, consents=[TERMS], **arguments)
        assert isinstance(outcome, Registered)
        return outcome

    return register


@pytest.fixture
def verified(database: Database, sign_up: SignUp) -> Registration:
    """A registration whose mailbox is verified."""
    with database.session(autocommit=True) as session:
        outcome = VerificationRepository(session).verify_by_token(sign_up().token)
    assert isinstance(outcome, Verified)
    return outcome.registration


@pytest.fixture
def unsent_session() -> Session:
    """A session without a server: any statement would raise an error of SQLAlchemy."""
    return Session()


@pytest.fixture
def person(database: Database, sign_up: SignUp) -> Person:
    """Register a person, and bring the registration to a status; `overdue` is pending and past its `expires_at`."""

    def bring(email: str, status: str) -> Registration:
        made = sign_up(email, profile={"name": "Lovelace"}, idempotency_key=f"key of {email}")
        person_id = made.registration.id
        with database.session() as session:
            registrations = RegistrationRepository(session)
            verification = VerificationRepository(session)
            if status in ("verified", "active"):
                assert isinstance(verification.verify_by_token(made.token), Verified)
            if status == "active":
                registrations.activate(person_id)
            if status == "cancelled":
                registrations.cancel(person_id)
            if status in ("overdue", "expired"):
                session.execute(text("UPDATE registrations SET expires_at = now() WHERE id = :id"), {"id": person_id})
            if status == "expired":
                assert Retention(session).expire_due() == 1
            if status == "erased":
                PrivacyRepository(session).erase(person_id)
            registration = registrations.get(person_id)
        assert registration is not None
        return registration

    return bring


@pytest.fixture
def lambda_environment(
    postgres_server: PostgresServer,
    database_settings: DatabaseSettings,
    secrets_manager: LocalSecretsManager,
    monkeypatch: pytest.MonkeyPatch,
) -> LambdaEnvironment:
    """The environment of version 7 of a Lambda function named `sign-up`, with a login of its own."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "sign-up")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "7")
    return login_in_secrets_manager(postgres_server, database_settings, secrets_manager, monkeypatch)


@pytest.fixture
def fresh_process(monkeypatch: pytest.MonkeyPatch, lambda_environment: LambdaEnvironment) -> Iterator[None]:
    """A process whose `get_db` has not been called, as after the start of a Lambda."""
    monkeypatch.setattr(process, "_this_process", process._ThisProcess())
    assert lambda_environment.arn
    yield
    get_db().dispose()


@pytest.fixture
def queue(database: Database) -> Queue:
    """The outbox of the test's own database."""
    return Queue(database)


@pytest.fixture
def single_connection(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database with one connection, so that a delivery inside a session of the worker would fail."""
    made = Database(dataclasses.replace(database_settings, pool="lambda"))
    yield made
    made.dispose()


@pytest.fixture
def wide(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database with one connection per thread."""
    made = Database(dataclasses.replace(database_settings, pool_size=MAX_THREADS + 1))
    yield made
    made.dispose()
