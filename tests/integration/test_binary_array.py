"""Tests of `binary_array`, read by PostgreSQL."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import bindparam, text

from registration_persistence import Database
from registration_persistence.repositories.binary_array import accept_binary_arrays, binary_array
from registration_persistence.repositories.sql.bulk_import import ArrayOf

ONE, OTHER = UUID(int=1), UUID(int=2**128 - 1)
ARRAYS: list[tuple[str, list[bytes | None], list[Any]]] = [
    ("text", [], []),
    ("text", [b""], [""]),
    ("text", [b"", b"NULL", None, b'{",\\}', "\u20ac".encode()], ["", "NULL", None, '{",\\}', "\u20ac"]),
    ("text", [b"ab", b"cd"], ["ab", "cd"]),
    ("text", [b"ab", None], ["ab", None]),
    ("text", [b"", None], ["", None]),
    ("uuid", [ONE.bytes, OTHER.bytes], [ONE, OTHER]),
    ("uuid", [None, None], [None, None]),
    ("bool", [b"\0", b"\1", b"\1"], [False, True, True]),
    ("bytea", [b"\0\xff", b"x", None], [b"\0\xff", b"x", None]),
    ("jsonb", [b'\1{"a": "b"}', b"\1[1]"], [{"a": "b"}, [1]]),
]


def test_postgresql_reads_each_array(database: Database) -> None:
    """Elements of one length and of several, NULL, and the empty array."""
    with database.session() as session:
        driver: Any = session.connection().connection.dbapi_connection
        accept_binary_arrays(driver)
        for element, values, expected in ARRAYS:
            query = text("SELECT :values").bindparams(bindparam("values", type_=ArrayOf(element)))
            assert expected == session.scalar(query, {"values": binary_array(element, values)})


def test_an_unknown_type_is_an_error() -> None:
    """The number of the elements' type is part of the array."""
    with pytest.raises(KeyError):
        binary_array("no_type", [b"x"])


def test_other_parameters_are_sent_as_before(database: Database) -> None:
    """The connection of an import goes back to the pool, where others use it."""
    with database.session() as session:
        driver: Any = session.connection().connection.dbapi_connection
        accept_binary_arrays(driver)
        assert session.scalar(text("SELECT CAST(:value AS text[])"), {"value": ["a", None]}) == ["a", None]
        assert session.scalar(text("SELECT CAST(:value AS bytea)"), {"value": b"\0a"}) == b"\0a"
