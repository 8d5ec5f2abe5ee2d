"""Execute statements that are composed from identifiers and take no parameters."""

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
