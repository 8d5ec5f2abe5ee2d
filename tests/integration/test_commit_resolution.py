"""A reply to COMMIT, or to a statement in autocommit, is lost: the evidence shows whether the work was kept."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import ForeignKey, Identity, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from support import (
    ADD,
    TERMS,
    OneLossProxy,
    Rows,
    added,
    create_slow_table,
    losing_database,
    terminate_backend,
    untyped,
)

from registration_persistence import (
    ConsentRepository,
    Database,
    DatabaseSettings,
    EventRepository,
    Peppers,
    PrivacyRepository,
    Registration,
    RegistrationRepository,
    VerificationRepository,
    deadline,
)
from registration_persistence.clock import monotonic
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.database.dialect import AuroraDialect
from registration_persistence.database.events import DatabaseEvent
from registration_persistence.database.lost_commit import LostCommit, lost_transaction
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost, LockTimeout
from registration_persistence.outcomes import Issued, Registered, Replayed, TokenUsable, TooManyPending, Verified
from registration_persistence.sandbox import PostgresServer, wait_until

PEPPERS = Peppers({1: b"p" * 32})

Losing = tuple[Database, OneLossProxy]


@pytest.fixture
def losing(database_settings: DatabaseSettings) -> Iterator[Losing]:
    """A database with an open connection, behind a proxy that can lose one reply."""
    with losing_database(database_settings) as (database, proxy):
        database.ping()
        yield database, proxy


def register(session: Session) -> Registered:
    """Register Ada without an idempotency key."""
    outcome = RegistrationRepository(session).register("ada@example.com", consents=[TERMS])
    assert isinstance(outcome, Registered)
    return outcome


def _verified(session: Session) -> Registration:
    outcome = VerificationRepository(session).verify_by_token(register(session).token)
    assert isinstance(outcome, Verified)
    return outcome.registration


def _code(session: Session) -> tuple[Registration, str]:
    registration = register(session).registration
    issued = VerificationRepository(session, peppers=PEPPERS).issue_code(registration.id, min_gap=0)
    assert isinstance(issued, Issued)
    return registration, issued.secret


Change = Callable[[Session], Any]


def _activate(session: Session) -> Change:
    identity = _verified(session).id
    return lambda later: RegistrationRepository(later).activate(identity)


def _verify_by_token(session: Session) -> Change:
    token = register(session).token
    return lambda later: VerificationRepository(later).verify_by_token(token)


def _verify_by_code(session: Session) -> Change:
    registration, code = _code(session)
    return lambda later: VerificationRepository(later, peppers=PEPPERS).verify_by_code(registration.id, code)


def _of_a_pending_registration(change: Callable[[Session, UUID], Any]) -> Callable[[Session], Change]:
    def prepare(session: Session) -> Change:
        identity = register(session).registration.id
        return lambda later: change(later, identity)

    return prepare


# Each prepares something in a session, and returns the change, which is executed in another one.
CHANGES: dict[str, Callable[[Session], Change]] = {
    "register": lambda _session: register,
    "activate": _activate,
    "verify_by_token": _verify_by_token,
    "verify_by_code": _verify_by_code,
    "update_profile": _of_a_pending_registration(
        lambda session, identity: RegistrationRepository(session).update_profile(identity, {"name": "Ada"})
    ),
    "cancel": _of_a_pending_registration(lambda session, identity: RegistrationRepository(session).cancel(identity)),
    "record": _of_a_pending_registration(
        lambda session, identity: ConsentRepository(session).record(identity, [TERMS])
    ),
    "erase": _of_a_pending_registration(lambda session, identity: PrivacyRepository(session).erase(identity)),
    "issue_token": _of_a_pending_registration(
        lambda session, identity: VerificationRepository(session).issue_token(identity, min_gap=0)
    ),
    "issue_code": _of_a_pending_registration(
        lambda session, identity: VerificationRepository(session, peppers=PEPPERS).issue_code(identity, min_gap=0)
    ),
}

COUNTS = """SELECT (SELECT count(*) FROM registrations) AS registrations,
                   (SELECT count(*) FROM registration_events) AS events,
                   (SELECT count(*) FROM verification_tokens) AS tokens,
                   (SELECT count(*) FROM outbox) AS messages"""


@pytest.mark.parametrize("options", [{"autocommit": True}, {}, {"single": True}], ids=str)
def test_work_that_was_kept_returns_its_result(losing: Losing, rows: Rows, options: dict[str, bool]) -> None:
    """For each method the result is the one whose reply was lost, and nothing is done twice."""
    database, proxy = losing
    for method, prepare in CHANGES.items():
        with database.session() as session:
            change = prepare(session)
        before = rows(COUNTS)[0]

        def work(session: Session, change: Callable[[Session], Any] = change) -> Any:
            session.execute(text("SELECT 1"))
            if options:
                proxy.lose_next_reply()
            outcome = change(session)
            if not options:
                event.listen(session, "before_commit", lambda _session: proxy.lose_next_reply(), once=True)
            return outcome

        outcome = untyped(database.run)(work, **options)
        after = rows(COUNTS)[0]
        new = {name: after[name] - before[name] for name in after}
        assert new["events"] == new["messages"] == (0 if method.startswith("issue") else 1), method
        assert new["registrations"] == (1 if method == "register" else 0)
        with database.session() as session:
            if method == "register":  # the token that the caller has is the one that is stored
                assert isinstance(VerificationRepository(session).peek_token(outcome.token), TokenUsable)
            if method == "issue_token":
                assert isinstance(VerificationRepository(session).peek_token(outcome.secret), TokenUsable)
            if method == "issue_code":
                codes = VerificationRepository(session, peppers=PEPPERS)
                assert isinstance(codes.verify_by_code(outcome.registration.id, outcome.secret), Verified)
            PrivacyRepository(session).erase(getattr(outcome, "registration", outcome).id)

    assert proxy.lost_replies == database.events.count("commit_resolved", "kept") == len(CHANGES)
    assert database.events.count("retry") == 0


def test_the_result_is_the_one_whose_reply_was_lost(losing: Losing) -> None:
    """It has the same registration as the database, and the session goes on and commits."""
    database, proxy = losing
    with database.session(autocommit=True) as session:
        proxy.lose_next_reply()
        outcome = register(session)
        assert outcome.registration == RegistrationRepository(session).get(outcome.registration.id)
        assert outcome.registration.email == "ada@example.com"
        changed = RegistrationRepository(session).update_profile(outcome.registration.id, {"name": "Ada"})
    assert changed.version == 2


def test_a_refused_sign_up_that_was_kept_is_still_refused(losing: Losing) -> None:
    """The evidence shows which outcome was lost."""
    database, proxy = losing

    def limited(session: Session) -> Any:
        return RegistrationRepository(session).register("ada@example.com", max_pending=1, idempotency_key="one")

    def again(session: Session) -> Any:
        return RegistrationRepository(session).register("ada@example.com", max_pending=1)

    assert isinstance(database.run(limited, autocommit=True), Registered)
    with database.session(autocommit=True) as session:
        proxy.lose_next_reply()
        assert isinstance(again(session), TooManyPending)
    with database.session(autocommit=True) as session:
        proxy.lose_next_reply()
        with pytest.raises(ConnectionLost):  # it changed nothing, so it can be repeated
            limited(session)
        session.rollback()
        assert isinstance(limited(session), Replayed)


def test_a_change_after_the_lost_one_is_no_result(losing: Losing, rows: Rows, postgres_server: PostgresServer) -> None:
    """Another transaction has changed the registration before the evidence was read: the error says what is known."""
    database, proxy = losing
    name = database.settings.name

    def change_it(_event: object) -> None:
        with postgres_server.connect(name) as other:
            other.execute("UPDATE registrations SET version = version + 1")

    with database.session(autocommit=True) as session:
        session.execute(text("SELECT 1"))
        database.events.subscribe(change_it)
        proxy.lose_next_reply()
        with pytest.raises(CommitOutcomeUnknown, match="the change was kept, but its result was lost") as raised:
            register(session)
        session.rollback()

    assert raised.value.resolve() is True
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 1}]


@pytest.mark.parametrize("autocommit", [True, False])
def test_work_that_was_not_kept_is_repeated(losing: Losing, rows: Rows, *, autocommit: bool) -> None:
    """The session was ended before the statement or in COMMIT; the work is not idempotent."""
    database, _ = losing
    create_slow_table(database)
    attempts: list[int] = []
    with ThreadPoolExecutor(1) as threads:

        def work(session: Session) -> Registered:
            attempts.append(1)
            if len(attempts) > 1:
                return register(session)
            if autocommit:
                terminate_backend(session)
                return register(session)
            outcome = register(session)
            session.execute(text("INSERT INTO slow VALUES (1)"))  # so that COMMIT takes ten seconds
            threads.submit(_end_in_commit, driver_connection(session.connection()))
            return outcome

        outcome = database.run(work, autocommit=autocommit)

    assert rows("SELECT id FROM registrations") == [{"id": outcome.registration.id}]
    assert database.events.count("commit_resolved", "not_kept") == 1
    assert database.events.count("retry", "connection_lost") == 1


def _end_in_commit(connection: psycopg.Connection[Any]) -> None:
    """Shut the socket down as soon as the server executes COMMIT; the server goes on for ten seconds."""
    info = connection.info
    with psycopg.connect(info.dsn, password=info.password, autocommit=True) as other:
        committing = "SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query = 'COMMIT'"
        wait_until(lambda: other.execute(committing, [info.backend_pid]).fetchall(), "the server executes COMMIT")
    with socket.socket(fileno=connection.fileno()) as ours:
        ours.shutdown(socket.SHUT_RDWR)
        ours.detach()


def test_sql_of_the_service_that_was_kept_is_unknown(losing: Losing, rows: Rows) -> None:
    """The id of a transaction may be another one's after a failover, so `committed` proves nothing."""
    database, proxy = losing
    with pytest.raises(CommitOutcomeUnknown, match="no change") as raised, database.session() as session:
        session.execute(text(ADD))
        proxy.lose_next_reply()

    assert added(rows) == 1
    assert raised.value.resolve() is None


def test_a_query_that_is_lost_in_autocommit_is_retryable(losing: Losing) -> None:
    """It changed nothing, unless it calls a function that may."""
    database, proxy = losing
    for query, error in {
        "SELECT count(*) FROM registrations": ConnectionLost,
        "SELECT nextval('registration_lock_key')": CommitOutcomeUnknown,
    }.items():
        with pytest.raises(error), database.session(autocommit=True) as session:
            session.execute(text("SELECT 1"))
            proxy.lose_next_reply()
            session.execute(text(query))
    with pytest.raises(ConnectionLost), database.session(autocommit=True) as session:
        session.execute(text("SELECT 1"))
        proxy.lose_next_reply()
        EventRepository(session).list_events(UUID(int=1))


def test_evidence_of_a_savepoint_that_was_rolled_back_proves_nothing(losing: Losing, rows: Rows) -> None:
    """Its event is missing although the transaction was kept, so `run` does not repeat the work."""
    database, proxy = losing

    def with_session(session: Session) -> None:
        savepoint = session.begin_nested()
        register(session)
        savepoint.rollback()

    def with_text(session: Session) -> None:
        session.execute(text("SAVEPOINT a"))
        register(session)
        session.execute(text("ROLLBACK TO SAVEPOINT a"))

    def with_driver(session: Session) -> None:
        with driver_connection(session.connection()).transaction(force_rollback=True):
            register(session)

    for number, undo in enumerate((with_session, with_text, with_driver), start=1):

        def work(session: Session, undo: Callable[[Session], None] = undo) -> None:
            session.execute(text(ADD))
            undo(session)
            event.listen(session, "before_commit", lambda _session: proxy.lose_next_reply(), once=True)

        with pytest.raises(CommitOutcomeUnknown):
            database.run(work)
        assert added(rows) == number


def test_evidence_of_an_earlier_transaction_proves_nothing(losing: Losing, rows: Rows) -> None:
    """However the earlier one ended, its event says nothing about the next transaction on the same connection."""
    database, proxy = losing

    def with_session(session: Session) -> None:
        register(session)
        session.commit()

    def with_text(session: Session) -> None:
        register(session)
        session.connection().exec_driver_sql("COMMIT")

    def with_driver(session: Session) -> None:
        register(session)
        driver_connection(session.connection()).commit()

    for number, end in enumerate((with_session, with_text, with_driver), start=1):
        with pytest.raises(CommitOutcomeUnknown), database.session() as session:
            end(session)
            session.execute(text(ADD))
            event.listen(session, "before_commit", lambda _session: proxy.lose_next_reply(), once=True)
        assert added(rows) == 2 * number


def test_a_commit_that_still_runs_is_ended(losing: Losing, rows: Rows) -> None:
    """The server would have committed after ten seconds; the answer is certain before, and the locks are free."""
    database, _ = losing
    create_slow_table(database)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as threads, pytest.raises(ConnectionLost), database.session() as session:
        register(session)
        session.execute(text("INSERT INTO slow VALUES (1)"))
        threads.submit(_end_in_commit, driver_connection(session.connection()))

    assert time.monotonic() - started < 8
    assert rows("SELECT count(*) AS n FROM pg_stat_activity WHERE query = 'COMMIT'") == [{"n": 0}]
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 0}]


def test_only_the_session_that_was_lost_is_ended(losing: Losing, database_settings: DatabaseSettings) -> None:
    """After a failover its process id may be that of a session of another process, which is younger."""
    database, _ = losing
    assert isinstance(database.engine.dialect, AuroraDialect)
    resolver = database.engine.dialect.commit_resolver
    assert resolver is not None
    other = Database(database_settings)
    with other.session() as session:
        driver = driver_connection(session.connection())
        process, user = driver.info.backend_pid, database_settings.user or ""
        younger = LostCommit(process, user, monotonic() - 60, None, "")
        of_another_user = LostCommit(process, "somebody", monotonic(), None, "")
        for lost in (younger, of_another_user):
            assert resolver.find(lost).kept is False
            session.execute(text("SELECT 1"))
        assert resolver.find(LostCommit(process, user, monotonic(), None, "")).kept is False
        with pytest.raises(ConnectionLost):
            session.execute(text("SELECT 1"))
        session.rollback()
    other.dispose()


def test_the_evidence_can_be_looked_for_later(losing: Losing) -> None:
    """If the deadline was over, the error resolves itself with another one."""
    database, proxy = losing

    def lose(_session: Session) -> None:
        proxy.lose_next_reply()
        proxy.stop_accepting()

    with pytest.raises(CommitOutcomeUnknown) as raised, deadline(3, reserve=0), database.session() as session:
        register(session)
        event.listen(session, "before_commit", lose, once=True)
    assert "could not be looked for" in str(raised.value)

    proxy.resume_accepting()
    assert raised.value.resolve() is True


def test_behind_a_pooler_nothing_is_resolved(database_settings: DatabaseSettings, rows: Rows) -> None:
    """The process id is the pooler's, so the session cannot be ended."""
    with losing_database(database_settings, pool="proxy") as (database, proxy):
        with pytest.raises(CommitOutcomeUnknown) as raised, database.session() as session:
            register(session)
            event.listen(session, "before_commit", lambda _session: proxy.lose_next_reply(), once=True)
        assert raised.value.resolve() is None
        with pytest.raises(CommitOutcomeUnknown), database.session(autocommit=True) as session:
            session.execute(text("SELECT 1"))
            proxy.lose_next_reply()
            register(session)
        assert database.events.count("commit_resolved", "unknown") == 3
    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 2}]


class _Base(DeclarativeBase):
    pass


class _First(_Base):
    __tablename__ = "first"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)


class _Second(_Base):
    __tablename__ = "second"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    first_id: Mapped[int] = mapped_column(ForeignKey("first.id"))


def test_a_flush_at_the_end_of_a_block_is_not_repeated_if_it_kept_something(
    database: Database, rows: Rows, postgres_server: PostgresServer
) -> None:
    """In autocommit each of its statements commits, and the second one fails with an error that is retryable."""
    _Base.metadata.create_all(database.engine)

    def work(session: Session) -> None:
        session.add_all([_First(), _Second(first_id=0)])

    with postgres_server.connect(database.settings.name) as other, other.transaction():
        other.execute("LOCK second")
        with pytest.raises(LockTimeout):
            database.run(work, autocommit=True, attempts=2)

    assert rows("SELECT count(*) AS n FROM first") == [{"n": 1}]


def test_a_two_phase_commit_that_is_lost_is_unknown(losing: Losing, rows: Rows) -> None:
    """SQLAlchemy announces it with an event of its own; a missing event would not show that nothing was kept."""
    database, proxy = losing
    with database.engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(text(ADD))
        proxy.lose_next_reply()
        with pytest.raises(CommitOutcomeUnknown) as raised:
            transaction.commit()
    assert raised.value.resolve() is None
    assert added(rows) == 1
    with pytest.raises(ConnectionLost), database.engine.connect() as connection:
        connection.begin_twophase().commit()
        connection.begin_twophase()
        proxy.lose_next_reply()
        connection.execute(text(ADD))


def test_a_token_that_was_deleted_meanwhile_proves_nothing(
    losing: Losing, rows: Rows, database_settings: DatabaseSettings
) -> None:
    """An erasure between the commit and the look at the evidence deletes the token of work that was kept."""
    database, proxy = losing
    with database.session() as session:
        identity = register(session).registration.id
    elsewhere = Database(database_settings)

    def erase(happened: DatabaseEvent) -> None:
        if happened.name == "connection_opened":
            with elsewhere.session() as other:
                PrivacyRepository(other).erase(identity)
            elsewhere.dispose()

    def work(session: Session) -> None:
        session.execute(text(ADD))
        VerificationRepository(session).issue_token(identity, min_gap=0)
        event.listen(session, "before_commit", lambda _session: proxy.lose_next_reply(), once=True)
        database.events.subscribe(erase)

    before = added(rows)
    with pytest.raises(CommitOutcomeUnknown):
        database.run(work)
    assert added(rows) == before + 2  # of the work, and of the erasure


def test_a_notification_is_an_effect_without_an_id(database: Database) -> None:
    """The server gives its transaction an id only in COMMIT, so an id that is missing before proves nothing."""
    for statement, transaction_id in {
        "NOTIFY registered": None,
        "/*ddps='api'*/ NOTIFY registered": None,
        "-- of a tracer\nDO $$ BEGIN NOTIFY registered; END $$": None,
        "SELECT pg_notify('registered', '')": None,
        "SELECT count(*) FROM registrations": "",
        "UPDATE registrations SET version = 1 WHERE false": "",
    }.items():
        with database.session() as session:
            session.execute(text("SAVEPOINT a"))
            session.execute(text(statement))
            driver = driver_connection(session.connection())
        assert isinstance(driver, BoundedConnection)
        assert lost_transaction(driver).transaction_id == transaction_id, statement
