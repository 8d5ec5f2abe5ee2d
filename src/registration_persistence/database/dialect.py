"""`AuroraDialect`: SQLAlchemy's dialect for psycopg, without round trips when an engine connects first."""

from typing import Any, cast

import psycopg
from sqlalchemy import Connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.pool import PoolProxiedConnection

from registration_persistence.database.commit_guard import settle_failed_commit
from registration_persistence.database.commit_resolver import CommitResolver

DRIVER_NAME = "postgresql+psycopg_aurora"
"""The name of the dialect in a URL."""


class AuroraDialect(PGDialect_psycopg):
    """The dialect `postgresql+psycopg` without its six round trips on an engine's first connection.

    They would slow down a cold start. SQLAlchemy also makes them outside of `handle_error`, so an error of a connection
    that breaks during them would not be translated.
    """

    supports_statement_cache = True

    commit_resolver: CommitResolver | None = None
    """Finds out what became of a COMMIT whose reply was lost; `None` for an engine that only reads."""

    def do_commit(self, dbapi_connection: PoolProxiedConnection) -> None:
        """Commit; if the reply is lost, find out whether the transaction was kept."""
        try:
            dbapi_connection.commit()
        except psycopg.Error as error:
            settle_failed_commit(dbapi_connection, error, self.commit_resolver)

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = _driver(connection).info.server_version
        return version // 10_000, version % 10_000

    def _get_default_schema_name(self, connection: Connection) -> str:  # noqa: ARG002 SQLAlchemy's signature
        # Only reflection reads it, and the migrations ask the server instead.
        return "public"

    def get_default_isolation_level(self, dbapi_conn: Any) -> IsolationLevel:
        """Return the level that `create_engine` has set for each connection, or PostgreSQL's default."""
        level = dbapi_conn.isolation_level
        return cast("IsolationLevel", level.name.replace("_", " ")) if level is not None else "READ COMMITTED"

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        """Return to the level that `create_engine` has set, or to the one that the server has configured.

        It leaves autocommit, and takes no round trip.
        """
        level = self._on_connect_isolation_level
        dbapi_conn.autocommit = level == "AUTOCOMMIT"
        if level is None or level == "AUTOCOMMIT":
            dbapi_conn.isolation_level = None
        else:
            dbapi_conn.isolation_level = psycopg.IsolationLevel[level.replace(" ", "_")]

    def _set_backslash_escapes(self, connection: Connection) -> None:
        status = _driver(connection).info.parameter_status("standard_conforming_strings")
        self._backslash_escapes = status == "off"


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


registry.register(DRIVER_NAME.replace("+", "."), __name__, AuroraDialect.__name__)
