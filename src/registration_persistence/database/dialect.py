"""`AuroraDialect`: SQLAlchemy's dialect for psycopg, without round trips when an engine connects first."""

from typing import Any, Literal

import psycopg
from sqlalchemy import Connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

DRIVER_NAME = "postgresql+psycopg_aurora"
"""The name of the dialect in a URL."""


class AuroraDialect(PGDialect_psycopg):
    """The dialect `postgresql+psycopg` without its six round trips on an engine's first connection.

    They would slow down a cold start. SQLAlchemy also makes them outside of `handle_error`, so an error of a connection
    that breaks during them would not be translated.
    """

    supports_statement_cache = True

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = _driver(connection).info.server_version
        return version // 10_000, version % 10_000

    def _get_default_schema_name(self, connection: Connection) -> str:  # noqa: ARG002 SQLAlchemy's signature
        # Only reflection reads it, and the migrations ask the server instead.
        return "public"

    def get_default_isolation_level(self, dbapi_conn: Any) -> Literal["READ COMMITTED"]:  # noqa: ARG002 SQLAlchemy's signature
        """Return PostgreSQL's default; `reset_isolation_level` restores the level that the server has configured."""
        return "READ COMMITTED"

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        """Leave autocommit and return to the server's configured isolation level; no round trip."""
        dbapi_conn.autocommit = False
        dbapi_conn.isolation_level = None

    def _set_backslash_escapes(self, connection: Connection) -> None:
        status = _driver(connection).info.parameter_status("standard_conforming_strings")
        self._backslash_escapes = status == "off"


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


registry.register(DRIVER_NAME.replace("+", "."), __name__, AuroraDialect.__name__)
