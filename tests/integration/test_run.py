"""Tests of `Database.run`: which errors it repeats, and the error if an earlier attempt may have been committed."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from support import ADD, Rows, added, losing_database, terminate_backend, untyped

from registration_persistence import Database, DatabaseSettings, RegistrationRepository, deadline
from registration_persistence.database.events import EventCause
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    LockTimeout,
    StatementTimeout,
    TransactionConflict,
)
from registration_persistence.sandbox import wait_until
from registration_persistence.testing import RoundTripCounter


class Work:
    """A unit of work that adds a row; at the listed attempts it calls another function first."""

    def __init__(self, *first: Callable[[Session], None]) -> None:
        self._first = list(first)
        self.attempts = 0

    def __call__(self, session: Session) -> int:
        """Count the attempt, and add the row."""
        self.attempts += 1
        session.execute(text(ADD))
        if self._first:
            self._first.pop(0)(session)
        session.execute(text("SELECT 1"))
        return self.attempts


def fail_with(sqlstate: str) -> Callable[[Session], None]:
    """Return a function that lets the server raise *sqlstate*."""

    def fail(session: Session) -> None:
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"))

    return fail


def sign_up(session: Session) -> None:
    """Register Ada with an idempotency key."""
    RegistrationRepository(session).register("ada@example.com", idempotency_key="one")


def test_returns_the_result_and_commits(database: Database, rows: Rows) -> None:
    """If nothing fails, there is one attempt."""
    assert database.run(Work()) == 1
    assert added(rows) == 1
    assert database.events.count("retry") == 0


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (terminate_backend, "connection_lost"),
        (fail_with("25P03"), "connection_lost"),
        (fail_with("40001"), "transaction_conflict"),
        (fail_with("40P01"), "transaction_conflict"),
        (fail_with("55P03"), "lock_timeout"),
    ],
)
def test_repeats_work_that_certainly_kept_nothing(
    database: Database, rows: Rows, failure: Callable[[Session], None], cause: EventCause
) -> None:
    """The row is stored once, and an event has the cause of the repetition."""
    assert database.run(Work(failure, failure)) == 3

    assert added(rows) == 1
    assert database.events.count("retry", cause) == database.events.count("retry") == 2


def test_a_connection_lost_before_commit_is_repeated(database: Database, rows: Rows) -> None:
    """The loss is noticed before COMMIT is sent."""
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.execute(text(ADD))
        if len(attempts) == 1:
            terminate_backend(session)

    database.run(work)

    assert added(rows) == 1
    assert len(attempts) == 2


def test_gives_up_after_the_last_attempt(database: Database, rows: Rows) -> None:
    """The last error is raised unchanged."""
    work = Work(*[fail_with("40001")] * 5)
    with pytest.raises(TransactionConflict):
        database.run(work, attempts=2)

    assert work.attempts == 2
    assert added(rows) == 0


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
def test_errors_of_the_work_itself_are_not_repeated(database: Database, rows: Rows, error: BaseException) -> None:
    """They are raised unchanged, and nothing is committed."""

    def fail(_session: Session) -> None:
        raise error

    work = Work(fail)
    with pytest.raises(type(error)) as raised:
        database.run(work)

    assert error is raised.value
    assert work.attempts == 1
    assert added(rows) == 0


@pytest.mark.parametrize("sqlstate", ["23505", "57014"])
def test_a_permanent_error_is_not_repeated(database: Database, sqlstate: str) -> None:
    """A violated constraint and a statement timeout would fail again."""
    work = Work(fail_with(sqlstate))
    with pytest.raises((IntegrityError, StatementTimeout)):
        database.run(work)

    assert work.attempts == 1


@pytest.mark.parametrize("attempts", [0, -1])
def test_zero_attempts_are_rejected(database: Database, attempts: int) -> None:
    """The error says which number is expected."""
    with pytest.raises(ValueError, match="expected 1 or more"):
        database.run(Work(), attempts=attempts)


@pytest.fixture
def losing(database_settings: DatabaseSettings) -> Iterator[tuple[Database, Callable[[Session], None]]]:
    """A database, and a function that loses the reply to COMMIT of a session with SQL of the service itself."""
    with losing_database(database_settings) as (database, proxy):

        def lose(session: Session) -> None:
            event.listen(session, "before_commit", lambda _session: proxy.lose_next_reply(), once=True)

        yield database, lose


Losing = tuple[Database, Callable[[Session], None]]


def test_an_unknown_commit_is_not_repeated(losing: Losing) -> None:
    """Nothing shows whether it was committed."""
    database, lose = losing
    work = Work(lose)
    with pytest.raises(CommitOutcomeUnknown):
        database.run(work)

    assert work.attempts == 1
    assert database.events.count("retry") == 0
    assert database.events.count("commit_resolved", "unknown") == 1


def test_an_unknown_commit_is_repeated_if_idempotent(losing: Losing, rows: Rows) -> None:
    """The work is done once more."""
    database, lose = losing
    database.run(Work(lose), idempotent=True)

    assert added(rows) == 2
    assert database.events.count("retry", "commit_outcome_unknown") == 1


def test_an_unknown_outcome_is_not_hidden_by_a_later_error(losing: Losing) -> None:
    """The error of a later attempt would claim that nothing was kept, which is true only of that attempt."""
    database, lose = losing
    work = Work(lose, terminate_backend)
    with pytest.raises(CommitOutcomeUnknown, match="an earlier attempt may have been kept") as raised:
        database.run(work, attempts=2, idempotent=True)

    assert isinstance(raised.value.__cause__, ConnectionLost)
    assert not raised.value.retryable


def test_work_that_committed_by_itself_is_not_repeated(database: Database, rows: Rows) -> None:
    """Rows that it committed before it failed would be stored twice; a savepoint commits nothing."""

    def commits(session: Session) -> None:
        session.execute(text(ADD))
        session.commit()
        terminate_backend(session)
        session.execute(text(ADD))

    with pytest.raises(ConnectionLost):
        database.run(commits)
    assert added(rows) == 1

    def saves(session: Session) -> None:
        with session.begin_nested():
            session.execute(text(ADD))
        terminate_backend(session)

    assert database.run(Work(saves)) == 2
    assert added(rows) == 2


def test_an_earlier_commit_does_not_count(database: Database, rows: Rows) -> None:
    """A commit of an earlier transaction on the connection says nothing about the current one."""
    database.run(Work())
    assert database.run(Work(terminate_backend)) == 2

    assert added(rows) == 2
    assert database.events.count("retry", "connection_lost") == 1


def test_the_deadline_ends_the_repetitions(database_settings: DatabaseSettings) -> None:
    """The work is repeated as long as there is time for an attempt, and then the last error is raised."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    database.ping()
    work = Work(*[fail_with("40001")] * 1000)
    started = time.monotonic()
    with pytest.raises(TransactionConflict), deadline(1.5, reserve=0.5):
        database.run(work)
    seconds = time.monotonic() - started
    database.dispose()

    assert 3 < work.attempts < 1000
    assert seconds > 0.9, "time for another attempt was given away"
    assert database.events.count("retry") == work.attempts - 1


def test_work_may_need_many_attempts(database: Database, rows: Rows) -> None:
    """The number of failures does not matter while there is time, with a deadline and without one."""
    with deadline(20):
        assert database.run(Work(*[terminate_backend] * 6)) == 7
    assert database.run(Work(*[terminate_backend] * 6)) == 7

    assert added(rows) == 2
    assert database.events.count("retry", "connection_lost") == 12


def test_without_a_deadline_the_repetitions_end(database_settings: DatabaseSettings) -> None:
    """They begin for the time in which a connection would have to be opened, however often the work fails."""
    database = Database(dataclasses.replace(database_settings, pool="lambda", connect_timeout=2))
    work = Work(*[fail_with("40001")] * 1000)
    started = time.monotonic()
    with pytest.raises(TransactionConflict):
        database.run(work)
    seconds = time.monotonic() - started
    database.dispose()

    assert 3 < work.attempts < 1000
    assert 1.9 < seconds < 10


def test_the_deadline_does_not_hide_the_failure_before_it(database_settings: DatabaseSettings, rows: Rows) -> None:
    """If the deadline ends the last attempt, the error of the attempt before it says more, and is retryable."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))

    def slow(session: Session) -> None:
        session.execute(text("SELECT pg_sleep(20)"))

    work = Work(fail_with("55P03"), slow)
    with pytest.raises(LockTimeout) as raised, deadline(1, reserve=0):
        database.run(work)
    database.dispose()

    assert raised.value.retryable
    assert isinstance(raised.value.__cause__, StatementTimeout)
    assert work.attempts == 2
    assert added(rows) == 0


def test_work_waits_for_a_connection_that_another_thread_has(database_settings: DatabaseSettings) -> None:
    """The pool raises an error at once or after its timeout; the work is repeated until the connection is free."""
    database = Database(dataclasses.replace(database_settings, pool="lambda", connect_timeout=2))
    database.ping()
    with ThreadPoolExecutor(1) as threads, deadline(20):
        with database.session() as session:
            session.execute(text("SELECT 1"))
            waiting = threads.submit(copy_context().run, database.run, Work())
            wait_until(lambda: database.events.count("retry", "not_connected"), "the other thread waits")
        assert waiting.result() > 1
    database.dispose()


def test_an_idempotent_autocommit_is_one_round_trip(database_settings: DatabaseSettings) -> None:
    """A sign-up with a key can be repeated without BEGIN and COMMIT."""
    with RoundTripCounter(database_settings.host, database_settings.port) as wire:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=wire.port, sslmode="disable")
        database = Database(dataclasses.replace(here, pool="lambda"))
        database.ping()
        wire.round_trips()
        database.run(sign_up, idempotent=True, autocommit=True)
        assert wire.round_trips() == 1
        database.dispose()


def test_a_statement_lost_in_autocommit_is_repeated(database: Database, rows: Rows) -> None:
    """Its event is missing, so nothing was kept, and the query before it has changed nothing."""
    first = [terminate_backend]

    def work(session: Session) -> None:
        session.execute(text("SELECT 1"))
        if first:
            first.pop()(session)
        sign_up(session)

    database.run(work, autocommit=True)

    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 1}]
    assert database.events.count("retry", "connection_lost") == 1


@pytest.mark.parametrize("first", [sign_up, lambda session: session.execute(text(ADD))], ids=["repository", "SQL"])
def test_a_statement_that_was_kept_in_autocommit_is_not_repeated(
    database: Database, first: Callable[[Session], object]
) -> None:
    """If a later one fails, the error is raised, unless the work is idempotent."""
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        first(session)
        if len(attempts) == 1:
            terminate_backend(session)
        session.execute(text("SELECT 1"))

    with pytest.raises(ConnectionLost):
        database.run(work, autocommit=True)
    assert len(attempts) == 1

    attempts.clear()
    database.run(work, autocommit=True, idempotent=True)
    assert len(attempts) == 2


async def deferred(session: Session) -> None:
    """Never executed."""
    session.execute(text(ADD))


def test_a_coroutine_function_is_rejected(database: Database, rows: Rows) -> None:
    """No connection is opened."""
    with pytest.raises(
        TypeError, match="the unit of work is a coroutine function or a generator function: expected a plain"
    ):
        database.run(untyped(deferred))

    assert database.events.count("connection_opened") == 0
    assert added(rows) == 0


def test_a_coroutine_that_a_lambda_returns_is_rejected(database: Database, rows: Rows) -> None:
    """The statements of the unit of work are rolled back, and it is not repeated."""
    calls = []

    def work(session: Session) -> object:
        calls.append(session)
        session.execute(text(ADD))
        return deferred(session)

    with pytest.raises(TypeError, match="the unit of work returned a coroutine"):
        database.run(work)

    assert len(calls) == 1
    assert added(rows) == 0


@pytest.mark.parametrize("attempts", ["2", 2.0, True])
def test_attempts_must_be_a_whole_number(database: Database, attempts: object) -> None:
    """The error names the type."""
    with pytest.raises(TypeError, match=f"attempts is a {type(attempts).__name__}: expected a whole number or None"):
        database.run(Work(), attempts=untyped(attempts))
