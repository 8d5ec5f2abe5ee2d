"""`RecoverableConnection`: a psycopg connection that recovers if its prepared statements become invalid."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Self, cast

import psycopg
from psycopg import pq
from psycopg.abc import Params, PQGen, PQGenConn, Query, QueryNoTemplate
from psycopg.pq.abc import PGconn
from psycopg.rows import Row, RowFactory

from registration_persistence.database.error_redaction import redact_error
from registration_persistence.database.error_translation import is_stale_statement
from registration_persistence.database.lazy_begin import LazyBeginConnection, LazyBeginCursor

_IDLE, _IN_TRANSACTION = pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS
_NO_PIPELINE = pq.PipelineStatus.OFF

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

    has_stale_statements: bool = False

    def __init__(self, pgconn: PGconn, *row_factory: RowFactory[Row]) -> None:
        super().__init__(pgconn, *row_factory)
        self.cursor_factory: type[psycopg.Cursor[Row]] = RecoveringCursor

    def _cancel_gen(self) -> PQGenConn[None]:
        self.note_sending()
        return super()._cancel_gen()

    def _deallocate(self, name: bytes | None) -> PQGen[None]:
        """Drop one prepared statement, or all; psycopg does it if it has too many."""
        self.note_sending()
        return super()._deallocate(name)

    def note_failure(self, error: psycopg.Error) -> None:
        """Remember if *error* says that a prepared statement is invalid, and remove the values of rows from it.

        It is called for each error of a command, so it protects callers of psycopg without SQLAlchemy too.
        """
        self.has_stale_statements |= is_stale_statement(error)
        redact_error(error)

    def recovers_from(self, error: psycopg.Error, status: int, *, was_prepared: bool) -> bool:
        """Prepare to send a statement again, if it failed because it was invalid and began a transaction.

        Args:
            error: The error of the statement.
            status: The status of the transaction before the statement.
            was_prepared: Whether the statement was prepared.

        Returns:
            Whether the statement was invalid, and nothing of a transaction is lost.
        """
        if status != _IDLE or self.pgconn.pipeline_status != _NO_PIPELINE:  # the replies of a pipeline come later
            return False
        self.has_stale_statements |= error.sqlstate in _OUTDATED_TYPES and was_prepared
        if not self.has_stale_statements:
            return False
        if not self.autocommit:
            self.rollback()  # of BEGIN, which was sent with this statement, or before it
        if self.has_stale_statements:
            self.drop_stale_statements()
        return True

    def drop_stale_statements(self) -> None:
        """Drop all prepared statements, on the server and in psycopg, because one of them is invalid."""
        in_pipeline = self.pgconn.pipeline_status != _NO_PIPELINE
        if not in_pipeline and self.pgconn.transaction_status in (_IDLE, _IN_TRANSACTION):
            deallocate = f"DEALLOCATE ALL -- {next(_serial_numbers)}"
            with outside_transaction(self):
                self.note_sending()
                psycopg.Cursor(self).execute(cast("QueryNoTemplate", deallocate), prepare=False)
            self.has_stale_statements = False


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
        connection: Any = self._conn
        if connection.has_stale_statements:
            connection.drop_stale_statements()
        status = self._pgconn.transaction_status
        try:
            return super().execute(statement, params, prepare=prepare, binary=binary)
        except psycopg.Error as error:
            was_prepared = self._query is None  # it refers to a statement that is not prepared
            if not connection.recovers_from(error, status, was_prepared=was_prepared):
                raise
        return super().execute(statement, params, prepare=prepare, binary=binary)

    def executemany(self, query: Query, params_seq: Iterable[Params], *, returning: bool = False) -> None:
        """Execute *query* with each of *params_seq*; see `psycopg.Cursor.executemany`."""
        connection: Any = self._conn
        if connection.has_stale_statements:
            connection.drop_stale_statements()
        status = self._pgconn.transaction_status
        may_repeat = isinstance(params_seq, Sequence)  # an iterator is read only once
        try:
            return super().executemany(query, params_seq, returning=returning)
        except psycopg.Error as error:
            if not may_repeat or not connection.recovers_from(error, status, was_prepared=True):
                raise
        return super().executemany(query, params_seq, returning=returning)


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
