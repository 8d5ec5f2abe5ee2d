"""SQLAlchemy keeps what it knows about the columns of a result, so they must be those that the server returns."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import pq
from sqlalchemy import Executable, TextClause, TextualSelect, column, text
from sqlalchemy.sql.sqltypes import NullType

from registration_persistence import Database
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.repositories import sql


def _statements() -> Iterator[tuple[str, TextClause | TextualSelect]]:
    for module in pkgutil.iter_modules(sql.__path__, f"{sql.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, TextClause | TextualSelect):
                yield f"{module.name.rpartition('.')[2]}.{name}", value


def _declared(statement: Executable) -> list[str]:
    if not isinstance(statement, TextualSelect):
        return []
    # A type would read values in another way than psycopg does.
    assert all(isinstance(each.type, NullType) for each in statement.selected_columns)
    return [each.name for each in statement.selected_columns]


def _returned(connection: psycopg.Connection, statement: TextClause | TextualSelect, database: Database) -> list[str]:
    """Return the names of the columns as the server describes them; the statement is not executed."""
    compiled = statement.compile(dialect=database.engine.dialect)
    numbers = {name: number for number, name in enumerate(compiled.params, 1)}
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${numbers[found[1]]}", compiled.string).replace("%%", "%")
    prepared = connection.pgconn.prepare(b"", numbered.encode())
    assert prepared.status == pq.ExecStatus.COMMAND_OK, prepared.error_message
    described = connection.pgconn.describe_prepared(b"")
    return [(described.fname(number) or b"").decode() for number in range(described.nfields)]


def test_each_statement_declares_the_columns_that_the_server_returns(database: Database) -> None:
    """In number, name and order: SQLAlchemy would give a value the name of another column."""
    statements = dict(_statements())
    assert {"registrations.REGISTER", "verification.VERIFY", "outbox.CLAIM", "evidence.FIND_EVENT"} <= set(statements)
    with database.engine.connect() as opened:
        connection = driver_connection(opened)
        returned = {name: _returned(connection, statement, database) for name, statement in statements.items()}

        assert {name: _declared(statement) for name, statement in statements.items()} == returned


@pytest.mark.parametrize("names", [["a"], ["b", "a"], ["a", "b", "c"]])
def test_other_columns_are_noticed(database: Database, names: list[str]) -> None:
    """The comparison fails if a column is missing, in another place or too many."""
    statement = text("SELECT 1 AS a, 2 AS b").columns(*map(column, names))
    with database.engine.connect() as opened:
        assert _returned(driver_connection(opened), statement, database) != _declared(statement)
