"""What the integration tests share: a session's repository, rows read as the server holds them, sign-ups."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import TERMS, Change, LambdaEnvironment, Rows, SignUp

from registration_persistence import (
    Database,
    DatabaseSettings,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    VerificationRepository,
    get_db,
)
from registration_persistence.database import process
from registration_persistence.outcomes import Registered, Verified
from registration_persistence.sandbox import LocalSecretsManager, PostgresServer
from registration_persistence.testing import RoundTripCounter
from registration_persistence.testing.plugin import LOGIN


@pytest.fixture
def autocommit_session(database: Database) -> Iterator[Session]:
    """A session whose every statement commits by itself."""
    with database.session(autocommit=True) as session:
        yield session


@pytest.fixture
def registrations(autocommit_session: Session) -> RegistrationRepository:
    """A repository of registrations whose every call commits by itself."""
    return RegistrationRepository(autocommit_session)


@pytest.fixture
def verification(autocommit_session: Session) -> VerificationRepository:
    """A repository of tokens and codes whose every call commits by itself."""
    return VerificationRepository(autocommit_session)


@pytest.fixture
def privacy(autocommit_session: Session) -> PrivacyRepository:
    """A repository that erases and exports, whose every call commits by itself."""
    return PrivacyRepository(autocommit_session)


@pytest.fixture
def wire(database_settings: DatabaseSettings) -> Iterator[RoundTripCounter]:
    """A counter of the round trips to the server, between it and the client."""
    with RoundTripCounter(database_settings.host, database_settings.port) as counter:
        yield counter


@pytest.fixture
def rows(database: Database) -> Rows:
    """What a query finds, as dictionaries, through a connection of its own."""

    def read(sql: str) -> list[dict[str, Any]]:
        with database.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql)).mappings()]

    return read


@pytest.fixture
def change(database: Database) -> Change:
    """Changes the database behind the repositories' backs."""

    def execute(sql: str) -> None:
        with database.session() as session:
            session.connection().exec_driver_sql(sql)

    return execute


@pytest.fixture
def sign_up(database: Database) -> SignUp:
    """Registers somebody, with consent to the terms."""

    def register(email: str = "ada@example.com", **arguments: Any) -> Registered:
        with database.session(autocommit=True) as session:
            outcome = RegistrationRepository(session).register(email, consents=[TERMS], **arguments)
        assert isinstance(outcome, Registered)
        return outcome

    return register


@pytest.fixture
def verified(database: Database, sign_up: SignUp) -> Registration:
    """A registration whose mailbox is proven."""
    with database.session(autocommit=True) as session:
        outcome = VerificationRepository(session).verify_by_token(sign_up().token)
    assert isinstance(outcome, Verified)
    return outcome.registration


@pytest.fixture
def lambda_environment(
    postgres_server: PostgresServer,
    database_settings: DatabaseSettings,
    secrets_manager: LocalSecretsManager,
    monkeypatch: pytest.MonkeyPatch,
) -> LambdaEnvironment:
    """What a Lambda named `sign-up`, version 7, finds when it starts; the login is the test's own."""
    username, password = f"lambda_{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    postgres_server.create_login(username, password)
    with postgres_server.connect() as connection:
        connection.execute(f"GRANT {LOGIN} TO {username}")
    arn = secrets_manager.create(f"registration/{username}", {"username": username, "password": password})
    for name, value in {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": database_settings.host,
        "APP_DATABASE_PORT": str(database_settings.port),
        "APP_DATABASE_NAME": database_settings.name,
        "APP_DATABASE_SECRET_ARN": arn,
        "APP_DATABASE_SSLMODE": "prefer",
        "AWS_LAMBDA_FUNCTION_NAME": "sign-up",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
    }.items():
        monkeypatch.setenv(name, value)
    return LambdaEnvironment(secrets_manager, postgres_server, arn, username)


@pytest.fixture
def fresh_process(monkeypatch: pytest.MonkeyPatch, lambda_environment: LambdaEnvironment) -> Iterator[None]:
    """The process as a Lambda's is at its start."""
    monkeypatch.setattr(process, "_this_process", process._ThisProcess())
    assert lambda_environment.arn
    yield
    get_db().dispose()
