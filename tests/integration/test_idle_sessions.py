"""`idle_session_timeout`: the server ends the session of a frozen process, and the next request does not fail."""

import dataclasses
import time
from contextlib import ExitStack
from typing import Any

import psycopg
from resilience.outcomes import handler, rows_by_key
from sqlalchemy import text
from sqlalchemy.orm import Session
from support import ADD, wait_for_end

from registration_persistence import Database, DatabaseSettings
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.settings_rules import PoolMode
from registration_persistence.sandbox import PostgresServer, wait_until
from registration_persistence.schema.deployment_lock import schema_connection
from registration_persistence.testing import RegistrationEnvironment, RoundTripCounter, StartLambda

TIMEOUT_SECONDS = 0.3

_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"

_COUNT = "SELECT count(*) FROM outbox"


def wait_until_closed(server: PostgresServer, name: str) -> None:
    """Wait until the database has no session."""
    with server.connect(name) as observer:
        wait_until(lambda: not observer.execute(_SESSIONS, [name]).fetchall(), "the server has ended the sessions")


def test_the_session_of_a_frozen_process_is_closed(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """Its connection slot is free during the freeze, and after the thaw no request fails and no work is repeated."""
    env = registration_environment
    process = lambda_process(handler("sign_up"), environment={"APP_DATABASE_IDLE_SESSION_TIMEOUT": "0.5"})
    before = process.invoke({"key": "before"})
    process.pause()
    try:
        wait_until_closed(env.server, env.name)
        time.sleep(0.3)  # the endpoint forwards the end of the session
    finally:
        process.resume()
    after = process.invoke({"key": "after"})

    assert before["backend"] != after["backend"]
    assert after["events"] == {
        "secret_read: cold": 1,
        "connection_opened: cold": 1,
        "connection_opened: thaw": 1,
    }
    assert rows_by_key(env) == {"before": 1, "after": 1}


def test_a_checkout_replaces_a_closed_session_without_a_round_trip(
    database_settings: DatabaseSettings, postgres_server: PostgresServer, wire: RoundTripCounter
) -> None:
    """It costs as many round trips as the first connection, for each connection of a pool."""
    settings = dataclasses.replace(
        database_settings,
        host="127.0.0.1",
        port=wire.port,
        sslmode="disable",
        pool_size=2,
        idle_session_timeout=1,
    )
    database = Database(settings)
    drivers: list[psycopg.Connection[Any]] = []

    def use_both() -> int:
        with database.session() as first, database.session() as second:
            drivers[:] = [driver_connection(session.connection()) for session in (first, second)]
            for session in (first, second):
                session.execute(text("SELECT 1"))
        return wire.round_trips()

    cold = use_both()
    assert use_both() < cold
    wait_until_closed(postgres_server, settings.name)
    for driver in drivers:
        wait_for_end(driver)

    assert use_both() <= cold
    assert database.events.count("connection_opened", "thaw") == 2
    assert database.events.count("wait") == 0
    database.dispose()


def test_only_a_session_outside_of_a_transaction_is_closed(
    database_settings: DatabaseSettings, postgres_server: PostgresServer
) -> None:
    """A transaction may be idle for longer; in autocommit, `run` repeats an idempotent unit from its beginning."""
    database = Database(dataclasses.replace(database_settings, idle_session_timeout=TIMEOUT_SECONDS))
    with database.session() as session:
        session.execute(text(ADD))
        time.sleep(3 * TIMEOUT_SECONDS)
        assert session.scalar(text(_COUNT)) == 1

    attempts = []

    def idle_once(session: Session) -> None:
        attempts.append(1)
        session.execute(text("DELETE FROM outbox"))
        if len(attempts) == 1:
            wait_until_closed(postgres_server, database_settings.name)
        session.execute(text(ADD))

    database.run(idle_once, idempotent=True, autocommit=True)

    assert len(attempts) == 2
    with postgres_server.connect(database_settings.name) as observer:
        assert observer.execute(_COUNT).fetchone() == (1,)
    assert database.events.count("retry", "connection_lost") == 1
    database.dispose()


def test_a_session_that_is_idle_after_a_pipeline_is_closed(
    database_settings: DatabaseSettings, postgres_server: PostgresServer
) -> None:
    """The end of a pipeline, which `executemany` uses too, leaves the timeout running."""
    database = Database(dataclasses.replace(database_settings, idle_session_timeout=TIMEOUT_SECONDS, pool_size=3))
    with ExitStack() as sessions:
        drivers = [
            driver_connection(sessions.enter_context(database.session(autocommit=True)).connection()) for _ in range(3)
        ]
        drivers[0].cursor().executemany("SELECT %s::int", [(1,), (2,)])
        drivers[1].cursor().executemany("SELECT %s::int", [(1,), (2,)], returning=True)
        with drivers[2].pipeline():
            drivers[2].execute("SELECT 1").fetchone()
        wait_until_closed(postgres_server, database_settings.name)
    database.dispose()


def test_the_limit_of_the_server_applies_if_none_is_set(
    database_settings: DatabaseSettings, postgres_server: PostgresServer
) -> None:
    """By default, and through a pooler, none is sent; a migration is never ended while it is idle."""
    with postgres_server.connect() as admin:
        admin.execute(f"ALTER DATABASE {database_settings.name} SET idle_session_timeout = '90s'")

    cases: list[tuple[PoolMode, int, str]] = [("service", 0, "90s"), ("service", 60, "1min"), ("proxy", 60, "90s")]
    for pool, seconds, expected in cases:
        database = Database(dataclasses.replace(database_settings, pool=pool, idle_session_timeout=seconds))
        with database.session() as session:
            assert session.scalar(text("SHOW idle_session_timeout")) == expected
        with schema_connection(database, name="test") as connection:
            assert connection.scalar(text("SHOW idle_session_timeout")) == "0"
        database.dispose()
