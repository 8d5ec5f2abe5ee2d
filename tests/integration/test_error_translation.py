"""Errors of the server become errors of the package."""

import dataclasses
from collections.abc import Iterator
from threading import Thread
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support import ADD

from registration_persistence import Database, DatabaseSettings, RegistrationPersistenceError, RegistrationRepository
from registration_persistence.errors import LockTimeout, SchemaOutdated, StatementTimeout, TransactionConflict
from registration_persistence.sandbox import PostgresServer


def test_a_database_without_tables_raises_schema_outdated(database: Database, postgres_server: PostgresServer) -> None:
    """A missing table or column has its own error, which names the command to run."""
    empty = f"empty_{uuid4().hex}"
    postgres_server.create_database(empty, owner=database.settings.user)
    stranger = Database(dataclasses.replace(database.settings, name=empty))
    with pytest.raises(SchemaOutdated, match="does not exist"), stranger.session() as session:
        RegistrationRepository(session).register("ada@example.com")
    stranger.dispose()
    postgres_server.drop_database(empty)


def test_a_failed_commit_is_no_unknown_outcome(database: Database) -> None:
    """A constraint that is checked at COMMIT raises its own error, as the outcome is known."""
    with database.session() as session:
        session.execute(text("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    with pytest.raises(IntegrityError, match="duplicate key"), database.session() as session:
        session.execute(text("INSERT INTO late VALUES (1), (1)"))

    assert database.ping().writable


@pytest.fixture
def short_limits(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database with short time limits."""
    made = Database(dataclasses.replace(database_settings, statement_timeout=0.4, lock_timeout=0.2))
    yield made
    made.dispose()


def test_a_slow_statement_raises_statement_timeout(short_limits: Database) -> None:
    """The server enforces the limit of the settings."""
    with pytest.raises(StatementTimeout) as raised, short_limits.session() as session:
        session.execute(text("SELECT pg_sleep(20)"))

    assert not raised.value.retryable


def test_a_held_lock_raises_lock_timeout(short_limits: Database, database: Database) -> None:
    """The error is retryable."""
    with database.session() as holder:
        holder.execute(text("LOCK TABLE outbox"))
        with pytest.raises(LockTimeout) as raised, short_limits.session() as session:
            session.execute(text(ADD))

    assert raised.value.retryable


def test_a_deadlock_is_retryable(database: Database) -> None:
    """The transaction that the server aborts gets a retryable error."""
    with database.session() as session:
        session.execute(text("CREATE TABLE pair (n int PRIMARY KEY, v int)"))
        session.execute(text("INSERT INTO pair VALUES (1, 0), (2, 0)"))
    outcomes: list[type[Exception] | None] = []

    def cross(first: int, second: int) -> None:
        try:
            with database.session() as session:
                session.execute(text(f"UPDATE pair SET v = v + 1 WHERE n = {first}"))
                session.execute(text("SELECT pg_sleep(0.3)"))
                session.execute(text(f"UPDATE pair SET v = v + 1 WHERE n = {second}"))
            outcomes.append(None)
        except RegistrationPersistenceError as error:
            outcomes.append(type(error))

    threads = [Thread(target=cross, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {None, TransactionConflict} == set(outcomes)


def test_a_violated_constraint_does_not_quote_the_row(database: Database) -> None:
    """DETAIL contains the row, so it is removed from the text of the error and from `diag`."""
    email = "ada@example.com"
    with database.session() as session:
        made = RegistrationRepository(session).register(email).registration
    with pytest.raises(IntegrityError) as raised, database.session() as session:
        session.execute(text("UPDATE registrations SET email_key = upper(email_key) WHERE id = :id"), {"id": made.id})

    assert "ck_registrations_email_key_lower" in str(raised.value)
    assert email not in str(raised.value).lower()
    assert isinstance(raised.value.orig, psycopg.Error)
    assert raised.value.orig.diag.message_detail is None
