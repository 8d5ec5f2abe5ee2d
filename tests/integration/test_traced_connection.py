"""`TracedConnection`: the SQLSTATE of a failed login, in any language of the server."""

import secrets
from typing import Any

import psycopg
import pytest

from registration_persistence import DatabaseSettings
from registration_persistence.database.traced_connection import TracedConnection
from registration_persistence.sandbox import PostgresServer


def sqlstate_of(server: PostgresServer, **parameters: Any) -> str | None:
    """Return the SQLSTATE of the login with *parameters*, which must fail."""
    with pytest.raises(psycopg.OperationalError) as failure:
        TracedConnection.connect(host=server.host, port=server.port, **parameters)
    return failure.value.sqlstate


def test_a_failed_login_has_a_sqlstate(postgres_server: PostgresServer, database_settings: DatabaseSettings) -> None:
    """A role that may not log in any more counts as a wrong password, so that the secret is read again."""
    known: dict[str, Any] = {"user": str(database_settings.user), "password": str(database_settings.password)}
    former = {"user": f"former_{secrets.token_hex(4)}", "password": secrets.token_urlsafe(16)}
    postgres_server.create_login(former["user"], former["password"])
    with postgres_server.connect() as connection:
        connection.execute(f"ALTER ROLE {former['user']} NOLOGIN")

    assert sqlstate_of(postgres_server, **known, dbname="absent") == "3D000"
    assert sqlstate_of(postgres_server, **{**known, "password": "wrong"}, dbname=database_settings.name) == "28P01"
    assert sqlstate_of(postgres_server, **former, dbname=database_settings.name) == "28P01"
    with postgres_server.connect() as connection:
        connection.execute(f"DROP ROLE {former['user']}")
    TracedConnection.connect(
        host=postgres_server.host, port=postgres_server.port, dbname=database_settings.name, **known
    ).close()
