"""`AuroraDialect`: SQLAlchemy's dialect for psycopg, without round trips when an engine connects first."""

from collections.abc import Mapping
from functools import partial
from operator import methodcaller
from typing import Any, cast

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext, IsolationLevel
from sqlalchemy.pool import PoolProxiedConnection

from registration_persistence.database.commit_guard import (
    COMMIT,
    check_statement,
    forget_commit,
    prepare_commit,
    prepare_second_phase,
    refuse_second_change,
    settle_failed_commit,
)
from registration_persistence.database.commit_resolver import CommitResolver
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.events import Events
from registration_persistence.database.evident_connection import EvidentConnection
from registration_persistence.database.reading_statements import only_reads
from registration_persistence.database.waits import DRIVER_NAME
from registration_persistence.unit_of_work import KEPT, SESSION, UNIT_INFO, unit_info

_IDLE = psycopg.pq.TransactionStatus.IDLE


class AuroraDialect(PGDialect_psycopg):
    """The dialect `postgresql+psycopg` without its six round trips on an engine's first connection.

    They would slow down a cold start. SQLAlchemy also makes them outside of `handle_error`, so an error of a connection
    that breaks during them would not be translated.
    """

    supports_statement_cache = True

    _MODES = frozenset({"isolation_level", "postgresql_readonly", "postgresql_deferrable"})
    _LEVELS = frozenset({"AUTOCOMMIT", "READ COMMITTED", "READ UNCOMMITTED", "REPEATABLE READ", "SERIALIZABLE"})

    commit_resolver: CommitResolver | None = None
    """Finds out what became of a COMMIT whose reply was lost; `None` for an engine that only reads."""

    events: Events | None = None
    """The events of the database, whose observers are told of the calls of repositories."""

    def set_engine_execution_options(self, engine: Engine, opts: Mapping[str, Any]) -> None:
        """Apply the options of *engine* that change the mode of its connections to each connection.

        SQLAlchemy would listen to `engine_connect`, and then dispatch all events of each statement and transaction.
        """
        all_options = {**engine.get_execution_options(), **opts}
        modes = {name: all_options[name] for name in self._MODES & all_options.keys()}
        if modes == {"isolation_level": "AUTOCOMMIT"} and self._on_connect_isolation_level is None:
            vars(engine)["raw_connection"] = partial(self._connect_in_autocommit, engine)
        elif modes:
            vars(engine)["raw_connection"] = partial(self._connect_in_mode, engine, modes)
        super().set_engine_execution_options(engine, {name: opts[name] for name in opts.keys() - self._MODES})

    def _connect_in_mode(self, engine: Engine, modes: Mapping[str, Any]) -> PoolProxiedConnection:
        """Check out a connection of *engine*, and set *modes* until it is returned."""
        connection: Any = type(engine).raw_connection(engine)
        record, driver = connection._connection_record, connection.dbapi_connection  # noqa: SLF001 as SQLAlchemy does it
        record.finalize_callback.append(partial(self._reset_characteristics, modes))
        try:
            for name, value in modes.items():
                self.connection_characteristics[name].set_characteristic(self, driver, value)
        except BaseException:
            connection.close()
            raise
        return cast("PoolProxiedConnection", connection)

    def _connect_in_autocommit(self, engine: Engine) -> PoolProxiedConnection:
        """Check out a connection of *engine*, which is in autocommit until it is returned; fewer calls than a mode."""
        connection: Any = type(engine).raw_connection(engine)
        connection._connection_record.finalize_callback.append(_leave_autocommit)  # noqa: SLF001 as SQLAlchemy does it
        try:
            connection.dbapi_connection.set_autocommit(True)
        except BaseException:
            connection.close()
            raise
        return cast("PoolProxiedConnection", connection)

    def _assert_and_set_isolation_level(self, dbapi_conn: Any, level: str) -> None:
        base: Any = super()
        if level in self._LEVELS:
            base.set_isolation_level(dbapi_conn, level)
        else:
            base._assert_and_set_isolation_level(dbapi_conn, level)  # noqa: SLF001 it raises the error

    def do_begin(self, dbapi_connection: PoolProxiedConnection) -> None:
        """Note that a transaction begins; psycopg sends BEGIN."""
        driver: Any = dbapi_connection.dbapi_connection  # a call on the proxy looks the method up by name
        driver.is_committing = False

    def do_rollback(self, dbapi_connection: PoolProxiedConnection) -> None:
        """Roll back."""
        driver: Any = dbapi_connection.dbapi_connection
        driver.is_committing = False
        if not (self.skip_autocommit_rollback and driver.autocommit):
            dbapi_connection.rollback()

    def do_execute(
        self, cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext | None = None
    ) -> None:
        """Execute *statement*, unless it would be too late or keep nothing."""
        if remaining() <= 0 or statement == COMMIT or (context and UNIT_INFO in context.execution_options):
            _check(statement, context)
        cursor.execute(statement, parameters)
        _record(cursor, statement, context)

    def do_execute_no_params(
        self, cursor: DBAPICursor, statement: str, context: ExecutionContext | None = None
    ) -> None:
        """Execute *statement*, unless it would be too late or keep nothing."""
        _check(statement, context)
        cursor.execute(statement)
        _record(cursor, statement, context)

    def do_executemany(
        self, cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext | None = None
    ) -> None:
        """Execute *statement* with each of *parameters*, unless it would be too late."""
        _check(statement, context)
        cursor.executemany(statement, parameters)
        _record(cursor, statement, context)

    def do_begin_twophase(self, connection: Connection, xid: str) -> None:
        """Begin a two-phase transaction."""
        forget_commit(connection.connection)
        cast(Any, super()).do_begin_twophase(connection, xid)

    def do_rollback_twophase(self, connection: Connection, xid: str, *phase: bool, **options: bool) -> None:
        """Roll back a two-phase transaction."""
        forget_commit(connection.connection)
        cast(Any, super()).do_rollback_twophase(connection, xid, *phase, **options)

    def do_commit_twophase(self, connection: Connection, xid: str, *phase: bool, **options: bool) -> None:
        """Commit a two-phase transaction."""
        prepare_second_phase(connection)
        cast(Any, super()).do_commit_twophase(connection, xid, *phase, **options)

    def do_commit(self, dbapi_connection: PoolProxiedConnection) -> None:
        """Commit; if the reply is lost, find out whether the transaction was kept."""
        driver: Any = dbapi_connection.dbapi_connection
        if _is_idle(driver):  # as in autocommit, or after a statement COMMIT
            return
        prepare_commit(dbapi_connection)
        try:
            driver.commit()
        except psycopg.Error as error:
            settle_failed_commit(dbapi_connection, error, self.commit_resolver)

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = _driver(connection).info.server_version
        return version // 10_000, version % 10_000

    def _get_default_schema_name(self, connection: Connection) -> str:  # noqa: ARG002 SQLAlchemy's signature
        # Only reflection reads it, and the migrations ask the server instead.
        return "public"

    def get_default_isolation_level(self, dbapi_conn: Any) -> IsolationLevel:
        """Return the level that `create_engine` has set for each connection, or PostgreSQL's default."""
        level = dbapi_conn.isolation_level
        return cast("IsolationLevel", level.name.replace("_", " ")) if level is not None else "READ COMMITTED"

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        """Return to the level that `create_engine` has set, or to the one that the server has configured.

        It leaves autocommit, and takes no round trip.
        """
        level = self._on_connect_isolation_level
        dbapi_conn.set_autocommit(level == "AUTOCOMMIT")
        in_driver = None if level in (None, "AUTOCOMMIT") else psycopg.IsolationLevel[level.replace(" ", "_")]
        if dbapi_conn.isolation_level != in_driver:
            dbapi_conn.set_isolation_level(in_driver)

    def _set_backslash_escapes(self, connection: Connection) -> None:
        status = _driver(connection).info.parameter_status("standard_conforming_strings")
        self._backslash_escapes = status == "off"


_leave_autocommit = methodcaller("set_autocommit", False)  # noqa: FBT003 psycopg's signature


def _check(statement: str, context: ExecutionContext | None) -> None:
    if context is None:
        return
    if UNIT_INFO in context.execution_options:
        refuse_second_change(context.root_connection, statement)
    check_statement(context.root_connection, statement)


def _record(cursor: DBAPICursor, statement: str, context: ExecutionContext | None) -> None:
    """Record in its unit of work that *statement* was kept, if it is in autocommit.

    A repository records its own changes, and knows whether a statement changed anything.
    """
    driver: Any = cursor.connection
    if not driver.autocommit or context is None or not isinstance(driver, EvidentConnection):
        return
    belongs_to_unit = UNIT_INFO in context.execution_options or hasattr(driver, SESSION)
    if belongs_to_unit and driver.expected_evidence is None and not only_reads(statement):
        unit_info(context.root_connection)[KEPT] = True


def _is_idle(driver: Any) -> bool:
    """Return whether there is nothing to commit, and no reply to read."""
    pgconn = driver.pgconn
    return bool(pgconn.transaction_status == _IDLE and not pgconn.pipeline_status)


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


registry.register(DRIVER_NAME.replace("+", "."), __name__, AuroraDialect.__name__)
