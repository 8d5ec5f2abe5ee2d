"""What the integration tests share: a session's repository, rows read as the server holds them, sign-ups."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from support import TERMS, Rows, SignUp

from registration_persistence import Database, Registered, Registration, RegistrationRepository, Verified


@pytest.fixture
def registrations(database: Database) -> Iterator[RegistrationRepository]:
    """A repository whose every call commits by itself."""
    with database.session(autocommit=True) as session:
        yield RegistrationRepository(session)


@pytest.fixture
def rows(database: Database) -> Rows:
    """What a query finds, as dictionaries, through a connection of its own."""

    def read(sql: str) -> list[dict[str, Any]]:
        with database.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql)).mappings()]

    return read


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
        outcome = RegistrationRepository(session).verify_by_token(sign_up().secret)
    assert isinstance(outcome, Verified)
    return outcome.registration
