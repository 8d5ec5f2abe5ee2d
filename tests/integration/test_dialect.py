"""Tests of the dialect, which sends no initial queries and yet has the values that SQLAlchemy would have queried."""

import dataclasses

import pytest
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError

from registration_persistence import Database, DatabaseSettings
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.pool import BoundedPool
from registration_persistence.errors import ConnectionLost
from registration_persistence.sandbox import PostgresServer, TcpProxy
from registration_persistence.testing import RoundTripCounter


def test_a_cold_start_is_three_round_trips_and_the_statement(database_settings: DatabaseSettings) -> None:
    """The startup packet and the password take three round trips; SQLAlchemy's own dialect takes at least ten."""
    with RoundTripCounter(database_settings.host, database_settings.port) as wire:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=wire.port, sslmode="disable")
        database = Database(dataclasses.replace(here, pool="lambda"))
        with database.session(autocommit=True) as session:
            session.execute(text("SELECT 1"))
        ours = wire.round_trips()
        database.dispose()
        wire.round_trips()
        plain = create_engine(
            f"postgresql+psycopg://{here.user}:{here.password}@127.0.0.1:{wire.port}/{here.name}?sslmode=disable"
        )
        with plain.connect() as connection:
            connection.execute(text("SELECT 1"))
        theirs = wire.round_trips()
        plain.dispose()

    assert ours == 4
    assert theirs >= 10


def test_the_initial_values_are_those_of_sqlalchemy(database: Database, database_settings: DatabaseSettings) -> None:
    """Version, schema and escapes equal the values that SQLAlchemy's own dialect finds."""
    database.ping()
    here = database_settings
    theirs = create_engine(f"postgresql+psycopg://{here.user}:{here.password}@{here.host}:{here.port}/{here.name}")
    theirs.connect().close()
    facts = ("server_version_info", "default_schema_name", "default_isolation_level", "_backslash_escapes", "driver")

    assert [getattr(theirs.dialect, fact) for fact in facts] == [
        getattr(database.engine.dialect, fact) for fact in facts
    ]
    theirs.dispose()


def test_the_isolation_level_of_the_database_is_kept(
    database_settings: DatabaseSettings, postgres_server: PostgresServer
) -> None:
    """A transaction has the isolation level of the database, also after autocommit."""
    with postgres_server.connect() as connection:
        setting = "default_transaction_isolation = 'serializable'"
        connection.execute(f"ALTER DATABASE {database_settings.name} SET {setting}")
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    for _ in range(2):
        with database.session() as session:
            assert session.scalar(text("SHOW transaction_isolation")) == "serializable"
        with database.session(autocommit=True) as session:
            session.execute(text("SELECT 1"))
    database.dispose()


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ", "AUTOCOMMIT", None])
def test_the_isolation_level_of_the_engine_is_restored(postgres_server: PostgresServer, level: str | None) -> None:
    """After a connection with another level, the next one has the level that `create_engine` was given."""
    server = postgres_server
    seen: dict[str, list[object]] = {}
    for driver in ("psycopg", "psycopg_aurora"):
        url = URL.create(f"postgresql+{driver}", server.user, server.password, server.host, server.port, "postgres")
        engine = create_engine(url, pool_size=1, max_overflow=0, **({"isolation_level": level} if level else {}))
        seen[driver] = []
        for options in ({}, {"isolation_level": "READ COMMITTED"}, {}, {"isolation_level": "AUTOCOMMIT"}, {}):
            with engine.connect().execution_options(**options) as connection:
                seen[driver] += [
                    connection.scalar(text("SHOW transaction_isolation")),
                    connection.get_isolation_level(),
                    connection.default_isolation_level,
                    driver_connection(connection).autocommit,
                ]
        engine.dispose()

    assert seen["psycopg"] == seen["psycopg_aurora"]


def test_a_failure_while_the_dialect_is_initialised_is_reported(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the statement is raised, also if the connection is lost in it."""

    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT 1 / 0")

    def end(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(database.engine.dialect, "_get_default_schema_name", fail)
    with pytest.raises(DataError, match="division by zero"):
        database.ping()
    monkeypatch.setattr(database.engine.dialect, "_get_default_schema_name", end)
    with pytest.raises(ConnectionLost, match="57P01"):
        database.ping()
    monkeypatch.undo()
    assert database.ping().writable


def test_an_error_of_the_first_connection_is_translated(database_settings: DatabaseSettings) -> None:
    """The first statement after the login is the service's own, and its lost connection has our error."""
    with TcpProxy(database_settings.host, database_settings.port) as proxy:
        here = dataclasses.replace(database_settings, host="127.0.0.1", port=proxy.port, sslmode="disable")
        plain = create_engine(
            f"postgresql+psycopg://{here.user}:{here.password}@127.0.0.1:{proxy.port}/{here.name}?sslmode=disable"
        )
        database = Database(dataclasses.replace(here, pool="lambda"))
        with proxy.lose_replies(1.0):
            with pytest.raises(ConnectionLost), database.session() as session:
                session.execute(text("SELECT 1"))
            with pytest.raises(DBAPIError):
                plain.connect()
        assert database.ping().writable
        database.dispose()
        plain.dispose()


def test_the_options_of_an_engine_last_until_the_checkin(database_settings: DatabaseSettings) -> None:
    """Also those of an engine that is derived from another, and for a connection without SQLAlchemy's `Connection`."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    modes = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    serializable = database.engine.execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True)
    autocommit = serializable.execution_options(isolation_level="AUTOCOMMIT", postgresql_readonly=False)
    named = serializable.execution_options(logging_token="token")
    for engine, expected in [
        (serializable, ("serializable", "on")),
        (named, ("serializable", "on")),
        (autocommit, ("read committed", "off")),
        (database.engine, ("read committed", "off")),
    ]:
        with engine.connect() as connection:
            assert tuple(connection.execute(text(modes)).one()) == expected
            assert driver_connection(connection).autocommit is (engine is autocommit)
        with database.engine.connect() as connection:
            assert not driver_connection(connection).autocommit
            driver_connection(connection).execute("CREATE TABLE dropped ()")  # rolled back
    with autocommit.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        assert tuple(connection.execute(text(modes)).one()) == ("serializable", "off")
    with pytest.raises(ArgumentError, match="Invalid value 'NONE' for isolation_level"):
        database.engine.execution_options(isolation_level="NONE").connect()
    assert isinstance(database.engine.pool, BoundedPool)
    assert database.engine.pool.checkedout() == 0
    database.dispose()


def test_no_event_of_each_statement_is_dispatched(database: Database) -> None:
    """One listener to such an event would cost the dispatch of all of them, in SQLAlchemy's private `_has_events`."""
    for engine in (database.engine, database.engine.execution_options(isolation_level="AUTOCOMMIT")):
        with engine.connect() as connection:
            assert (connection._has_events, engine._has_events) == (False, False)
