"""Where a PostgreSQL server is, and what has to be done there before anybody can use it."""

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """Where a server is, and who may log in there."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    def connect(self, database: str = "postgres", **parameters: Any) -> psycopg.Connection:
        """Open a connection in autocommit, for setting things up."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
            **parameters,
        )

    def create_login(self, role: str, password: str) -> None:
        """Create a role that may log in, or give it another password."""
        with self.connect() as connection:
            known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            verb = sql.SQL("CREATE" if known is None else "ALTER")
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), sql.Literal(password))
            )

    def create_database(self, name: str, *, owner: str | None = None, template: str = "template1") -> None:
        """Create a database, as a copy of *template*."""
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        with self.connect() as connection:
            connection.execute(
                statement.format(sql.Identifier(name), sql.Identifier(owner or self.user), sql.Identifier(template))
            )

    def drop_database(self, name: str) -> None:
        """Drop a database with whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
