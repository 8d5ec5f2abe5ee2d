"""`Database.run`: what it repeats, what it must not, and what it says when an earlier attempt may have been kept."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from support import ADD, Rows, added, kill, kill_in_commit, slow_commits

from registration_persistence import Database, DatabaseSettings, RegistrationRepository, deadline
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost, StatementTimeout, TransactionConflict
from registration_persistence.testing import RoundTripCounter


class Work:
    """A unit of work that adds a row, and does something else first at the attempts that are listed."""

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
    """Let the server raise *sqlstate*."""

    def fail(session: Session) -> None:
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"))

    return fail


def test_gives_what_the_work_gives_and_commits(database: Database, rows: Rows) -> None:
    """Where nothing fails, it is one attempt."""
    assert database.run(Work()) == 1
    assert added(rows) == 1
    assert database.events.count("retry") == 0


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (kill, "connection_lost"),
        (fail_with("25P03"), "connection_lost"),
        (fail_with("40001"), "transaction_conflict"),
        (fail_with("40P01"), "transaction_conflict"),
        (fail_with("55P03"), "lock_timeout"),
    ],
)
def test_repeats_what_kept_nothing(
    database: Database, rows: Rows, failure: Callable[[Session], None], cause: str
) -> None:
    """The row is there once, and an event says why the work was repeated."""
    assert database.run(Work(failure, failure)) == 3

    assert added(rows) == 1
    assert database.events.count("retry", cause) == database.events.count("retry") == 2


def test_a_connection_that_is_lost_while_commit_waits_is_repeated(database: Database, rows: Rows) -> None:
    """The server said so before COMMIT was sent."""
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.execute(text(ADD))
        if len(attempts) == 1:
            kill(session)

    database.run(work)

    assert added(rows) == 1
    assert len(attempts) == 2


def test_gives_up_after_the_last_attempt(database: Database, rows: Rows) -> None:
    """The last error comes out as it is."""
    work = Work(*[fail_with("40001")] * 5)
    with pytest.raises(TransactionConflict):
        database.run(work, attempts=2)

    assert work.attempts == 2
    assert added(rows) == 0


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
def test_errors_of_the_work_itself_are_not_repeated(database: Database, rows: Rows, error: BaseException) -> None:
    """They come out as they are, and nothing was kept."""

    def fail(_session: Session) -> None:
        raise error

    work = Work(fail)
    with pytest.raises(type(error)) as raised:
        database.run(work)

    assert error is raised.value
    assert work.attempts == 1
    assert added(rows) == 0


@pytest.mark.parametrize("sqlstate", ["23505", "57014"])
def test_what_would_fail_again_is_not_repeated(database: Database, sqlstate: str) -> None:
    """A broken constraint and a statement that is too slow are the same the second time."""
    work = Work(fail_with(sqlstate))
    with pytest.raises((IntegrityError, StatementTimeout)):
        database.run(work)

    assert work.attempts == 1


@pytest.mark.parametrize("attempts", [0, -1])
def test_no_attempt_is_refused(database: Database, attempts: int) -> None:
    """The error says what is expected."""
    with pytest.raises(ValueError, match="expected 1 or more"):
        database.run(Work(), attempts=attempts)


@pytest.fixture
def lost_in_commit(database: Database) -> Iterator[Callable[[Session], None]]:
    """Ends the session's connection while the server works on its COMMIT."""
    slow_commits(database)
    with ThreadPoolExecutor(1) as threads:

        def lose(session: Session) -> None:
            driver = session.connection().connection.dbapi_connection
            assert isinstance(driver, psycopg.Connection)
            session.execute(text("INSERT INTO slow VALUES (1)"))
            threads.submit(kill_in_commit, driver)

        yield lose


def test_a_lost_commit_is_not_repeated(database: Database, lost_in_commit: Callable[[Session], None]) -> None:
    """Nobody knows whether it was kept."""
    work = Work(lost_in_commit)
    with pytest.raises(CommitOutcomeUnknown):
        database.run(work)

    assert work.attempts == 1
    assert database.events.count("retry") == 0


def test_a_lost_commit_is_repeated_where_that_changes_nothing(
    database: Database, rows: Rows, lost_in_commit: Callable[[Session], None]
) -> None:
    """A sign-up with an idempotency key is there once, whichever attempt was kept."""
    first = [lost_in_commit]

    def work(session: Session) -> None:
        RegistrationRepository(session).register("ada@example.com", idempotency_key="one")
        if first:
            first.pop()(session)

    database.run(work, idempotent=True)

    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 1}]
    assert database.events.count("retry", "commit_outcome_unknown") == 1


def test_an_unknown_outcome_is_not_hidden_by_what_follows(
    database: Database, lost_in_commit: Callable[[Session], None]
) -> None:
    """Where the repetition fails, its error would say that nothing was kept, which only holds for itself."""
    work = Work(lost_in_commit, kill)
    with pytest.raises(CommitOutcomeUnknown, match="an earlier attempt may have been kept") as raised:
        database.run(work, attempts=2, idempotent=True)

    assert isinstance(raised.value.__cause__, ConnectionLost)
    assert not raised.value.retryable


def test_work_that_committed_by_itself_is_not_repeated(database: Database, rows: Rows) -> None:
    """What it kept before it failed would be there twice; a savepoint keeps nothing."""

    def commits(session: Session) -> None:
        session.execute(text(ADD))
        session.commit()
        kill(session)
        session.execute(text(ADD))

    with pytest.raises(ConnectionLost):
        database.run(commits)
    assert added(rows) == 1

    def saves(session: Session) -> None:
        with session.begin_nested():
            session.execute(text(ADD))
        kill(session)

    assert database.run(Work(saves)) == 2
    assert added(rows) == 2


def test_a_warm_connection_is_no_different(database: Database, rows: Rows) -> None:
    """A commit of before says nothing about the transaction of now."""
    database.run(Work())
    assert database.run(Work(kill)) == 2

    assert added(rows) == 2
    assert database.events.count("retry", "connection_lost") == 1


def test_the_deadline_ends_the_repetitions(database_settings: DatabaseSettings) -> None:
    """There is no attempt for which no time is left, and the last error comes out."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    work = Work(*[fail_with("40001")] * 1000)
    with pytest.raises(TransactionConflict), deadline(1, reserve=0.5):
        database.run(work, attempts=1000)
    database.dispose()

    assert 1 < work.attempts < 1000


def test_in_autocommit_it_is_one_round_trip(database_settings: DatabaseSettings) -> None:
    """A sign-up with a key needs neither BEGIN nor COMMIT to be repeatable."""
    with RoundTripCounter(database_settings.host, database_settings.port) as wire:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=wire.port, sslmode="disable")
        database = Database(dataclasses.replace(here, pool="lambda"))
        database.ping()
        wire.round_trips()
        database.run(sign_up, idempotent=True, autocommit=True)
        assert wire.round_trips() == 1
        database.dispose()


def sign_up(session: Session) -> None:
    """Register Ada, once."""
    RegistrationRepository(session).register("ada@example.com", idempotency_key="one")


def test_in_autocommit_a_lost_statement_is_repeated(database: Database, rows: Rows) -> None:
    """It may have been kept, and its key makes that no difference."""
    first = [kill]

    def work(session: Session) -> None:
        session.execute(text("SELECT 1"))
        if first:
            first.pop()(session)
        sign_up(session)

    database.run(work, idempotent=True, autocommit=True)

    assert rows("SELECT count(*) AS n FROM registrations") == [{"n": 1}]
    assert database.events.count("retry", "commit_outcome_unknown") == 1


def test_in_autocommit_it_must_be_idempotent(database: Database) -> None:
    """What was kept before a failure would be done again."""
    with pytest.raises(ValueError, match="only where it is idempotent"):
        database.run(sign_up, autocommit=True)
