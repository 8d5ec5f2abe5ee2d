"""`statement`: SQL text with the type of each of its parameters and the names of its columns."""

import re
from collections.abc import Sequence
from typing import Any, overload

from sqlalchemy import TextClause, TextualSelect, bindparam, column, text
from sqlalchemy.types import TypeEngine

_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")  # as in SQLAlchemy's text()

Types = dict[str, TypeEngine[Any]]


@overload
def statement(sql: str, /, **types: TypeEngine[Any]) -> TextClause: ...
@overload
def statement(sql: str, returns: Sequence[str], /, **types: TypeEngine[Any]) -> TextualSelect: ...


def statement(sql: str, returns: Sequence[str] = (), /, **types: TypeEngine[Any]) -> TextClause | TextualSelect:
    """Return *sql* with the *types* of its parameters, so that the server never has to guess one.

    Args:
        sql: The text.
        returns: The names of the columns of its result, in order, so that SQLAlchemy keeps what it knows about the
            result instead of asking psycopg in each execution. They have no types, so values stay as psycopg reads
            them. Defaults to none: the statement returns no rows.
        types: The types of its parameters.

    Raises:
        ValueError: A parameter has no type, or a type has no parameter.
    """
    parameters = set(_PARAMETER.findall(sql))
    if parameters != set(types):
        raise ValueError(
            f"parameters without a type: {sorted(parameters - set(types))}, "
            f"types without a parameter: {sorted(set(types) - parameters)}: expected one type for each parameter"
        )
    bound = text(sql).bindparams(*(bindparam(name, type_=type_) for name, type_ in types.items()))
    return bound.columns(*map(column, returns)) if returns else bound
