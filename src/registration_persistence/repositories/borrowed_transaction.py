"""Counts wrong codes of a session on a connection, if the owner of the connection rolls its transaction back.

The owner is for example a fixture, or another session. SQLAlchemy tells it to the connection, and not to the session.
"""

from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from psycopg import Error
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.errors import AttemptNotCounted, RegistrationPersistenceError, TransactionAborted

NOT_COUNTED = (
    "a wrong code was rolled back with its transaction, and could not be counted again: "
    "answer that the service is unavailable, not that the code is wrong"
)
"""The message of `AttemptNotCounted`."""


class Attempt(Protocol):
    """A wrong code that was judged."""

    def count(self, connection: Connection) -> None:
        """Count the attempt."""

    def count_if_missing(self) -> None:
        """Count the attempt in its transaction if the row does not contain it."""


_followed: WeakKeyDictionary[Connection, list[Attempt]] = WeakKeyDictionary()


def follow(connection: Connection, attempt: Attempt) -> None:
    """Count *attempt* if the transaction of *connection* is rolled back, by its owner or by the session."""
    if connection not in _followed:
        _followed[connection] = []
        event.listen(connection, "commit", _before_commit)
        event.listen(connection, "rollback", _before_rollback)
    _followed[connection].append(attempt)


def count_missing(connection: Connection) -> None:
    """Count the attempts that a savepoint of the owner has rolled back."""
    for attempt in _followed.get(connection, ()):
        attempt.count_if_missing()


def _before_commit(connection: Connection) -> None:
    """Count the missing attempts; called before the owner commits."""
    if not _followed[connection]:
        return
    driver: Any = connection.connection.dbapi_connection
    if driver.info.transaction_status == TransactionStatus.INERROR:
        _before_rollback(connection)
        raise TransactionAborted("a statement failed earlier in this transaction, so only the wrong codes were kept")
    count_missing(connection)
    _followed[connection].clear()


def _before_rollback(connection: Connection) -> None:
    """Roll back, then count the attempts in a transaction of their own; called before the owner rolls back."""
    lost = _followed[connection][:]
    _followed[connection].clear()
    if not lost:
        return
    try:
        if connection.invalidated:
            with connection.engine.begin() as replacement:
                _count(lost, replacement)
            return
        driver: Any = connection.connection.dbapi_connection
        driver.rollback()
        try:
            _count(lost, connection)
            driver.commit()
        except BaseException:
            with suppress(Error):
                driver.rollback()
            raise
    except (SQLAlchemyError, RegistrationPersistenceError, Error) as error:
        raise AttemptNotCounted(NOT_COUNTED) from error


def _count(attempts: list[Attempt], connection: Connection) -> None:
    for attempt in attempts:
        attempt.count(connection)
