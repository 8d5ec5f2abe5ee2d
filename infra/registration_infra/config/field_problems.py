"""The problems that pydantic finds in single keys, as messages with key, value and accepted values."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from registration_infra.config.similar_keys import meant_key
from registration_infra.config.table import Table, expected_table, expected_value, tables_of
from registration_infra.config.toml_text import toml_text

Location = tuple[str, ...]
"""The place of a key in a file: `(key,)` or `(table, key)`."""


def invalid_keys(model: type[Table], error: ValidationError) -> dict[Location, str]:
    """Return pydantic's type of the error of each invalid key, by the location of the key."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    tables = tables_of(model)
    # The rest of pydantic's location is inside a value, such as a number in a list.
    return {tuple(map(str, each["loc"][: 2 if each["loc"][0] in tables else 1])): each["type"] for each in errors}


def field_problems(model: type[Table], values: Mapping[str, Any], invalid: Mapping[Location, str]) -> Iterator[str]:
    """Yield one message for each invalid key of *values*, which were validated as *model*."""
    meant = misspelled_keys(model, invalid)
    for location, error_type in invalid.items():
        if location in meant.values() and error_type == "missing":
            continue  # the message about the misspelled key names it
        *parents, key = location
        table, given = model, dict(values)
        for parent in parents:
            table, given = tables_of(table)[parent], dict(given[parent])
        prefix = "".join(f"{parent}." for parent in parents)
        if error_type == "extra_forbidden":
            yield unknown_key_problem(key, table, prefix)
        elif key not in table.file_keys():
            names = ", ".join(get_args(table.model_fields[key].annotation))
            yield f"the environment is named {toml_text(given.get(key))}: expected one of {names}"
        elif key in given:
            yield f"{prefix}{key} is {toml_text(given[key])}: expected {_expected(table, key)}"
        else:
            yield f"{prefix}{key} is missing: expected {_expected(table, key)}"


def by_table(problems: Iterable[str]) -> list[str]:
    """Return *problems*, which begin with a key, with those of each table next to each other."""
    found = list(problems)
    tables = [re.split("[ .]", problem, maxsplit=1)[0] for problem in found]
    first = {table: tables.index(table) for table in tables}
    return [problem for _, problem in sorted(zip(tables, found, strict=True), key=lambda each: first[each[0]])]


def unknown_key_problem(key: str, table: type[Table], prefix: str = "") -> str:
    """Return the message for a key that *table* does not have, without its value, which may be a password."""
    # In quotes if TOML needs them, so that a key with a line break cannot look like another message.
    name = key if re.fullmatch(r"[\w-]{1,63}", key, re.ASCII) else toml_text(key)
    meant = meant_key(key, table)
    if meant is not None:
        return f"{prefix}{name} is not a key: did you mean {prefix}{meant}?"
    return f"{prefix}{name} is not a key: expected one of {', '.join(prefix + each for each in table.file_keys())}"


def misspelled_keys(model: type[Table], invalid: Mapping[Location, str]) -> dict[Location, Location]:
    """Return the location that each misspelled key was probably meant for."""
    tables, meant = tables_of(model), dict[Location, Location]()
    for location, error_type in invalid.items():
        *parents, key = location
        known = meant_key(key, tables[parents[0]] if parents else model) if error_type == "extra_forbidden" else None
        if known is not None:
            meant[location] = (*parents, known)
    return meant


def _expected(table: type[Table], key: str) -> str:
    kind = tables_of(table).get(key)
    return expected_table(key, kind) if kind else expected_value(table.file_keys()[key])
