"""`proxy` mode behind PgBouncer in transaction mode, which is stricter than RDS Proxy: it fails instead of pinning."""

import random
import secrets
import shutil
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from poolers import open_pgbouncer
from resilience.outcomes import assert_exact, failures, handler, rows_by_key, run_all
from rogue_server import message
from sqlalchemy import event, text
from sqlalchemy.orm import Session
from support import ADD, OneLossProxy

from registration_persistence import Database, DatabaseSettings, RegistrationRepository
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.errors import CommitOutcomeUnknown, ConnectionLost
from registration_persistence.outcomes import Replayed
from registration_persistence.sandbox import TcpProxy, wait_until
from registration_persistence.testing import RegistrationEnvironment, StartLambda

UNITS = 10_000
PROCESSES = 4


@contextmanager
def open_pooler(
    environment: RegistrationEnvironment, folder: Path, *, server_port: int | None = None, options: str = ""
) -> Iterator[int]:
    """Run PgBouncer with three server connections for the service's database, and yield its port."""
    secret = environment.secrets_manager.read(environment.arn)
    server = replace(
        environment.server,
        port=server_port or environment.server.port,
        user=secret["username"],
        password=secret["password"],
    )
    with open_pgbouncer(server, environment.name, folder, options=options) as port:
        yield port


@pytest.fixture
def pooler_folder() -> Iterator[Path]:
    """An empty folder for the files of PgBouncer."""
    folder = Path("/tmp") / f"registration-pooler-{secrets.token_hex(4)}"  # noqa: S108 other users cannot read the folders of pytest
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def pooler(registration_environment: RegistrationEnvironment, pooler_folder: Path) -> Iterator[dict[str, str]]:
    """The variables with which a service reaches its database through PgBouncer."""
    with open_pooler(registration_environment, pooler_folder) as port:
        yield {"APP_DATABASE_PORT": str(port), "APP_DATABASE_POOL": "proxy"}


@pytest.mark.nightly
def test_ten_thousand_units_without_an_error(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, pooler: dict[str, str]
) -> None:
    """Four processes share three server connections, and none sees session state of another."""
    processes = [lambda_process(handler("units"), environment=pooler, timeout=300) for _ in range(PROCESSES)]
    for process in processes:
        process.wait_ready()
    for process in processes:
        process.start({"name": process.name, "units": UNITS // PROCESSES})
    results = run_all(processes)

    assert UNITS == sum(result["units"] for result in results)
    assert [] == failures(results)
    assert_exact(registration_environment, results)
    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_no_state_stays_in_the_servers_session(
    registration_environment: RegistrationEnvironment, pooler: dict[str, str]
) -> None:
    """After every kind of session, there is no prepared statement, startup option, setting or lock."""
    database = Database(registration_environment.settings(**pooler))
    query = (
        "SELECT (SELECT count(*) FROM pg_prepared_statements),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),"
        " current_setting('statement_timeout'), current_setting('default_transaction_read_only'),"
        " current_setting('transaction_isolation')"
    )
    seen = set()
    for number in range(12):
        with database.session(**[{}, {"autocommit": True}, {"read_only": True}][number % 3]) as session:
            for _ in range(7):
                RegistrationRepository(session).find_by_email("ada@example.com")
        with database.session() as session:
            seen.add(tuple(session.execute(text(query)).one()))

    assert seen == {(0, 0, "0", "off", "read committed")}
    first = database.run(lambda session: RegistrationRepository(session).register("a@example.com", idempotency_key="a"))
    again = database.run(lambda session: RegistrationRepository(session).register("a@example.com", idempotency_key="a"))
    assert isinstance(again, Replayed)
    assert first.registration.id == again.registration.id


def test_prepared_statements_survive_a_change_of_the_servers_session(
    registration_environment: RegistrationEnvironment, pooler: dict[str, str]
) -> None:
    """If statements are prepared behind a pooler, each one that the assigned session does not have is sent again."""
    env = registration_environment
    secret = env.secrets_manager.read(env.arn)
    connections = [
        BoundedConnection[Any].connect(
            host="127.0.0.1",
            port=int(pooler["APP_DATABASE_PORT"]),
            dbname=env.name,
            user=secret["username"],
            password=secret["password"],
            autocommit=True,
        )
        for _ in range(6)
    ]
    for number in range(120):
        for autocommit in (True, False):
            connection = random.choice(connections)  # noqa: S311 not for cryptography
            connection.autocommit = autocommit
            for query in (f"SELECT %s::int + {number % 3}", "SELECT %s::int"):
                assert connection.execute(query, [1], prepare=number > 20 or None).rowcount == 1
                connection.commit()
    for connection in connections:
        connection.close()


def test_a_pooler_that_nobody_declared_invents_no_outcome(
    registration_environment: RegistrationEnvironment, pooler: dict[str, str]
) -> None:
    """The process id of the session is the pooler's, so that no session with this id shows that ours has ended."""
    with OneLossProxy("127.0.0.1", int(pooler["APP_DATABASE_PORT"])) as proxy:
        here = {"APP_DATABASE_PORT": str(proxy.port), "APP_DATABASE_POOL": "lambda"}
        database = Database(registration_environment.settings(**here))
        with pytest.raises(CommitOutcomeUnknown, match="a pooler is between"), database.session() as session:
            RegistrationRepository(session).register("ada@example.com")
            event.listen(session, "before_commit", lambda _session: proxy.lose_next_reply(), once=True)
        database.dispose()

    assert rows_by_key(registration_environment) == {"ada": 1}


def sign_up(session: Session) -> object:
    """Register a person, without an idempotency key."""
    return RegistrationRepository(session).register("ada@example.com")


def insert(session: Session) -> object:
    """Execute a statement of a service."""
    return session.execute(text(ADD))


def test_a_statement_that_waits_too_long_for_a_session_is_retryable(
    registration_environment: RegistrationEnvironment, pooler_folder: Path
) -> None:
    """PgBouncer refuses it without passing it on, so its outcome is known, in autocommit too."""
    options = "default_pool_size = 1\nquery_wait_timeout = 1\n"
    with (
        open_pooler(registration_environment, pooler_folder, options=options) as port,
        ThreadPoolExecutor() as threads,
    ):
        here = {"APP_DATABASE_PORT": str(port), "APP_DATABASE_POOL": "proxy"}
        database = Database(registration_environment.settings(**here))
        with database.session() as session:
            session.execute(text("SELECT 1"))  # the one session of the server is in this transaction
            for autocommit, work in [(True, insert), (False, insert), (True, sign_up)]:
                with (
                    pytest.raises(ConnectionLost, match="query_wait_timeout"),
                    database.session(autocommit=autocommit) as other,
                ):
                    work(other)
            repeated = threads.submit(database.run, sign_up, autocommit=True)
            wait_until(lambda: database.events.count("retry", "connection_lost"), "the statement is refused")
        repeated.result()

    assert rows_by_key(registration_environment) == {"ada": 1}
    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM outbox WHERE type = 'test'").fetchone() == (0,)


def test_a_statement_without_a_server_is_retryable(
    registration_environment: RegistrationEnvironment, pooler_folder: Path
) -> None:
    """If PgBouncer cannot reach the server, the outcome of a statement in autocommit is known."""
    environment, options = registration_environment, "query_wait_timeout = 1\n"
    with (
        TcpProxy(environment.server.host, environment.server.port) as server,
        open_pooler(environment, pooler_folder, server_port=server.port, options=options) as port,
        ExitStack() as open_sessions,
    ):
        sessions = []
        for mode in ("proxy", "lambda"):  # a pooler that is declared, and one that is not
            here = {"APP_DATABASE_PORT": str(port), "APP_DATABASE_POOL": mode}
            database = Database(environment.settings(**here))
            open_sessions.callback(database.dispose)
            sessions.append(open_sessions.enter_context(database.session(autocommit=True)))
            sessions[-1].execute(text("SELECT 1"))
        server.stop_accepting()
        server.cut()
        wait_until(lambda: "server conn" in (pooler_folder / "log").read_text(), "PgBouncer notices the loss")
        for session in sessions:
            with pytest.raises(ConnectionLost, match=r"server login has been failing|query_wait_timeout"):
                insert(session)
            session.rollback()


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        ("Timed-out waiting to acquire database connection", ConnectionLost),  # RDS Proxy
        ("timed out waiting to acquire database connection", ConnectionLost),
        ("pgbouncer cannot connect to server", ConnectionLost),
        ("query timeout", CommitOutcomeUnknown),  # PgBouncer passed the statement on
    ],
)
def test_the_text_of_a_pooler_decides(refusal: str, expected: type[Exception]) -> None:
    """Only a text that a pooler uses before it passes a statement on is known to have kept nothing."""
    with refusing_pooler(refusal) as port:
        address: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "name": "x",
            "user": "x",
            "password": "x",
            "sslmode": "disable",
        }
        database = Database(DatabaseSettings(environment="test", pool="proxy", **address))
        with pytest.raises(expected, match=refusal), database.session(autocommit=True) as session:
            insert(session)


def test_an_error_of_the_server_with_the_text_of_a_pooler_is_no_refusal(
    registration_environment: RegistrationEnvironment,
) -> None:
    """A function of the database may raise any text, after it has changed something."""
    database = Database(registration_environment.settings())
    statement = "DO $$ BEGIN COMMIT; RAISE EXCEPTION 'query_wait_timeout' USING ERRCODE = '08P01'; END $$"
    with pytest.raises(CommitOutcomeUnknown), database.session(autocommit=True) as session:
        session.execute(text(statement))
    database.dispose()


@contextmanager
def refusing_pooler(refusal: str) -> Iterator[int]:
    """Run a stand-in for a pooler that accepts every login and refuses every statement, and yield its port."""
    parameters = {b"server_version": b"16.1", b"in_hot_standby": b"off", b"default_transaction_read_only": b"off"}
    login = message(b"R", struct.pack("!i", 0)) + b"".join(
        message(b"S", name + b"\0" + value + b"\0") for name, value in parameters.items()
    )
    error = b"".join([b"SFATAL\0VFATAL\0C08P01\0M", refusal.encode(), b"\0\0"])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with suppress(OSError), client:
                        client.settimeout(5)
                        while b"user" not in client.recv(4096):
                            client.sendall(b"N")  # a request for TLS or GSS
                        client.sendall(login + message(b"Z", b"I"))
                        client.recv(4096)
                        client.sendall(message(b"E", error))

        Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
