"""`create_database_engine`: a SQLAlchemy engine for Aurora, with its credentials, TLS, time limits and pool."""

from collections.abc import Callable
from typing import Any, assert_never

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import NullPool
from sqlalchemy.util.concurrency import is_cancellation_exception

from registration_persistence.database.commit_guard import (
    COMMIT,
    driver_connection,
    is_committing,
    set_record_info,
    with_evidence,
)
from registration_persistence.database.commit_resolver import CommitResolver
from registration_persistence.database.connector import Connector
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.dialect import AuroraDialect
from registration_persistence.database.error_redaction import redact_raised_error
from registration_persistence.database.error_translation import is_lost, statement_failure
from registration_persistence.database.events import CommitCause, DatabaseEvent, Events
from registration_persistence.database.liveness import (
    MUST_PROBE,
    REOPEN_CAUSE,
    checkout_check,
    is_reported_writable,
)
from registration_persistence.database.log_redaction import ENGINE_LOGGING_NAME, redact_logs
from registration_persistence.database.login import login_at
from registration_persistence.database.pool import (
    MORE_CONNECTIONS,
    ONE_PER_REQUEST,
    BoundedPool,
    UnpooledConnections,
)
from registration_persistence.database.reader_login import ReaderLogin
from registration_persistence.database.reading_statements import only_reads
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.database.waits import BLOCKING, Waits
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    RegistrationPersistenceError,
    WriterMoved,
)

READS_ONLY = "registration_persistence_reads_only"
"""Execution option of a connection in autocommit that only reads, so that a lost reply leaves no unknown outcome."""

# After these errors the connection is replaced.
_UNUSABLE_AFTER = (CommitOutcomeUnknown, ConnectionLost, WriterMoved)


def create_database_engine(
    settings: DatabaseSettings, credentials: CredentialSource, events: Events | None = None, waits: Waits = BLOCKING
) -> Engine:
    """Return an engine for the database of *settings*; it opens no connection yet.

    The URL has no user and no password: each new connection asks *credentials* for both. Errors of psycopg are
    translated into the errors of this package, see `error_translation`, and never quote parameters or rows. No
    environment variable and no file in the home directory has an effect on the connections.

    Args:
        settings: The settings of the database.
        credentials: The source of user name and password.
        events: Receives the events of the connections. Defaults to a new `Events`.
        waits: The waits of the connections. Defaults to those that block the thread.
    """
    known_events = events or Events()
    engine = _new_engine(settings, waits)
    listen_to(engine, Connector(settings, credentials, known_events, waits=waits))

    def resolving_engine() -> Engine:
        unpooled = _new_engine(settings, waits, poolclass=UnpooledConnections)
        listen_to(unpooled, Connector(settings, credentials, known_events, waits=waits))
        return unpooled.execution_options(isolation_level="AUTOCOMMIT", **{READS_ONLY: True})

    assert isinstance(engine.dialect, AuroraDialect)
    engine.dialect.commit_resolver = CommitResolver(
        None if settings.pool == "proxy" else resolving_engine,
        lambda name, cause, seconds: known_events.emit(DatabaseEvent(name, cause, seconds)),
        limit=settings.connect_timeout,
        sleep=waits.sleep,
    )
    return engine


def create_reader_engine(
    settings: DatabaseSettings, credentials: CredentialSource, events: Events, waits: Waits = BLOCKING
) -> Engine | None:
    """Return an engine whose connections lead to a reader, or to the writer if no reader answers.

    It has a pool of its own, so that no session that writes gets a connection to a reader.

    Args:
        settings: The settings of the database. Without a reader endpoint, the result is `None`.
        credentials: The source of user name and password.
        events: Receives the events of the connections.
        waits: The waits of the connections. Defaults to those that block the thread.
    """
    readers = settings.of_readers()
    if readers is None:
        return None
    from registration_persistence.database.connection_parameters import connection_parameters

    reader_credentials = credentials.for_host(readers.host)
    login = ReaderLogin(
        login_at(readers, reader_credentials, events, waits),
        login_at(settings, credentials, events, waits),
        # If there are no readers, Aurora's endpoint leads to the writer. `prefer-standby` would connect twice then.
        {**connection_parameters(readers), "host": readers.host, "target_session_attrs": "any"},
        reader_credentials,
        events,
    )
    engine = _new_engine(settings, waits)
    listen_to(engine, Connector(settings, credentials, events, login, waits), may_return_to_reader=login.may_return)
    event.listen(engine, "engine_disposed", login.forget_pause)
    return engine


def _new_engine(settings: DatabaseSettings, waits: Waits, **pool: Any) -> Engine:
    redact_logs()
    url = URL.create(waits.driver_name, host=settings.host, port=settings.port, database=settings.name)
    return create_engine(url, **engine_arguments(settings), **(pool or pool_arguments(settings, waits)))


def engine_arguments(settings: DatabaseSettings) -> dict[str, Any]:
    """Return the arguments of `create_engine` but the pool: the connection parameters, and options that hide values."""
    from registration_persistence.database.connection_parameters import connection_parameters

    return {
        "connect_args": connection_parameters(settings),
        "hide_parameters": True,
        "logging_name": ENGINE_LOGGING_NAME,
        "use_native_hstore": False,
    }


def listen_to(engine: Engine, connector: Connector, *, may_return_to_reader: Callable[[], bool] | None = None) -> None:
    """Open the connections of *engine* with *connector*, check each checkout, and translate errors.

    No event of each statement or transaction is listened to, because SQLAlchemy dispatches all of them if there is a
    listener to one: `AuroraDialect` checks statements and commits.

    Args:
        engine: The engine.
        connector: Opens its connections.
        may_return_to_reader: The argument of `checkout_check`, for an engine of readers.
    """
    event.listen(engine, "do_connect", connector)
    connector.serve(engine)
    if isinstance(engine.pool, BoundedPool):  # another one keeps no idle connection
        engine.pool.check = checkout_check(may_return_to_reader=may_return_to_reader)
    event.listen(engine, "handle_error", _translate)


def pool_arguments(settings: DatabaseSettings, waits: Waits = BLOCKING) -> dict[str, Any]:
    """Return the arguments of `create_engine` that select the pool."""
    match settings.pool:
        case "proxy":
            return {"poolclass": UnpooledConnections}
        case "lambda":
            # If only one request is handled at a time, nobody else can return the connection, so waiting is pointless.
            size, timeout, fix = 1, settings.connect_timeout if waits.others_run else 0.0, ONE_PER_REQUEST
        case "service":
            size, timeout, fix = settings.pool_size, settings.connect_timeout, MORE_CONNECTIONS
        case _:
            assert_never(settings.pool)
    return {"poolclass": BoundedPool, "pool_size": size, "pool_timeout": timeout, "waits": waits, "fix": fix}


_MEANING: dict[CommitCause, str] = {
    "kept": "which was kept",
    "not_kept": "which was not kept",
    "unknown": "and it is unknown whether that was kept",
}

# PostgreSQL names only the kind of the statement, and that is SELECT also if a part of it writes.
_READ_ONLY_NOTE = "The service made this transaction read-only: to write, open the session without read_only=True."


def _translate(context: ExceptionContext) -> RegistrationPersistenceError | None:
    """Return the error to raise instead of psycopg's; the handler of SQLAlchemy's event `handle_error`."""
    error, connection = context.original_exception, context.connection
    if is_cancellation_exception(error) and connection is not None:
        _report_cancellation(context, error, connection)
    redact_raised_error(context.sqlalchemy_exception, error)
    if not isinstance(error, psycopg.Error) or connection is None:
        return None
    driver = driver_connection(connection)
    read_only = _reads_only(connection, driver)
    committing = not read_only and _may_commit(connection, driver, context.statement)
    lost = context.is_disconnect or is_lost(error, driver)
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        set_record_info(connection, MUST_PROBE, value=True)
        read_only = read_only or _made_read_only_by_service(connection)
        if read_only and context.sqlalchemy_exception is not None:
            context.sqlalchemy_exception.add_note(_READ_ONLY_NOTE)
    meaning = statement_failure(
        error, lost=lost, committing=committing, read_only=read_only, autocommit=driver.autocommit
    )
    if isinstance(meaning, _UNUSABLE_AFTER):
        set_record_info(connection, REOPEN_CAUSE, "writer_moved" if isinstance(meaning, WriterMoved) else "lost")
        context.is_disconnect = True
    if isinstance(meaning, CommitOutcomeUnknown) and isinstance(connection.dialect, AuroraDialect):
        return with_evidence(meaning, driver, connection.dialect.commit_resolver)
    return meaning


def _reads_only(connection: Connection, driver: psycopg.Connection[Any]) -> bool:
    return bool(driver.read_only) or READS_ONLY in connection.get_execution_options()


def _may_commit(connection: Connection, driver: psycopg.Connection[Any], statement: str | None) -> bool:
    # In autocommit the server commits before it replies, so a lost reply leaves the outcome unknown too.
    in_autocommit = driver.autocommit and not only_reads(statement or "")
    return in_autocommit or is_committing(connection) or statement == COMMIT


def _report_cancellation(context: ExceptionContext, error: BaseException, connection: Connection) -> None:
    """Keep the connection if it has settled the command; report the outcome of one that commits.

    Args:
        context: SQLAlchemy's context of the error.
        error: The `CancelledError` of the task; it gets a note.
        connection: The connection.
    """
    driver: Any = connection.connection.dbapi_connection
    context.is_disconnect = driver is None or is_lost(psycopg.OperationalError(), driver)
    outcome: CommitCause | None = getattr(driver, "cancelled_outcome", None)
    if outcome is None:
        return
    driver.cancelled_outcome = None
    if _reads_only(connection, driver) or not _may_commit(connection, driver, context.statement):
        return
    what = "a statement in autocommit" if driver.autocommit else "COMMIT"
    error.add_note(f"the task was cancelled in {what}, {_MEANING[outcome]}")
    if isinstance(connection.dialect, AuroraDialect) and connection.dialect.commit_resolver is not None:
        connection.dialect.commit_resolver.report(outcome)


def _made_read_only_by_service(connection: Connection) -> bool:
    """Return whether the service itself made the transaction read-only, because the server accepts writes."""
    # A pooler repeats an old report of its server.
    pooled = isinstance(connection.engine.pool, NullPool)
    return not pooled and is_reported_writable(driver_connection(connection))
