"""`statement`: SQL text with one type for each parameter."""

import pytest
from sqlalchemy import BigInteger, Text

from registration_persistence.repositories.sql.statement import statement


def test_each_parameter_has_its_type() -> None:
    """A cast, which starts with two colons, is not a parameter."""
    built = statement("SELECT CAST(:a AS text), CAST(:b AS bigint), now()::text", a=Text(), b=BigInteger())

    assert {"a": Text, "b": BigInteger} == {name: type(bind.type) for name, bind in built._bindparams.items()}


def test_a_parameter_without_a_type_is_an_error() -> None:
    """The server would have to guess its type."""
    with pytest.raises(ValueError, match=r"parameters without a type: \['b'\]"):
        statement("SELECT :a, :b", a=Text())


def test_a_type_without_a_parameter_is_an_error() -> None:
    """A parameter that was removed must not leave its type behind."""
    with pytest.raises(ValueError, match=r"types without a parameter: \['b'\]"):
        statement("SELECT :a", a=Text(), b=Text())
