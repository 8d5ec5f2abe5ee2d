"""A handle on a running PostgreSQL server."""

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from registration_persistence.sandbox.isolation import hidden_variables, is_of_libpq


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running PostgreSQL server and a login with which it can be administered.

    Args:
        host: Host name or address of the server.
        port: TCP port of the server.
        user: A role that may create roles and databases, usually the superuser.
        password: Password of *user*; not shown in `repr`.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    def connect(self, database: str = "postgres", **parameters: Any) -> psycopg.Connection:
        """Open a connection in autocommit mode as `user`; no variable of libpq changes it.

        Args:
            database: Name of the database; `postgres` by default.
            parameters: Further connection parameters of libpq, such as `connect_timeout=2`.
        """
        with hidden_variables(is_of_libpq):
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
        """Create a role with LOGIN and a password; if the role exists, change its password.

        Args:
            role: Name of the role.
            password: The new password.
        """
        with self.connect() as connection:
            known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            verb = sql.SQL("CREATE" if known is None else "ALTER")
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), sql.Literal(password))
            )

    def create_database(self, name: str, *, owner: str | None = None, template: str = "template1") -> None:
        """Create a database.

        Args:
            name: Name of the new database.
            owner: Role that owns it; `user` by default.
            template: Database of which the new one is a copy; `template1` by default.
        """
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        with self.connect() as connection:
            connection.execute(
                statement.format(sql.Identifier(name), sql.Identifier(owner or self.user), sql.Identifier(template))
            )

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and end the sessions that are connected to it.

        Args:
            name: Name of the database.
        """
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
