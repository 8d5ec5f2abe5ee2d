"""`statement`: SQL text with the type of each of its parameters."""

import re
from typing import Any

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.types import TypeEngine

_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")  # as in SQLAlchemy's text()

Types = dict[str, TypeEngine[Any]]


def statement(sql: str, **types: TypeEngine[Any]) -> TextClause:
    """Return *sql* with the *types* of its parameters, so that the server never has to guess one.

    Raises:
        ValueError: A parameter has no type, or a type has no parameter.
    """
    parameters = set(_PARAMETER.findall(sql))
    if parameters != set(types):
        raise ValueError(
            f"parameters without a type: {sorted(parameters - set(types))}, "
            f"types without a parameter: {sorted(set(types) - parameters)}: expected one type for each parameter"
        )
    return text(sql).bindparams(*(bindparam(name, type_=type_) for name, type_ in types.items()))
