"""A wrong code counts, whatever becomes of the transaction in which it was judged."""

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from races import PEPPERS, another, code_for
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from support import Rows, SignUp, terminate_backend, untyped

from registration_persistence import (
    Database,
    DatabaseSettings,
    RegistrationRepository,
    VerificationRepository,
    deadline,
)
from registration_persistence.errors import (
    AttemptNotCounted,
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseUnavailable,
    InvalidInput,
    StatementTimeout,
    TransactionAborted,
    TransactionConflict,
)
from registration_persistence.outcomes import (
    CodeOutcome,
    EmailTaken,
    Issued,
    LockedOut,
    Registered,
    Verified,
    WrongCode,
)
from registration_persistence.sandbox import TcpProxy


class Rejected(Exception):
    """The exception with which a web framework answers 422."""


@pytest.fixture
def pending(database: Database, sign_up: SignUp) -> tuple[UUID, str]:
    """A registration, and its code."""
    identity = sign_up().registration.id
    return identity, code_for(database, identity)


@pytest.fixture
def one_connection(database_settings: DatabaseSettings) -> Iterator[Database]:
    """A database with the pool of a Lambda: a second connection cannot be opened beside the first."""
    made = Database(replace(database_settings, pool="lambda"))
    yield made
    made.dispose()


def judge(session: Session, identity: UUID, code: str) -> CodeOutcome:
    """Type *code*."""
    return VerificationRepository(session, peppers=PEPPERS).verify_by_code(identity, code)


def raise_in_block(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Raise in the block of the session, as a dependency of a web framework does."""
    outcome = None
    with suppress(Rejected), database.session() as session:
        outcome = judge(session, identity, code)
        raise Rejected
    assert outcome is not None
    return outcome


def roll_back(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back explicitly."""
    with database.session() as session:
        outcome = judge(session, identity, code)
        session.rollback()
    return outcome


def close(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Close a session of SQLAlchemy without a commit."""
    with Session(database.engine) as session:
        return judge(session, identity, code)


def roll_back_later(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back a transaction that contained another statement before."""
    with database.session() as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        session.rollback()
    return outcome


def raise_later(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Raise in the block, after another statement."""
    outcome = None
    with suppress(Rejected), database.session() as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        raise Rejected
    assert outcome is not None
    return outcome


def close_later(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Close a session without a commit, after another statement."""
    with Session(database.engine) as session:
        session.execute(text("SELECT 1"))
        return judge(session, identity, code)


def raise_in_savepoint(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back to a savepoint, and commit the transaction."""
    outcome = None
    with database.session() as session, suppress(Rejected), session.begin_nested():
        outcome = judge(session, identity, code)
        raise Rejected
    assert outcome is not None
    return outcome


def raise_around_savepoint(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back to a savepoint that contains a released savepoint, then roll back everything."""
    outcome = None
    with suppress(Rejected), database.session() as session:
        with suppress(Rejected), session.begin_nested():
            inner = session.begin_nested()
            outcome = judge(session, identity, code)
            inner.commit()
            raise Rejected
        raise Rejected
    assert outcome is not None
    return outcome


def abort(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Let a later statement abort the transaction."""
    outcome = None
    with suppress(Exception), database.session() as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        session.execute(text("SELECT 1 / 0"))
    assert outcome is not None
    return outcome


def lose_the_connection(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Lose the connection before COMMIT."""
    outcome = None
    with suppress(ConnectionLost), database.session() as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        terminate_backend(session)
    assert outcome is not None
    return outcome


def roll_back_as_text(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back with a statement, which SQLAlchemy does not notice, and commit."""
    with database.session() as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        session.execute(text("ROLLBACK"))
    return outcome


def roll_back_savepoint_as_text(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back to a savepoint of a statement, and commit."""
    with database.session() as session:
        session.execute(text("SAVEPOINT own"))
        outcome = judge(session, identity, code)
        session.execute(text("ROLLBACK TO SAVEPOINT own"))
    return outcome


def roll_back_savepoint_of_connection(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back to a savepoint of the connection, inside a savepoint of the session, and commit."""
    with database.session() as session, session.begin_nested():
        savepoint = session.connection().begin_nested()
        outcome = judge(session, identity, code)
        savepoint.rollback()
    return outcome


def begin_in_autocommit(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Begin and roll back a transaction in autocommit."""
    with database.session(autocommit=True) as session:
        session.execute(text("BEGIN"))
        outcome = judge(session, identity, code)
        session.execute(text("ROLLBACK"))
    return outcome


def abandon(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Never close the session, which is garbage-collected."""
    session = Session(database.engine)
    session.execute(text("SELECT 1"))
    outcome = judge(session, identity, code)
    del session
    gc.collect()
    return outcome


def end_the_thread(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Never remove a scoped session, which ends with its thread."""
    sessions = scoped_session(sessionmaker(database.engine))

    def request() -> CodeOutcome:
        sessions.execute(text("SELECT 1"))
        return judge(untyped(sessions), identity, code)

    with ThreadPoolExecutor(1) as thread:
        outcome = thread.submit(request).result()
    gc.collect()
    return outcome


def roll_back_the_connection(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back the connection of the session, and close the session."""
    with Session(database.engine) as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        session.connection().rollback()
    return outcome


def roll_back_the_driver(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back the connection of psycopg, and commit."""
    with database.session() as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        untyped(session.connection().connection.driver_connection).rollback()
    return outcome


def invalidate(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Throw the connection away."""
    with Session(database.engine) as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        session.invalidate()
    return outcome


def kill_the_first(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Lose the connection right after the first statement."""
    outcome = None
    with suppress(ConnectionLost, Rejected), database.session() as session:
        outcome = judge(session, identity, code)
        terminate_backend(session)
        raise Rejected
    assert outcome is not None
    return outcome


def time_out(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Let a later statement take too long."""
    outcome = None
    with suppress(StatementTimeout), database.session() as session:
        session.execute(text("SELECT 1"))
        outcome = judge(session, identity, code)
        session.execute(text("SET LOCAL statement_timeout = 20"))
        session.execute(text("SELECT pg_sleep(1)"))
    assert outcome is not None
    return outcome


def serializable(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back a serializable transaction."""
    with Session(database.engine.execution_options(isolation_level="SERIALIZABLE")) as session:
        session.execute(text("SELECT count(*) FROM verification_tokens"))
        return judge(session, identity, code)


def run_and_raise(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Raise in a unit of work that is repeated after a conflict."""
    outcomes = []

    def work(session: Session) -> None:
        session.execute(text("SELECT 1"))
        outcomes.append(judge(session, identity, code))
        raise TransactionConflict if len(outcomes) < 2 else Rejected

    with suppress(Rejected):
        database.run(work, idempotent=True)
    assert len(set(outcomes)) == 1
    return outcomes[0]


def nested_session(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Use a session on the connection of a session, with a savepoint of its own, and roll back the outer one."""
    with Session(database.engine) as outer:
        outer.execute(text("SELECT 1"))
        with Session(outer.connection(), join_transaction_mode="create_savepoint") as session:
            outcome = judge(session, identity, code)
            session.commit()
        outer.rollback()
    return outcome


def roll_back_the_owner(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Commit a session with savepoints, and roll back the transaction of its connection."""
    with database.engine.connect() as connection, connection.begin() as transaction:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            outcome = judge(session, identity, code)
            session.commit()
        transaction.rollback()
    return outcome


def close_the_owner(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Roll back a session with savepoints, and close its connection."""
    with database.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            outcome = judge(session, identity, code)
            session.rollback()
    return outcome


def roll_back_a_savepoint_of_the_owner(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Commit a session with savepoints, roll back a savepoint around it, and commit the transaction."""
    with database.engine.begin() as connection:
        savepoint = connection.begin_nested()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            outcome = judge(session, identity, code)
            session.commit()
        savepoint.rollback()
    return outcome


def abort_the_owner(database: Database, identity: UUID, code: str) -> CodeOutcome:
    """Commit a session with savepoints, and commit a transaction that a later statement has aborted."""
    outcome = None
    with suppress(TransactionAborted), database.engine.begin() as connection:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            outcome = judge(session, identity, code)
            session.commit()
        with suppress(Exception):
            connection.execute(text("SELECT 1 / 0"))
    assert outcome is not None
    return outcome


Typing = Callable[[Database, UUID, str], CodeOutcome]


@pytest.mark.parametrize(
    "typing",
    [
        raise_in_block,
        roll_back,
        close,
        roll_back_later,
        raise_later,
        close_later,
        raise_in_savepoint,
        raise_around_savepoint,
        abort,
        lose_the_connection,
        roll_back_as_text,
        roll_back_savepoint_as_text,
        roll_back_savepoint_of_connection,
        begin_in_autocommit,
        abandon,
        end_the_thread,
        roll_back_the_connection,
        roll_back_the_driver,
        invalidate,
        kill_the_first,
        time_out,
        serializable,
        run_and_raise,
        nested_session,
        roll_back_the_owner,
        close_the_owner,
        roll_back_a_savepoint_of_the_owner,
        abort_the_owner,
    ],
)
def test_a_wrong_code_counts_if_it_is_rolled_back(
    one_connection: Database, pending: tuple[UUID, str], rows: Rows, typing: Typing
) -> None:
    """After five wrong codes even the right code is refused, and each attempt counted once."""
    identity, code = pending

    outcomes = [typing(one_connection, identity, another(code)) for _ in range(5)]

    assert [WrongCode(left) for left in (4, 3, 2, 1, 0)] == outcomes
    assert LockedOut() == typing(one_connection, identity, code)
    assert [5] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_fifty_wrong_codes_are_not_free(database: Database, pending: tuple[UUID, str]) -> None:
    """Each block raises; five codes are judged, and the right code is refused afterwards."""
    identity, code = pending
    outcomes = [raise_in_block(database, identity, f"{(int(code) + 1 + n) % 10**6:06}") for n in range(50)]

    assert [WrongCode(left) for left in (4, 3, 2, 1, 0)] + [LockedOut()] * 45 == outcomes
    assert LockedOut() == raise_in_block(database, identity, code)


def test_savepoints_that_the_session_does_not_know_give_nothing_back(
    one_connection: Database, pending: tuple[UUID, str], rows: Rows
) -> None:
    """Many codes in one transaction, each in a savepoint of text, of the connection or of its owner, count all."""
    identity, code = pending
    wrong, outcomes = another(code), []
    with one_connection.session() as session:
        session.execute(text("SELECT 1"))
        for _ in range(2):
            session.execute(text("SAVEPOINT own"))
            outcomes.append(judge(session, identity, wrong))
            session.execute(text("ROLLBACK TO SAVEPOINT own"))
    with one_connection.engine.begin() as connection:
        for _ in range(4):
            savepoint = connection.begin_nested()
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                outcomes.append(judge(session, identity, wrong))
                session.commit()
            savepoint.rollback()

    assert [*(WrongCode(left) for left in (4, 3, 2, 1, 0)), LockedOut()] == outcomes
    assert [5] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_an_aborted_transaction_judges_nothing(database: Database, pending: tuple[UUID, str], rows: Rows) -> None:
    """A code in a transaction that has failed gets an error and no answer."""
    identity, code = pending
    for typed in (code, another(code)):
        with suppress(TransactionAborted), database.session() as session:
            with suppress(Exception):
                session.execute(text("SELECT 1 / 0"))
            with pytest.raises(TransactionAborted):
                judge(session, identity, typed)
    assert [0] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_a_wrong_code_that_is_committed_counts_once(database: Database, pending: tuple[UUID, str], rows: Rows) -> None:
    """This holds for the first statement, a later one, and for one inside a savepoint."""
    identity, code = pending
    outcomes = []
    with database.session() as session:
        outcomes.append(judge(session, identity, another(code)))
        outcomes.append(judge(session, identity, another(code)))
    with database.session() as session, session.begin_nested():
        outcomes.append(judge(session, identity, another(code)))

    assert [WrongCode(4), WrongCode(3), WrongCode(2)] == outcomes
    assert [3] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_attempts_within_one_transaction_count_for_each_other(database: Database, pending: tuple[UUID, str]) -> None:
    """A savepoint that is rolled back does not give the attempt back to the same transaction."""
    identity, code = pending
    outcomes = []
    with database.session() as session:
        session.execute(text("SELECT 1"))
        for _ in range(5):
            with suppress(Rejected), session.begin_nested():
                outcomes.append(judge(session, identity, another(code)))
                raise Rejected
        outcomes.append(judge(session, identity, code))

    assert [*(WrongCode(left) for left in (4, 3, 2, 1, 0)), LockedOut()] == outcomes


def test_the_work_before_and_after_a_wrong_code_is_rolled_back(
    database: Database, pending: tuple[UUID, str], rows: Rows
) -> None:
    """Only the attempt is kept."""
    identity, code = pending
    with suppress(Rejected), database.session() as session:
        judge(session, identity, another(code))
        RegistrationRepository(session).register("eve@example.com")
        judge(session, identity, another(code))
        raise Rejected

    assert ["ada@example.com"] == [row["email_key"] for row in rows("SELECT email_key FROM registrations")]
    assert [2] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_parallel_guesses_are_limited(wide: Database, pending: tuple[UUID, str]) -> None:
    """As the first statement exactly five are judged, although each is rolled back."""
    identity, code = pending

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: raise_in_block(wide, identity, another(code)), range(40)))

    assert 5 == sum(isinstance(outcome, WrongCode) for outcome in outcomes)


def test_parallel_guesses_in_larger_transactions_are_limited(wide: Database, pending: tuple[UUID, str]) -> None:
    """Each of the eight transactions may have one attempt that is not counted yet."""
    identity, code = pending

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: raise_later(wide, identity, another(code)), range(40)))

    assert 5 <= sum(isinstance(outcome, WrongCode) for outcome in outcomes) <= 5 + 8 - 1


@pytest.mark.parametrize("first", [True, False], ids=["first statement", "later statement"])
@pytest.mark.parametrize("idempotent", [True, False])
def test_a_repetition_does_not_count_again(
    database: Database, pending: tuple[UUID, str], rows: Rows, *, first: bool, idempotent: bool
) -> None:
    """`run` repeats the unit of work, whose two wrong codes count once each."""
    identity, code = pending
    wrong, attempts, outcomes = another(code), [], []

    def work(session: Session) -> None:
        attempts.append(session)
        if not first:
            session.execute(text("SELECT 1"))
        outcomes.append((judge(session, identity, wrong), judge(session, identity, wrong)))
        if len(attempts) < 3:
            raise TransactionConflict("a deadlock, for example")

    database.run(work, idempotent=idempotent)

    assert [(WrongCode(4), WrongCode(3))] * 3 == outcomes
    assert [2] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_a_repetition_judges_again_if_the_earlier_try_could_not_be_counted(
    database: Database, pending: tuple[UUID, str], rows: Rows
) -> None:
    """If neither the COMMIT with an unknown outcome nor the count afterwards was kept, the repetition counts."""
    identity, code = pending
    tries = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def refuse(_connection: Connection, _cursor: object, statement: str, *_arguments: object) -> None:
        if "t.attempts + 1" in statement:
            raise DatabaseUnavailable("a failover, for example")

    def work(session: Session) -> CodeOutcome:
        session.execute(text("SELECT 1"))
        tries.append(judge(session, identity, another(code)))
        if len(tries) == 1:
            raise CommitOutcomeUnknown("a lost reply, for example")
        return tries[-1]

    assert WrongCode(4) == database.run(work, idempotent=True)
    event.remove(database.engine, "before_cursor_execute", refuse)

    assert len(tries) == 2
    assert [1] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_a_wrong_code_that_cannot_be_counted_is_an_error(
    database_settings: DatabaseSettings, pending: tuple[UUID, str]
) -> None:
    """The block's own exception, which would tell that the code was wrong, is replaced."""
    identity, code = pending
    with TcpProxy(database_settings.host, database_settings.port) as proxy:
        settings = replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable", connect_timeout=2)
        behind = Database(replace(settings, pool="lambda"))
        with pytest.raises(AttemptNotCounted) as raised, behind.session() as session:
            session.execute(text("SELECT 1"))
            assert WrongCode(4) == judge(session, identity, another(code))
            proxy.stop_accepting()
            proxy.cut()
            raise Rejected
        assert raised.value.retryable
        behind.dispose()


def test_a_commit_that_is_lost_gives_no_answer(database: Database, pending: tuple[UUID, str], rows: Rows) -> None:
    """If the attempt could not be committed at once, the outcome is not returned."""
    identity, code = pending

    def terminate(connection: Connection, _cursor: object, statement: str, *_arguments: object) -> None:
        if "judged" in statement:
            with Session(connection) as session:
                terminate_backend(session)

    event.listen(database.engine, "after_cursor_execute", terminate)
    with pytest.raises(ConnectionLost), database.session() as session:
        judge(session, identity, another(code))
    event.remove(database.engine, "after_cursor_execute", terminate)

    assert [0] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


@pytest.mark.parametrize("first", [True, False], ids=["first statement", "later statement"])
def test_an_unknown_commit_stays_unknown(
    database_settings: DatabaseSettings, pending: tuple[UUID, str], *, first: bool
) -> None:
    """If the reply to COMMIT is lost and the server is gone, the outcome of the transaction is reported as unknown."""
    identity, code = pending
    with TcpProxy(database_settings.host, database_settings.port) as proxy, ExitStack() as stack:
        settings = replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable", connect_timeout=2)
        behind = Database(settings)
        stack.callback(behind.dispose)

        def lose_replies(*_arguments: object) -> None:
            stack.enter_context(proxy.lose_replies(1))
            proxy.stop_accepting()

        with pytest.raises(CommitOutcomeUnknown), behind.session() as session:
            if not first:
                session.execute(text("SELECT 1"))
                event.listen(behind.engine, "commit", lose_replies)
            else:
                event.listen(behind.engine, "after_cursor_execute", lose_replies)
            judge(session, identity, another(code))


def test_a_late_wrong_code_gives_no_answer(database: Database, pending: tuple[UUID, str]) -> None:
    """If the deadline has passed when the transaction is rolled back, the attempt cannot be counted."""
    identity, code = pending
    with pytest.raises(AttemptNotCounted) as raised, deadline(0.3, reserve=0), database.session() as session:
        session.execute(text("SELECT 1"))
        judge(session, identity, another(code))
        with suppress(StatementTimeout):
            session.execute(text("SELECT pg_sleep(1)"))
        raise Rejected
    assert isinstance(raised.value.__cause__, StatementTimeout)


def test_a_session_on_a_connection(database: Database, pending: tuple[UUID, str], rows: Rows) -> None:
    """With savepoints a roll-back counts; a transaction that the session does not own is rejected."""
    identity, code = pending
    wrong = another(code)
    with database.engine.connect() as connection, connection.begin():
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            assert WrongCode(4) == judge(session, identity, wrong)
            session.rollback()
            assert WrongCode(3) == judge(session, identity, wrong)
            session.commit()
        with Session(connection) as session, pytest.raises(InvalidInput, match="create_savepoint"):
            judge(session, identity, wrong)
    with pytest.raises(InvalidInput, match="begin_nested"), database.session() as session:
        session.connection().begin_nested()
        judge(session, identity, wrong)

    assert [2] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_an_isolated_session(isolated_session: Session) -> None:
    """The fixture of services counts as well, and keeps nothing after the test."""
    registrations = RegistrationRepository(isolated_session)
    made = registrations.register("ada@example.com")
    assert isinstance(made, Registered)
    verification = VerificationRepository(isolated_session, peppers=PEPPERS)
    issued = verification.issue_code(made.registration.id, min_gap=timedelta(0))
    assert isinstance(issued, Issued)
    isolated_session.commit()
    for left in (4, 3):
        assert WrongCode(left) == verification.verify_by_code(made.registration.id, another(issued.secret))
        isolated_session.rollback()
    assert isinstance(verification.verify_by_code(made.registration.id, issued.secret), Verified)


def test_many_wrong_codes_on_one_connection(one_connection: Database, pending: tuple[UUID, str], rows: Rows) -> None:
    """The statements are prepared at some time, which changes nothing."""
    identity, code = pending
    for number in range(12):
        for first in (True, False):
            with one_connection.session() as session:
                if not first:
                    session.execute(text("SELECT 1"))
                verification = VerificationRepository(session, peppers=PEPPERS)
                outcome = verification.verify_by_code(identity, another(code), max_attempts=100)
                assert WrongCode(99 - 2 * number - (not first)) == outcome
                if number % 2:
                    session.rollback()
    assert [24] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_a_scoped_session(database: Database, pending: tuple[UUID, str], rows: Rows) -> None:
    """Only the session of this thread counts again."""
    identity, code = pending
    sessions = scoped_session(sessionmaker(database.engine))
    verification = VerificationRepository(untyped(sessions), peppers=PEPPERS)
    with Session(database.engine) as other:
        other.execute(text("SELECT 1"))
        sessions.execute(text("SELECT 1"))
        verification.verify_by_code(identity, another(code))
        other.rollback()
        assert [0] == [r["attempts"] for r in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]
    sessions.remove()
    assert [1] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_two_phase_commit_and_transaction_blocks(database: Database, pending: tuple[UUID, str], rows: Rows) -> None:
    """Both count, as the first statement and as a later one."""
    identity, code = pending
    for prelude in ("SELECT 1", None):
        with suppress(Rejected), Session(database.engine) as session, session.begin():
            if prelude:
                session.execute(text(prelude))
            judge(session, identity, another(code))
            raise Rejected
        with Session(database.engine, twophase=True) as session:
            if prelude:
                session.execute(text(prelude))
            judge(session, identity, another(code))
            session.rollback()
    assert [4] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_a_plain_engine(database_settings: DatabaseSettings, pending: tuple[UUID, str], rows: Rows) -> None:
    """The rule does not depend on this package's engine."""
    identity, code = pending
    settings = database_settings
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(
            host=settings.host, port=settings.port, dbname=settings.name, user=settings.user, password=settings.password
        ),
    )
    for begin in ("SELECT 1", None):
        with Session(engine) as session:
            if begin:
                session.execute(text(begin))
            judge(session, identity, another(code))
            session.rollback()
    engine.dispose()

    assert [2] == [row["attempts"] for row in rows("SELECT attempts FROM verification_tokens WHERE hash_key_id > 0")]


def test_the_right_code_for_a_taken_mailbox_keeps_the_transaction(
    database: Database, sign_up: SignUp, pending: tuple[UUID, str], rows: Rows
) -> None:
    """As the second statement it is `EmailTaken`, and the transaction commits its first statement."""
    identity, code = pending
    with database.session() as session:
        VerificationRepository(session).verify_by_token(sign_up("Ada@example.com").token)
    with database.session() as session:
        RegistrationRepository(session).register("eve@example.com")
        assert EmailTaken() == judge(session, identity, code)

    assert 3 == len(rows("SELECT id FROM registrations"))
