"""SQLAlchemy's dialect for psycopg, which asks the server nothing that the connection knows already."""

from typing import Any, Literal

import psycopg
from sqlalchemy import Connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

DRIVER_NAME = "postgresql+psycopg_aurora"
"""The name of the dialect in a URL."""


class AuroraDialect(PGDialect_psycopg):
    """What `postgresql+psycopg` is, without its six round trips on an engine's first connection.

    They would not only cost time in a cold start: SQLAlchemy makes them outside of `handle_error`, so that a connection
    that is lost in one of them would raise an error that nobody translates.
    """

    supports_statement_cache = True

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = _driver(connection).info.server_version
        return version // 10_000, version % 10_000

    def _get_default_schema_name(self, connection: Connection) -> str:  # noqa: ARG002 SQLAlchemy's signature
        # Nothing but reflection reads it; the migrations ask the server.
        return "public"

    def get_default_isolation_level(self, dbapi_conn: Any) -> Literal["READ COMMITTED"]:  # noqa: ARG002 SQLAlchemy's signature
        """Return PostgreSQL's own; what `reset_isolation_level` restores is what the server has set."""
        return "READ COMMITTED"

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        """Leave autocommit, for transactions with the isolation that the server has set; no round trip."""
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
