"""`RecoverableConnection`: a psycopg connection that recovers if its prepared statements become invalid."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import pq
from psycopg.abc import Params, PQGen, Query, QueryNoTemplate
from psycopg.pq.abc import PGconn
from psycopg.rows import Row, RowFactory

from registration_persistence.database.error_redaction import redact_error
from registration_persistence.database.error_translation import is_stale_statement
from registration_persistence.database.lazy_begin import LazyBeginConnection, LazyBeginCursor

T = TypeVar("T")

_IDLE, _IN_TRANSACTION = pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS

# The errors of a statement whose parameters have the types that the columns had when the statement was prepared.
# XX000 is "cache lookup failed", if the type of a parameter was dropped.
_OUTDATED_TYPES = frozenset(
    {"22003", "22007", "22008", "22015", "22023", "22P02", "42704", "42804", "42846", "42883", "XX000"}
)

# psycopg forgets its prepared statements after DEALLOCATE ALL, but only if it has not seen the same text before.
_serial_numbers = count()


class RecoverableConnection(LazyBeginConnection[Row]):
    """A connection whose prepared statements are dropped if the server does not accept one of them any more.

    The server rejects a prepared statement after `ALTER TABLE`, if the types of its result changed, and after
    `DISCARD ALL`, a failover behind a proxy or a pooler, because the session does not have it any more.
    """

    _has_stale_statements = False

    def __init__(self, pgconn: PGconn, *row_factory: RowFactory[Row]) -> None:
        super().__init__(pgconn, *row_factory)
        self.cursor_factory: type[psycopg.Cursor[Row]] = RecoveringCursor

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the reply to the command of *gen*, and remember if it says that a prepared statement is invalid.

        An error that it raises contains no value of a row, also if the caller uses psycopg without SQLAlchemy.
        """
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.Error as error:
            self._has_stale_statements |= is_stale_statement(error)
            redact_error(error)
            raise

    def prepare_sending(self) -> bool:
        """Drop prepared statements if one is invalid; return whether the next statement begins a transaction."""
        if self._has_stale_statements:
            self._drop_stale_statements()
        return self._status() == _IDLE

    def recovers_from(self, error: psycopg.Error, *, was_prepared: bool) -> bool:
        """Prepare to send the first statement of a transaction again, if it failed because it was invalid.

        Args:
            error: The error of the statement; nothing of a transaction is lost.
            was_prepared: Whether the statement was prepared.

        Returns:
            Whether the statement was invalid.
        """
        self._has_stale_statements |= error.sqlstate in _OUTDATED_TYPES and was_prepared
        if not self._has_stale_statements:
            return False
        if not self.autocommit:
            self.rollback()  # of BEGIN, which was sent with this statement, or before it
        if self._has_stale_statements:
            self._drop_stale_statements()
        return True

    def _drop_stale_statements(self) -> None:
        """Drop all prepared statements, on the server and in psycopg, because one of them is invalid."""
        if self._status() in (_IDLE, _IN_TRANSACTION):
            deallocate = f"DEALLOCATE ALL -- {next(_serial_numbers)}"
            with outside_transaction(self):
                psycopg.Cursor(self).execute(cast("QueryNoTemplate", deallocate), prepare=False)
            self._has_stale_statements = False

    def _status(self) -> int | None:
        """Return the status of the transaction; `None` in a pipeline, whose replies come later."""
        if self.pgconn.pipeline_status != pq.PipelineStatus.OFF:
            return None
        return self.pgconn.transaction_status


class RecoveringCursor(LazyBeginCursor[Row]):
    """A cursor that sends a statement again if it was prepared and is invalid now.

    The statement failed before it did anything. In autocommit, or if it is the first of its transaction, the same
    statement is sent once more. Otherwise the error is raised, and the statement is prepared again after the rollback.
    """

    def execute(
        self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        """Execute *query*; see `psycopg.Cursor.execute`."""
        statement: Any = query  # the overload for templates does the same
        connection = self._connection()
        is_first = connection.prepare_sending()
        try:
            return super().execute(statement, params, prepare=prepare, binary=binary)
        except psycopg.Error as error:
            was_prepared = self._query is None  # it refers to a statement that is not prepared
            if not is_first or not connection.recovers_from(error, was_prepared=was_prepared):
                raise
        return super().execute(statement, params, prepare=prepare, binary=binary)

    def executemany(self, query: Query, params_seq: Iterable[Params], *, returning: bool = False) -> None:
        """Execute *query* with each of *params_seq*; see `psycopg.Cursor.executemany`."""
        connection = self._connection()
        may_repeat = connection.prepare_sending() and isinstance(params_seq, Sequence)  # an iterator is read only once
        try:
            return super().executemany(query, params_seq, returning=returning)
        except psycopg.Error as error:
            if not may_repeat or not connection.recovers_from(error, was_prepared=True):
                raise
        return super().executemany(query, params_seq, returning=returning)

    def _connection(self) -> RecoverableConnection[Any]:
        connection = self._conn
        assert isinstance(connection, RecoverableConnection)
        return connection


@contextmanager
def outside_transaction(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Run statements without BEGIN, unless a transaction is open already."""
    idle = connection.info.transaction_status == _IDLE
    if not idle or connection.autocommit:
        yield
        return
    connection.autocommit = True
    try:
        yield
    finally:
        if not connection.closed:
            connection.autocommit = False
