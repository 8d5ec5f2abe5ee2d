"""Execute statements that are composed from identifiers and take no parameters."""

import re

from psycopg import sql
from sqlalchemy import Connection


def execute_verbatim(connection: Connection, statement: sql.Composable | str) -> None:
    """Execute *statement* as it is, without parameters and without a change to its `:` and `%`."""
    text = statement if isinstance(statement, str) else statement.as_string()
    connection.exec_driver_sql(text.replace("%", "%%"))


def execute_with_identifiers(connection: Connection, template: str, *identifiers: str) -> None:
    """Execute *template*, in which each `{}` stands for one of *identifiers*, quoted."""
    execute_verbatim(connection, sql.SQL(template).format(*map(sql.Identifier, identifiers)))


def public_table(name: str) -> sql.Identifier:
    """Return the identifier of the table *name* in the schema `public`."""
    return sql.Identifier("public", name)


def quoted_if_needed(name: str) -> str:
    """Return *name* as an identifier for a statement that an administrator may copy out of a message."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else sql.Identifier(name).as_string()
