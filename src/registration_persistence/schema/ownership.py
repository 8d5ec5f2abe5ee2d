"""The tables that belong to this package, in a database that a service uses, too."""

import re
from typing import Any

from registration_persistence.models.columns import Base
from registration_persistence.models.tables import EVENT_PARTITION
from registration_persistence.schema.grants import VERSION_TABLE

_SCHEMAS = (None, "public")


def is_ours(name: str | None, schema: str | None = None) -> bool:
    """Return whether a table belongs to this package.

    Args:
        name: The name of the table, without its schema.
        schema: The schema of the table. Defaults to the one in which this package has its tables.
    """
    if name is None or schema not in _SCHEMAS:
        return False
    return name in Base.metadata.tables or name == VERSION_TABLE or re.fullmatch(EVENT_PARTITION, name) is not None


def exclude_ours(object_: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:  # noqa: ARG001, FBT001 Alembic's signature
    """Return whether an object is outside of this package's tables; for `include_object` in a service's `env.py`.

    Alembic then compares only the service's tables, and autogenerate neither drops nor creates ours.

    Args:
        object_: The table, column, index or constraint.
        name: The name of the object.
        kind: The kind of the object: `table`, `column`, `index`, `unique_constraint` or `foreign_key_constraint`.
        reflected: Whether the object was read from the database.
        compared: The object that it is compared with, if there is one.
    """
    table = object_ if kind == "table" else object_.table
    return not is_ours(table.name, table.schema)
