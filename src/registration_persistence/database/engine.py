"""A SQLAlchemy engine for Aurora: who logs in, over which TLS, with which time limits and how many connections."""

import math
from typing import Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import StatementError
from sqlalchemy.pool import NullPool

from registration_persistence.database.commit_guard import (
    COMMITTING,
    driver_connection,
    forget_commit,
    note,
    prepare_commit,
    refuse_late_statement,
)
from registration_persistence.database.connector import Connector
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.dialect import DRIVER_NAME
from registration_persistence.database.error_translation import statement_failure, without_detail
from registration_persistence.database.events import Events
from registration_persistence.database.liveness import REOPENING, SUSPECT, check_on_checkout, made_read_only_by_itself
from registration_persistence.database.log_redaction import ENGINE_LOGGING_NAME, redact_logs
from registration_persistence.database.pool import BoundedPool
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    RegistrationPersistenceError,
    WriterMoved,
)

# Seconds. A connection that has been silent for half a minute is probed, and given up after three probes.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}

# Milliseconds that sent data may stay unacknowledged. Keepalives do not watch over a query that is under way: on a
# network that drops packets it hung for more than 40 s without this, and failed after 4.4 s with 4000.
_TCP_USER_TIMEOUT = 5_000

READS_ONLY = "registration_persistence_reads_only"
"""The execution option of a connection in autocommit on which a lost answer loses nothing."""

_UNUSABLE_AFTER = (CommitOutcomeUnknown, ConnectionLost, WriterMoved)


def create_database_engine(
    settings: DatabaseSettings, credentials: CredentialSource, events: Events | None = None
) -> Engine:
    """Return an engine that reaches the database of *settings*; opens no connection.

    It reads no environment itself; libpq still reads the PG* variables whose parameters are not given here.

    The URL holds no user and no password: each new connection asks *credentials* for both. Errors of the driver reach
    the caller as the errors of this package where `failures` knows what they mean, and never quote parameters or rows.
    """
    redact_logs()
    engine = create_engine(
        URL.create(DRIVER_NAME, host=settings.host, port=settings.port, database=settings.name),
        connect_args=connection_parameters(settings),
        hide_parameters=True,
        logging_name=ENGINE_LOGGING_NAME,
        use_native_hstore=False,
        **_pool_arguments(settings),
    )
    connector = Connector(settings, credentials, events or Events())
    event.listen(engine, "do_connect", connector)
    event.listen(engine, "engine_disposed", connector.forget_pool)
    check_on_checkout(engine)
    event.listen(engine, "before_cursor_execute", refuse_late_statement)
    event.listen(engine, "handle_error", _translate)
    for moment in ("begin", "rollback"):
        event.listen(engine, moment, forget_commit)
    event.listen(engine, "commit", prepare_commit)
    return engine


def connection_parameters(settings: DatabaseSettings) -> dict[str, Any]:
    """Return psycopg's and libpq's parameters for every connection, the credentials apart."""
    parameters: dict[str, Any] = {
        "sslmode": settings.sslmode,
        "client_encoding": "utf8",
        "gssencmode": "disable",
        "application_name": settings.application_name,
        "connect_timeout": math.ceil(settings.connect_timeout),  # libpq takes whole seconds
        "tcp_user_timeout": _TCP_USER_TIMEOUT,
        "target_session_attrs": "read-write",
        **_KEEPALIVES,
    }
    if settings.root_certificate:
        parameters["sslrootcert"] = str(settings.root_certificate)
    if settings.pool == "proxy":
        # A pooler hands statements of one client to the connection of another, and refuses startup options.
        return parameters | {"prepare_threshold": None}
    limits = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
    }
    # psycopg reads dates in ISO alone, and a role or database may be set to another style.
    options = ["-c datestyle=ISO", *(f"-c {name}={round(limit * 1000)}" for name, limit in limits.items())]
    return parameters | {"options": " ".join(options)}


def _pool_arguments(settings: DatabaseSettings) -> dict[str, Any]:
    if settings.pool == "proxy":
        return {"poolclass": NullPool}
    alone = settings.pool == "lambda"
    return {
        "poolclass": BoundedPool,
        "pool_size": 1 if alone else settings.pool_size,
        "max_overflow": 0,
        # With one connection nobody else could give it back while this thread waits.
        "pool_timeout": 0 if alone else settings.connect_timeout,
    }


def _translate(context: ExceptionContext) -> RegistrationPersistenceError | None:
    error, connection = context.original_exception, context.connection
    if not isinstance(error, psycopg.Error) or connection is None:
        return None
    without_detail(error)
    driver = driver_connection(connection)
    read_only = bool(driver.read_only) or READS_ONLY in connection.get_execution_options()
    # In autocommit the server commits before it answers, so a lost answer says nothing either.
    committing = not read_only and (driver.autocommit or COMMITTING in connection.info)
    # psycopg may see a broken socket before libpq does, which then calls the connection neither closed nor broken.
    lost = context.is_disconnect or driver.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        note(connection, SUSPECT, "a write was refused")
        # A pooler repeats what its server said of itself some time ago.
        pooled = isinstance(connection.engine.pool, NullPool)
        read_only = read_only or (not pooled and made_read_only_by_itself(driver))
    meaning = statement_failure(error, lost=lost, committing=committing, read_only=read_only)
    if meaning is None:
        if context.sqlalchemy_exception is not None:
            context.sqlalchemy_exception.args = (f"({type(error).__name__}) {error}",)
            if isinstance(context.sqlalchemy_exception, StatementError):
                context.sqlalchemy_exception.params = None  # an error tracker would send them
        return None
    if isinstance(meaning, _UNUSABLE_AFTER):
        note(connection, REOPENING, "writer_moved" if isinstance(meaning, WriterMoved) else "lost")
        context.is_disconnect = True
    return meaning
