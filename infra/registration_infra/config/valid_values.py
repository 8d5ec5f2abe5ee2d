"""The valid part of an environment, which the rules across keys read even if other keys are invalid."""

from collections.abc import Collection, Mapping
from typing import Any

from registration_infra.config.field_problems import Location
from registration_infra.config.table import Table, tables_of

Values = Mapping[str, Any]
"""Values by key, tables as nested mappings. Invalid keys are absent; keys that are not given have their default."""


def valid_values(model: type[Table], given: Values, invalid: Collection[Location], *parents: str) -> Values:
    """Return the values of *given* and the defaults of *model*, without the *invalid* keys."""
    defaults = {key: field.default for key, field in model.model_fields.items() if not field.is_required()}
    found = {**defaults, **given}
    valid = {key: found[key] for key in model.model_fields if key in found and (*parents, key) not in invalid}
    nested = {
        key: valid_values(table, dict(valid[key]), invalid, *parents, key)
        for key, table in tables_of(model).items()
        if valid.get(key) is not None
    }
    return {**valid, **nested}


def is_left_out(values: Values, key: str) -> bool:
    """Return whether an optional *key* is not in the file; an invalid key is in the file."""
    return key in values and values[key] is None
