"""The login, with the package's own way to connect, and the server that it leads to."""

from typing import Any

from sqlalchemy import URL, Connection, create_engine, text

from registration_persistence.cli.doctor.check import Check, failed, ok, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.cli.doctor.server_state import read_server_state
from registration_persistence.clock import monotonic
from registration_persistence.database import Database
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.connector import Connector
from registration_persistence.database.engine import READS_ONLY, engine_arguments, listen_to
from registration_persistence.database.error_translation import is_read_only_server
from registration_persistence.database.login import LoggedIn, Login, LoginFailed
from registration_persistence.database.pool import UnpooledConnections
from registration_persistence.database.waits import BLOCKING

LOGIN, WRITER, POOLER, READER = "login", "writer", "pooler", "reader"

_IS_READER = text("SELECT pg_is_in_recovery()")


def login_check(facts: Facts) -> Check:
    """Log in as the service does, and read the state of the server with one statement."""
    started = monotonic()
    connection = _connected(facts.database)
    facts.server = read_server_state(connection)
    facts.use_connection(connection)
    server = facts.server
    user = (
        server.session_user
        if server.session_user == server.current_user
        else f"{server.session_user} as {server.current_user}"
    )
    encrypted = "over TLS" if driver_connection(connection).pgconn.ssl_in_use else "without TLS"
    return ok(LOGIN, f"as {user}, {encrypted}, in {(monotonic() - started) * 1000:.0f} ms")


def writer_check(facts: Facts) -> Check:
    """Return whether the server accepts writes."""
    server = facts.server
    assert server is not None
    if server.in_recovery:
        return failed(
            WRITER,
            "the server is a reader (in recovery), so it accepts no writes",
            "set APP_DATABASE_HOST to the cluster endpoint; in a failover, run doctor again in a minute",
        )
    if server.read_only:
        return failed(
            WRITER,
            "the server is the writer, but default_transaction_read_only makes each session read-only",
            "see the check 'settings', which names the place of the setting; if it is set for each login, type SET "
            "default_transaction_read_only = off before the statement of that check",
        )
    return ok(WRITER, "the server accepts writes")


def pooler_check(facts: Facts) -> Check:
    """Return whether a pooler is in front of the server, and whether the settings say so."""
    server, expected = facts.server, facts.settings.pool == "proxy"
    assert server is not None
    # The key for cancelling is made by the pooler, and its process id is no process of the server.
    found = driver_connection(facts.connection).info.backend_pid != server.backend_pid
    if found and not expected:
        return warning(
            POOLER,
            f"a pooler is in front of the server, and APP_DATABASE_POOL is {facts.settings.pool}",
            "set APP_DATABASE_POOL to proxy, because a pooler keeps neither prepared statements nor startup options",
        )
    if expected and not found:
        return ok(POOLER, "APP_DATABASE_POOL is proxy; the server cannot be told from a pooler")
    return ok(POOLER, "a pooler, as APP_DATABASE_POOL says" if found else "none between this process and the server")


def reader_check(facts: Facts) -> Check:
    """Open a read-only session, which uses the reader endpoint."""
    with facts.database.session(read_only=True) as session:
        is_reader = session.execute(_IS_READER).scalar_one()
    host = facts.settings.reader_host
    if is_reader:
        return ok(READER, f"read-only sessions use a reader of {host}")
    return warning(
        READER,
        f"{host} leads to the writer, or does not answer: read-only sessions use the writer",
        "add a reader instance to the cluster, or unset APP_DATABASE_READER_HOST",
    )


def _connected(database: Database) -> Connection:
    """Return a connection in autocommit, as the engine of *database* opens it, also to a server that is read-only.

    Raises:
        RegistrationPersistenceError: The login failed.
    """
    settings, events = database.settings, database.events
    url = URL.create(BLOCKING.driver_name, host=settings.host, port=settings.port, database=settings.name)
    engine = create_engine(url, **engine_arguments(settings), poolclass=UnpooledConnections)
    where = f"{settings.name} at {settings.host}:{settings.port}"
    login = _LoginAtAnyServer(where, database.credentials, events)
    listen_to(engine, Connector(settings, database.credentials, events, login))
    return engine.execution_options(isolation_level="AUTOCOMMIT", **{READS_ONLY: True}).connect()


class _LoginAtAnyServer(Login):
    """A login like that of the service, which keeps a connection that the service would give up: a read-only one."""

    def attempt(self, parameters: dict[str, Any]) -> LoggedIn | LoginFailed:
        """Connect as the service does; if the server is read-only, connect once more and keep the connection.

        Args:
            parameters: psycopg's and libpq's parameters, without user and password.
        """
        outcome = super().attempt(parameters)
        if isinstance(outcome, LoginFailed) and is_read_only_server(outcome.error):
            return super().attempt({**parameters, "target_session_attrs": "any"})
        return outcome
