"""`EvidentConnection`: a psycopg connection that knows what shows whether its transaction was kept."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Self

import psycopg
from psycopg import Transaction, generators, pq
from psycopg.abc import Params, PQGen, Query
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import Row, RowFactory

from registration_persistence.clock import monotonic
from registration_persistence.database.error_redaction import masked_statement
from registration_persistence.database.reading_statements import only_reads
from registration_persistence.database.recoverable_connection import RecoverableConnection, RecoveringCursor
from registration_persistence.evidence import Evidence
from registration_persistence.lazy_pattern import lazy_pattern

_IDLE, _IN_TRANSACTION = pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS
_ROWS, _FAILED = pq.ExecStatus.TUPLES_OK, pq.ExecStatus.FATAL_ERROR

# Empty if the transaction has written nothing yet.
_TRANSACTION_ID = b"SELECT coalesce(CAST(pg_current_xact_id_if_assigned() AS text), '')"

# A function may notify too, and so may a block or a procedure.
_ACTS = lazy_pattern(r"\s*(?:NOTIFY|SELECT|VALUES|WITH|DO|CALL|EXECUTE)\b", re.IGNORECASE)


class EvidentConnection(RecoverableConnection[Row]):
    """A connection that knows its session, and what shows whether its transaction was kept.

    Attributes:
        server_process: The id of the server's process for this session.
        server_user: The user of this session.
        opened_at: The `monotonic()` at which the connection was open.
        asks_for_id: Whether COMMIT asks for the id of the transaction, in the same round trip, if it has no evidence.
            Defaults to true.
        expected_evidence: The evidence of the statement that is sent next.
        evidence: The evidence of a change in the open transaction.
        is_committing: Whether COMMIT may have been sent, so a lost connection leaves the outcome unknown.
        undid_changes: Whether the open transaction returned to a savepoint, so that its evidence may be gone.
        transaction_id: The id of the transaction that is being committed; empty if it wrote nothing. `None`: unknown.
    """

    def __init__(self, pgconn: PGconn, *row_factory: RowFactory[Row]) -> None:
        super().__init__(pgconn, *row_factory)
        self.server_process: int = pgconn.backend_pid
        self.server_user: str = pgconn.user.decode()
        self.opened_at: float = monotonic()
        self.asks_for_id: bool = True
        self.expected_evidence: Evidence | None = None
        self.evidence: Evidence | None = None
        self.is_committing: bool = False
        self.undid_changes: bool = False
        self.transaction_id: str | None = None
        self._may_act_without_id: bool = False
        self.cursor_factory: type[psycopg.Cursor[Row]] = EvidentCursor

    @classmethod
    def own_cursor_class(cls) -> type[psycopg.Cursor[Any]]:
        """Return the class of the cursors, for `connect`, because instrumentation derives its own class from it."""
        return EvidentCursor

    def forget_evidence(self) -> None:
        """Forget the evidence of a transaction that has ended."""
        self.evidence, self.undid_changes, self.transaction_id = None, False, None
        self._may_act_without_id = False

    def note_execution(self, statement: object, results: Sequence[PGresult]) -> None:
        """Note what *statement* and its *results* say about the open transaction.

        A text can end it, return to a savepoint, or do something for which the server gives no id before COMMIT, as
        NOTIFY does.
        """
        if self.expected_evidence is None and not (isinstance(statement, str) and _needs_id(statement)):
            self._may_act_without_id = True
        for result in results:
            status = result.command_status
            if status == b"ROLLBACK":
                self.undid_changes = True
            elif status == b"COMMIT":
                self.forget_evidence()

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Transaction]:  # noqa: FBT001, FBT002 psycopg's signature
        """Return a block that is a transaction or a savepoint; see `psycopg.Connection.transaction`."""
        if self.pgconn.transaction_status == _IDLE:
            self.forget_evidence()
        try:
            with super().transaction(savepoint_name, force_rollback) as transaction:
                yield transaction
        finally:
            self.undid_changes = True

    def _start_query(self) -> PQGen[None]:
        """Begin a transaction if needed; psycopg calls it before each statement of a cursor."""
        if self.pgconn.transaction_status == _IDLE:
            self.forget_evidence()
        return super()._start_query()

    def _commit_gen(self) -> PQGen[None]:
        """Commit; ask for the id of the transaction as well if it has no evidence."""
        has_evidence = self.evidence is not None and not self.undid_changes
        plain = has_evidence or not self.asks_for_id or self._pipeline is not None or self._read_only
        if plain or self.pgconn.transaction_status != _IN_TRANSACTION or self._num_transactions or self._tpc:
            return super()._commit_gen()
        return self._commit_with_id_gen()

    def _commit_with_id_gen(self) -> PQGen[None]:
        """Send the query of the id and COMMIT together; the server sends the id before it commits."""
        pgconn = self.pgconn
        try:
            self.note_sending()
            pgconn.enter_pipeline_mode()
            pgconn.send_query_params(_TRANSACTION_ID, None)
            pgconn.send_flush_request()
            pgconn.send_query_params(b"COMMIT", None)
            pgconn.pipeline_sync()
            results = yield from generators.execute(pgconn)
            if results[0].status == _ROWS:
                found_id = (results[0].get_value(0, 0) or b"").decode()
                self.transaction_id = found_id if found_id or not self._may_act_without_id else None
            results += yield from generators.fetch_many(pgconn)
            yield from generators.fetch_many(pgconn)  # of Sync
        finally:
            self.leave_pipeline_mode()
        for result in results:
            if result.status == _FAILED:
                raise psycopg.errors.error_from_result(result, encoding=pgconn._encoding)  # noqa: SLF001 psycopg has no other


@lru_cache(maxsize=512)
def _needs_id(statement: str) -> bool:
    """Return whether *statement* does nothing unless the server gives its transaction an id."""
    # A tracer puts the name of the service in front, as a comment.
    return not _ACTS.match(masked_statement(statement)) or only_reads(statement)


class EvidentCursor(RecoveringCursor[Row]):
    """A cursor that tells its connection if a statement ended the transaction, or returned to a savepoint."""

    def execute(
        self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        """Execute *query*; see `psycopg.Cursor.execute`."""
        statement: Any = query  # the overload for templates does the same
        super().execute(statement, params, prepare=prepare, binary=binary)
        # Outside of a transaction there is nothing to commit later.
        if self._pgconn.transaction_status != _IDLE:
            connection: Any = self._conn
            connection.note_execution(query, self._results)
        return self
