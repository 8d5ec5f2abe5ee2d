"""Connections of each pool mode, and the settings that they send to the server."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from support import variables_of

from registration_persistence import Database, DatabaseSettings, RegistrationRepository
from registration_persistence.errors import ConnectionRejected, PoolExhausted
from registration_persistence.sandbox import PostgresServer


def test_settings_of_the_role_do_not_matter(
    database: Database, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values are read and sent correctly with any styles, time zone and encoding of the role and `PGCLIENTENCODING`."""
    role, name = database.settings.user, database.settings.name
    with postgres_server.connect() as connection:
        for setting in (
            "datestyle = 'German'",
            "intervalstyle = 'sql_standard'",
            "timezone = 'America/St_Johns'",
            "bytea_output = 'escape'",
            "standard_conforming_strings = off",
            "array_nulls = off",
            "client_encoding = 'LATIN1'",
            "default_transaction_isolation = 'serializable'",
            "extra_float_digits = -15",
        ):
            connection.execute(f"ALTER ROLE {role} IN DATABASE {name} SET {setting}")
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")

    with database.session(autocommit=True) as session:
        registrations = RegistrationRepository(session)
        made = registrations.register("zo\u00eb@example.com").registration
        assert made == registrations.get(made.id)
        assert session.scalar(text("SELECT interval '3 days 4 hours'")) == timedelta(days=3, hours=4)
        assert session.scalar(text("SELECT :bytes"), {"bytes": b"\\\0'"}) == b"\\\0'"


@pytest.mark.parametrize(
    ("name", "style"),
    [("datestyle", "SQL, DMY"), ("datestyle", "Postgres, MDY"), ("datestyle", "German"), ("intervalstyle", "iso_8601")],
)
def test_a_style_that_cannot_be_read_is_rejected_before_the_first_statement(
    database: Database, postgres_server: PostgresServer, name: str, style: str
) -> None:
    """Without startup options the server's style applies; nothing is kept, and the error has the fix."""
    made = Database(dataclasses.replace(database.settings, pool="proxy"))
    with postgres_server.connect() as connection:
        connection.execute(f"ALTER DATABASE {database.settings.name} SET {name} = '{style}'")

    with (
        pytest.raises(ConnectionRejected, match=f"(?i){name} is '.*{style}.*bootstrap.* SET {name} = ") as raised,
        made.session(autocommit=True) as session,
    ):
        RegistrationRepository(session).register("ada@example.com")

    assert not raised.value.retryable
    with database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM registrations")) == 0
        assert session.scalar(text("SELECT interval '3 days 4 hours'")) == timedelta(days=3, hours=4)


def test_a_nested_session_raises_pool_exhausted(database_settings: DatabaseSettings) -> None:
    """In `lambda` mode the error is raised at once, and says to use the open session."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    with database.session() as outer:
        outer.execute(text("SELECT 1"))
        with pytest.raises(PoolExhausted, match="use the session that is open"), database.session() as inner:
            inner.execute(text("SELECT 1"))
        assert outer.scalar(text("SELECT 2")) == 2
    database.dispose()


def test_an_exhausted_pool_names_its_size(database_settings: DatabaseSettings) -> None:
    """In `service` mode the error names the size of the pool and the setting."""
    database = Database(dataclasses.replace(database_settings, pool_size=2, connect_timeout=2))
    with database.session() as first, database.session() as second:
        first.execute(text("SELECT 1"))
        second.execute(text("SELECT 1"))
        with (
            pytest.raises(PoolExhausted, match=r"all 2 connections .* APP_DATABASE_POOL_SIZE"),
            database.session() as third,
        ):
            third.execute(text("SELECT 1"))
    database.dispose()


def test_a_lambda_keeps_its_connection(database_settings: DatabaseSettings) -> None:
    """All invocations use the same backend."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    backends = set()
    for _ in range(5):
        with database.session() as session:
            backends.add(session.scalar(text("SELECT pg_backend_pid()")))
    database.dispose()

    assert len(backends) == 1


def test_proxy_mode_keeps_no_connection(database_settings: DatabaseSettings) -> None:
    """Each session opens a new connection, prepares no statement, and sends no startup options."""
    database = Database(dataclasses.replace(database_settings, pool="proxy", statement_timeout=1))
    backends = set()
    for _ in range(3):
        with database.session() as session:
            for _ in range(8):
                backends.add(session.scalar(text("SELECT pg_backend_pid()")))
            assert session.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
            assert session.scalar(text("SHOW statement_timeout")) == "0"

    assert len(backends) == 3


SETTINGS: list[tuple[str, Callable[[DatabaseSettings], Any]]] = [
    ("application_name", lambda settings: settings.application_name),
    ("statement_timeout", lambda settings: f"{settings.statement_timeout:g}s"),
    ("lock_timeout", lambda settings: f"{settings.lock_timeout:g}s"),
    ("idle_in_transaction_session_timeout", lambda settings: f"{settings.idle_in_transaction_timeout:g}s"),
    ("idle_session_timeout", lambda settings: f"{settings.idle_session_timeout:g}s"),
]


def test_the_settings_are_sent_in_the_startup_packet(database_settings: DatabaseSettings) -> None:
    """Each connection has the application name and the time limits of the settings."""
    settings = dataclasses.replace(
        database_settings,
        application_name="sign-up:7",
        statement_timeout=7,
        lock_timeout=3,
        idle_in_transaction_timeout=9,
        idle_session_timeout=11,
    )
    database = Database(settings)
    with database.session() as session:
        assert [value(settings) for _, value in SETTINGS] == [
            session.scalar(text(f"SHOW {name}")) for name, _ in SETTINGS
        ]
    database.dispose()


def test_libpq_detects_a_dead_peer(database: Database) -> None:
    """Keepalives are set for an idle connection, and `tcp_user_timeout` for a busy one."""
    with database.session() as session:
        session.execute(text("SELECT 1"))
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        given = driver.info.get_parameters()

    expected = {
        "keepalives_idle": "30",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "5000",
    }
    assert expected == {name: given.get(name) for name in expected}
    assert given["target_session_attrs"] == "read-write"


def test_ping_returns_the_health(database: Database) -> None:
    """The health has the version of the server, whether it accepts writes, and whether TLS is used."""
    health = database.ping()

    assert health.writable
    assert not health.encrypted
    assert re.match(r"\d+\.\d+", health.server_version)


def test_repr_names_the_database_and_nothing_else(database: Database) -> None:
    """It contains neither user nor password."""
    settings = database.settings
    assert f"<Database {settings.name} at {settings.host}:{settings.port}>" == repr(database)
    assert str(settings.password) not in f"{database.engine.url!r} {settings!r} {database.credentials!r}"


WITHOUT_POLL = """
import select, selectors
del select.poll, select.epoll, selectors.PollSelector, selectors.EpollSelector
selectors.DefaultSelector = selectors.SelectSelector

from registration_persistence import RegistrationRepository, get_db

for number in range(2):
    with get_db().session() as session:
        RegistrationRepository(session).register(f"ada{number}@example.com")
assert get_db().ping().writable
assert get_db().events.count("connection_opened") == 1
get_db().dispose()
"""


def test_a_process_without_poll_commits(database: Database) -> None:
    """A library that replaces blocking calls, such as eventlet, removes `select.poll`; checkout and COMMIT work."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_POLL],
        env=variables_of(database.settings),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (ended.returncode, ended.stderr)
    with database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM registrations")) == 2
