"""`LazyBeginConnection`: a psycopg connection that sends BEGIN together with the first statement of a transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import Pipeline, generators, pq
from psycopg._preparing import Prepare
from psycopg._queries import PostgresQuery
from psycopg.abc import Params, PQGen, Query, QueryNoTemplate
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import Row

from registration_persistence.unit_of_work import Hooks

_IDLE = pq.TransactionStatus.IDLE
_CONNECTED = pq.ConnStatus.OK
_FAILED, _SKIPPED, _SYNC = pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED, pq.ExecStatus.PIPELINE_SYNC

# psycopg caches the conversion of texts up to this length too.
_MAX_CACHED_LENGTH = 4096


class LazyBeginConnection(psycopg.Connection[Row]):
    """A connection that sends BEGIN together with the first statement, so that BEGIN takes no round trip of its own.

    `execute` sends both in libpq's pipeline mode, in one flight with one Sync at its end; `executemany` has a pipeline
    anyway. If BEGIN fails, the server skips all that follows. BEGIN is sent by itself, as psycopg does it, before COPY,
    before a text that may hold several statements, in a block of `pipeline` or `transaction`, and by cursors of other
    classes, such as those on the server.

    Attributes:
        joins_begin: Whether BEGIN is sent with the first statement. Defaults to true.
    """

    joins_begin: bool = True

    # Whether a command was sent, and the wait for its reply has not begun.
    has_sent: bool = False

    # Whether a pipeline has sent something, and has received no reply since then.
    is_awaiting_reply: bool = False

    # Whether the running command of a cursor sends a missing BEGIN by itself. It changes only while `lock` is held.
    begins_with_statement: bool = False

    def _start_query(self) -> PQGen[None]:
        """Begin a transaction if needed; psycopg calls it before each statement of a cursor."""
        begins_with_statement, self.begins_with_statement = self.begins_with_statement, False
        return self._queue_begin_gen() if begins_with_statement else super()._start_query()

    def note_sending(self) -> None:
        """Note that a command is sent."""
        self.has_sent = True

    def begin_round_trip(self) -> None:
        """Count a round trip, unless it is that of a pipeline which has received no reply yet."""
        self.has_sent = False
        if self._pipeline is None or not self.is_awaiting_reply:
            self.is_awaiting_reply = self._pipeline is not None
            if Hooks.round_trip is not None:
                Hooks.round_trip()

    def _exec_command(self, command: QueryNoTemplate, result_format: pq.Format = pq.Format.TEXT) -> PQGen[Any]:
        """Send a command of psycopg itself, such as COMMIT."""
        self.has_sent = True
        return super()._exec_command(command, result_format)

    def _queue_begin_gen(self) -> PQGen[None]:
        """Queue the missing BEGIN of a pipeline; otherwise the statement sends it."""
        if self._pipeline is not None and (begin := self.missing_begin()) is not None:
            yield from self._exec_command(begin)

    def set_autocommit(self, value: bool) -> None:  # noqa: FBT001 psycopg's signature
        """Switch autocommit; without a wait if no transaction is open, because nothing is sent."""
        if self._is_idle():
            self._autocommit = bool(value)
        else:
            super().set_autocommit(value)

    def set_isolation_level(self, value: psycopg.IsolationLevel | None) -> None:
        """Set the isolation level of the next transactions."""
        if value != self._isolation_level or not self._is_idle():
            super().set_isolation_level(value)

    def commit(self) -> None:
        """Commit; without a wait if no transaction is open."""
        if not self._is_idle():
            super().commit()

    def _is_idle(self) -> bool:
        """Return whether there is nothing to commit, to roll back or to read."""
        return self.pgconn.transaction_status == _IDLE and not (self._pipeline or self._num_transactions or self._tpc)

    def missing_begin(self) -> bytes | None:
        """Return the BEGIN that has to precede the next statement; `None` if there is none."""
        if self._autocommit or self.pgconn.transaction_status != _IDLE:
            return None
        return self._get_tx_start_command()

    def begin_gen(self) -> PQGen[None]:
        """Send the missing BEGIN by itself."""
        return super()._start_query()

    def leave_pipeline_mode(self) -> None:
        """Leave libpq's pipeline mode; close the connection if there is more to read."""
        if self.pgconn.status == _CONNECTED:
            try:
                self.pgconn.exit_pipeline_mode()
            except psycopg.OperationalError:
                self.close()

    @contextmanager
    def _pipeline_nolock(self) -> Iterator[Pipeline]:
        """Return the pipeline of `executemany`, which holds the lock; BEGIN is its first command."""
        from registration_persistence.database.bounded_pipeline import BoundedPipeline  # few services use pipelines

        try:
            self._pipeline = BoundedPipeline(self, _no_lock=True)
            self.begins_with_statement = self.joins_begin
            with self._pipeline as pipeline:
                yield pipeline
        finally:
            self.begins_with_statement = False
            self._pipeline = None
            self.leave_pipeline_mode()


class LazyBeginCursor(psycopg.Cursor[Row]):
    """A cursor of `LazyBeginConnection`."""

    def _execute_send(self, query: PostgresQuery, *, force_extended: bool = False, binary: bool | None = None) -> None:
        connection: Any = self._conn
        connection.has_sent = True
        super()._execute_send(query, force_extended=force_extended, binary=binary)

    def _send_prepare(self, name: bytes, query: PostgresQuery) -> None:
        connection: Any = self._conn
        connection.has_sent = True
        super()._send_prepare(name, query)

    def _send_query_prepared(self, name: bytes, pgq: PostgresQuery, *, binary: bool | None = None) -> None:
        connection: Any = self._conn
        connection.has_sent = True
        super()._send_query_prepared(name, pgq, binary=binary)

    def _execute_gen(
        self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        connection: Any = self._conn
        # The property `autocommit` takes a call.
        if not connection._autocommit and connection.joins_begin and connection._pipeline is None:  # noqa: SLF001 see above
            begin = connection.missing_begin()
            if begin is not None:
                return self._begin_and_execute_gen(begin, query, params, prepare=prepare, binary=binary)
        return super()._execute_gen(query, params, prepare=prepare, binary=binary)

    def _begin_and_execute_gen(
        self, begin: bytes, query: Query, params: Params | None, *, prepare: bool | None, binary: bool | None
    ) -> PQGen[None]:
        """Do what psycopg's `_execute_gen` does, but send *begin*, the preparation and the statement together."""
        connection: Any = self._conn
        prepared = connection._prepared  # noqa: SLF001 psycopg has no other
        try:
            connection.begins_with_statement = True
            yield from self._start_query(query)
        finally:
            connection.begins_with_statement = False
        statement = self._convert_query(query, params)
        if _is_one_command(statement):
            kind, name = prepared.get(statement, prepare)
            try:
                failure = self._queue(begin, kind, name, statement, binary=binary)
                replies = yield from _replies_gen(self._pgconn)
            finally:
                connection.leave_pipeline_mode()
            if failure is not None:
                raise failure
            results = replies[-1]
            if results[0].status == _SKIPPED:
                for reply in replies:
                    self._check_results(reply)
            key = prepared.maybe_add_to_cache(statement, kind, name)
            if key is not None:
                prepared.validate(key, kind, name, results)
            self._check_results(results)
            self._set_results(results)
        else:
            yield from connection.begin_gen()
            yield from self._maybe_prepare_gen(statement, prepare=prepare, binary=binary)
        self._last_query = query
        yield from prepared.maintain_gen(connection)

    def _queue(
        self, begin: bytes, kind: Prepare, name: bytes, statement: PostgresQuery, *, binary: bool | None
    ) -> psycopg.Error | None:
        """Enter pipeline mode, and queue *begin*, *statement* and Sync; return the error of libpq if it refuses one."""
        pgconn, failure = self._pgconn, None
        pgconn.enter_pipeline_mode()
        try:
            pgconn.send_query_params(begin, None)
            if kind is Prepare.NO:
                self._execute_send(statement, force_extended=True, binary=binary)
            else:
                if kind is Prepare.SHOULD:
                    self._send_prepare(name, statement)
                self._send_query_prepared(name, statement, binary=binary)
        except psycopg.Error as error:  # for example, libpq refuses 65,536 parameters
            failure = error
        pgconn.pipeline_sync()
        return failure


def _replies_gen(pgconn: PGconn) -> PQGen[list[list[PGresult]]]:
    """Read the replies to the commands before Sync; if the connection is lost, those up to the one that says why."""
    replies: list[list[PGresult]] = []
    try:
        results = yield from generators.execute(pgconn)  # it flushes too
        while results and results[0].status != _SYNC:
            replies.append(results)
            results = yield from generators.fetch_many(pgconn)
    except psycopg.OperationalError:
        if not _ends_with_failure(replies):
            raise
    else:
        if not results and not _ends_with_failure(replies):
            raise psycopg.OperationalError(f"the connection is lost: {pgconn.get_error_message()}")
    return replies


def _ends_with_failure(replies: list[list[PGresult]]) -> bool:
    return bool(replies) and replies[-1][-1].status == _FAILED


def _is_one_command(pgq: PostgresQuery) -> bool:
    """Return whether *pgq* can be sent in pipeline mode, which knows neither COPY nor several commands in one text."""
    check = _is_one_command_cached if len(pgq.query) <= _MAX_CACHED_LENGTH else _is_one_command_text
    return check(pgq.query, has_parameters=bool(pgq.params))


def _is_one_command_text(query: bytes, *, has_parameters: bool) -> bool:
    command = query.lstrip()
    while command.startswith(b"/*"):  # a tracer puts the name of the service in front
        command = command.partition(b"*/")[2].lstrip()
    # The server refuses parameters in a text of several commands.
    several = not has_parameters and b";" in command.rstrip(b"; \t\r\n")
    return not several and b"copy" not in command.lower()


_is_one_command_cached = lru_cache(maxsize=512)(_is_one_command_text)
