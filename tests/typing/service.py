"""The code of a service, which is type-checked and never executed."""

from dataclasses import replace
from datetime import timedelta
from typing import assert_never, assert_type
from uuid import UUID

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from registration_persistence import (
    Consent,
    Credentials,
    CredentialSource,
    Database,
    DatabaseSettings,
    Registration,
    RegistrationRepository,
    StaticCredentials,
    VerificationRepository,
    deadline,
    get_db,
    get_engine,
    session_scope,
)
from registration_persistence.outcomes import (
    AlreadyVerified,
    Cancelled,
    EmailTaken,
    Page,
    Registered,
    Replayed,
    TokenExpired,
    TokenUnknown,
    TooManyPending,
    Verified,
)


def sign_up(email: str) -> str | None:
    """Every outcome of `register` is handled."""
    with session_scope(autocommit=True) as session:
        assert_type(session, Session)
        outcome = RegistrationRepository(session).register(
            email, profile={"name": "Ada"}, consents=[Consent("terms", "2026-01")], idempotency_key="key"
        )
    match outcome:
        case Registered():
            return assert_type(outcome.token, str)
        case Replayed() | TooManyPending():
            return None
        case _:
            assert_never(outcome)


def sign_up_without_session(email: str) -> Registration:
    """A unit of work that is one repository call gets a connection; the others get a session."""

    def single(connection: Connection) -> Registration:
        return RegistrationRepository(connection).register(email).registration

    def several(session: Session) -> Registration:
        return RegistrationRepository(session).register(email).registration

    assert_type(get_db().run(several), Registration)
    return assert_type(get_db().run(single, single=True), Registration)


def verify(token: str) -> UUID | None:
    """Every outcome of `verify_by_token` is handled."""
    with session_scope() as session:
        outcome = VerificationRepository(session).verify_by_token(token)
    match outcome:
        case Verified() | AlreadyVerified():
            return assert_type(outcome.registration.id, UUID)
        case TokenUnknown() | TokenExpired() | EmailTaken():
            return None
        case _:
            assert_never(outcome)


class Vault(CredentialSource):
    """A source of credentials that the service defines."""

    def current(self) -> Credentials:
        """Return the credentials of a vault."""
        return Credentials("app", "secret")


def durations(settings: DatabaseSettings) -> None:
    """A duration is a `timedelta` or a number, and a timeout of the settings reads as seconds."""
    changed = replace(settings, connect_timeout=5, lock_timeout=timedelta(seconds=3))
    assert_type(changed.lock_timeout, float)
    with deadline(timedelta(seconds=3), reserve=timedelta(0)), deadline(2.5):
        get_db().ping()


def everything_else(registrations: RegistrationRepository, registration_id: UUID) -> None:
    """The types of the other methods."""
    source: CredentialSource = Vault()
    assert_type(get_db(), Database)
    assert_type(get_engine(), Engine)
    assert_type(Database(DatabaseSettings.from_env(), source), Database)
    assert_type(Database(DatabaseSettings.from_env(), StaticCredentials(Credentials("a", "b"))), Database)
    assert_type(registrations.activate(registration_id, expected_version=2), Registration)
    assert_type(registrations.cancel(registration_id), Cancelled)
    assert_type(registrations.get(registration_id), Registration | None)
    assert_type(registrations.find_by_email("ada@example.com"), Registration | None)
    assert_type(registrations.list_page(status="pending"), Page)
