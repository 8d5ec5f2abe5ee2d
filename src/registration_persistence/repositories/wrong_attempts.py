"""`WrongAttempts`: a wrong code counts, whatever becomes of the transaction in which it was judged.

- If the transaction contains nothing else, the attempt is committed at once, while the row is locked.
- Otherwise it is remembered, and counted again after its transaction or savepoint was rolled back. A roll-back without
  the session is noticed before the session commits or judges the next code, or when a session that was never closed is
  garbage-collected. If somebody else ends the transaction of its connection, `borrowed_transaction` counts it.
- A repetition by `Database.run` gets the outcome of the earlier try, so that the attempt counts once.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID
from weakref import finalize

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, TwoPhaseTransaction, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from registration_persistence.errors import AttemptNotCounted, InvalidInput, RegistrationPersistenceError
from registration_persistence.outcomes import WrongCode
from registration_persistence.repositories.borrowed_transaction import NOT_COUNTED, count_missing, follow
from registration_persistence.repositories.sql.verification import COUNT_ATTEMPT, COUNT_ATTEMPT_IF_MISSING
from registration_persistence.unit_of_work import EARLIER_TRIES, SessionOrConnection, connection_of, unit_info

# Keys of a session's `info`: the wrong codes of the session, and those that its open transaction contains.
_JUDGED = "registration_persistence.judged_codes"
_UNCOMMITTED = "registration_persistence.uncommitted_attempts"

_logger = logging.getLogger("registration_persistence.repositories")

_Guess: TypeAlias = tuple[UUID, tuple[bytes, ...]]
_Judged: TypeAlias = tuple[_Guess, WrongCode]


@dataclass(slots=True, repr=False)
class _Attempt:
    registration_id: UUID
    token_id: UUID
    number: int
    connection: Connection
    savepoints: set[SessionTransaction]
    is_lost: bool = False

    def count(self, connection: Connection) -> None:
        connection.execute(COUNT_ATTEMPT, {"id": self.registration_id, "token_id": self.token_id})

    def count_if_missing(self) -> None:
        """Count the attempt if the row in this transaction has fewer attempts than after it was judged."""
        self.connection.execute(
            COUNT_ATTEMPT_IF_MISSING, {"id": self.registration_id, "token_id": self.token_id, "number": self.number}
        )


class WrongAttempts:
    """Counts a wrong code that a repository judges.

    Args:
        target: The session or connection of the repository.
        registration_id: The registration.
        hashes: The hashes of the code, by the ids of the peppers.

    Raises:
        InvalidInput: A roll-back by another owner of the transaction could not be noticed; nothing was sent.
    """

    def __init__(self, target: SessionOrConnection, registration_id: UUID, hashes: dict[int, bytes]) -> None:
        # SQLAlchemy would register listeners of a scoped session for all sessions.
        self._target: SessionOrConnection = target.registry() if isinstance(target, scoped_session) else target
        self._guess: _Guess = (registration_id, tuple(hashes.values()))
        self._connection, self._info = connection_of(self._target), unit_info(self._target)
        driver: Any = self._connection.connection.dbapi_connection
        self._commits_itself = bool(driver.autocommit)
        self._is_first_statement = driver.info.transaction_status == TransactionStatus.IDLE
        if not self._is_first_statement:
            _require_known_owner(self._target, self._connection)
            for attempt in self._info.get(_UNCOMMITTED, ()):
                attempt.count_if_missing()
            count_missing(self._connection)

    def outcome_of_earlier_try(self) -> WrongCode | None:
        """Return the outcome of the same code in an earlier try of this unit of work, once for each time it counted."""
        for earlier in self._info.get(EARLIER_TRIES, ()):
            judged_before: list[_Judged] = earlier.get(_JUDGED, [])
            for judged in judged_before:
                guess, outcome = judged
                if guess == self._guess:
                    judged_before.remove(judged)
                    self._judged().append(judged)
                    return outcome
        return None

    def count(self, outcome: WrongCode, token_id: UUID, number: int) -> None:
        """Commit the attempt that the statement has just counted, or count it again if it is rolled back.

        Args:
            outcome: The outcome for the caller.
            token_id: The code.
            number: The number of wrong attempts at the code, with this one.

        Raises:
            RegistrationPersistenceError: It could not be committed, so the outcome must not be returned.
        """
        if not self._is_first_statement:
            self._count_again_after_rollback(token_id, number)
        elif not self._commits_itself:
            # SQLAlchemy does not notice; the next statement begins another transaction.
            self._connection.exec_driver_sql("COMMIT")
        self._judged().append((self._guess, outcome))

    def _count_again_after_rollback(self, token_id: UUID, number: int) -> None:
        session = None if isinstance(self._target, Connection) else self._target
        savepoints = set() if session is None else _open_savepoints(session)
        attempt = _Attempt(self._guess[0], token_id, number, self._connection, savepoints)
        if session is not None:
            _uncommitted(session).append(attempt)
        if session is None or isinstance(session.get_bind(), Connection):
            follow(self._connection, attempt)

    def _judged(self) -> list[_Judged]:
        judged: list[_Judged] = self._info.setdefault(_JUDGED, [])
        return judged


def _require_known_owner(session: SessionOrConnection, connection: Connection) -> None:
    """Refuse a transaction or savepoint that *session* did not begin if its roll-back would not be noticed."""
    fix = "make verify_by_code the first statement of its transaction, or use "
    if isinstance(session, Connection):  # which is told by SQLAlchemy, but not of the second phase
        if isinstance(connection.get_transaction(), TwoPhaseTransaction):
            raise InvalidInput(
                "the two-phase transaction could be rolled back without this connection, and a wrong code would not "
                f"count: {fix}a transaction of connection.begin()"
            )
    elif isinstance(session.get_bind(), Connection):
        if not connection.in_nested_transaction() or isinstance(connection.get_transaction(), TwoPhaseTransaction):
            raise InvalidInput(
                "the session is on a connection, whose transaction could be rolled back without it, and a wrong code "
                f'would not count: {fix}a session of the engine, or in tests join_transaction_mode="create_savepoint"'
            )
    elif connection.in_nested_transaction() and not session.in_nested_transaction():
        raise InvalidInput(
            "the savepoint of the connection could be rolled back without the session, and a wrong code would not "
            f"count: {fix}session.begin_nested()"
        )


def _open_savepoints(session: Session) -> set[SessionTransaction]:
    savepoints, transaction = set(), session.get_nested_transaction()
    while transaction is not None:
        savepoints.add(transaction)
        transaction = transaction.parent
    return savepoints


def _uncommitted(session: Session) -> list[_Attempt]:
    """Return the attempts of the open transaction; the first call registers the listeners of *session*."""
    if _UNCOMMITTED not in session.info:
        session.info[_UNCOMMITTED] = []
        event.listen(session, "before_commit", _count_missing)
        event.listen(session, "after_commit", _forget_committed)
        event.listen(session, "after_soft_rollback", _count_after_savepoint)
        event.listen(session, "after_transaction_end", _count_after_transaction)
        if isinstance(session.get_bind(), Engine):
            finalize(session, _count_abandoned, session.info[_UNCOMMITTED]).atexit = False
    attempts: list[_Attempt] = session.info[_UNCOMMITTED]
    return attempts


def _count_missing(session: Session) -> None:
    """Count the attempts that were rolled back without the session, for example by a savepoint of its connection."""
    if not session.in_nested_transaction():
        for attempt in _uncommitted(session):
            attempt.count_if_missing()


def _forget_committed(session: Session) -> None:
    if not session.in_nested_transaction():
        attempts = _uncommitted(session)
        attempts[:] = [attempt for attempt in attempts if attempt.is_lost]


def _count_after_savepoint(session: Session, ended: SessionTransaction) -> None:
    """Count the attempts of a savepoint that was rolled back, for the rest of the transaction."""
    for attempt in _uncommitted(session) if ended.nested else ():
        if ended in attempt.savepoints:
            attempt.is_lost = True
            # If the transaction cannot continue, the attempt is counted after its end.
            with suppress(SQLAlchemyError, RegistrationPersistenceError):
                attempt.savepoints = _open_savepoints(session)
                attempt.count(attempt.connection)  # the session refuses statements here
                attempt.is_lost = False


def _count_after_transaction(session: Session, ended: SessionTransaction) -> None:
    """Count the attempts of a transaction that was not committed, in a transaction of their own."""
    attempts = _uncommitted(session)
    if ended.parent is None and attempts:
        lost = attempts[:]
        attempts.clear()
        try:
            _count_again(session.get_bind(), lost)
        except AttemptNotCounted:
            session.info.pop(_JUDGED, None)  # a repetition by `Database.run` must judge the code again
            raise


def _count_abandoned(attempts: list[_Attempt]) -> None:
    """Count the attempts of a session that was garbage-collected before it was closed."""
    if not attempts:
        return
    connection = attempts[0].connection
    try:
        with connection:
            connection.rollback()
            _count_again(connection, attempts)
    except (SQLAlchemyError, RegistrationPersistenceError):
        _logger.exception("a wrong code was not counted, because its session was never closed: close each session")


def _count_again(bind: Engine | Connection, attempts: Sequence[_Attempt]) -> None:
    try:
        with ExitStack() as stack:
            connection = stack.enter_context(bind.begin()) if isinstance(bind, Engine) else bind
            if not connection.in_transaction():
                stack.enter_context(connection.begin())
            for attempt in attempts:
                attempt.count(connection)
    except (SQLAlchemyError, RegistrationPersistenceError) as error:
        raise AttemptNotCounted(NOT_COUNTED) from error
