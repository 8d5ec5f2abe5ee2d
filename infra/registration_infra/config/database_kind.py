"""Which database an environment has: a cluster that is provisioned, or an existing database."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from registration_infra.config.aurora import AuroraConfig
from registration_infra.config.existing import ExistingDatabase
from registration_infra.config.table import Table, expected_table

_TABLES: Mapping[str, type[Table]] = {"aurora": AuroraConfig, "existing": ExistingDatabase}


def provisions_aurora(values: Mapping[str, Any]) -> bool:
    """Return `provision_aurora`; if it is missing or invalid, whether the table [existing] is missing."""
    answer = values.get("provision_aurora")
    return answer if isinstance(answer, bool) else values.get("existing") is None


def without_other_database(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* without the table of the other database, whose keys are not checked."""
    return {key: value for key, value in values.items() if key != _other(values)}


def database_problems(values: Mapping[str, Any], misspelled: Collection[str] = ()) -> Iterator[str]:
    """Yield a problem if the table of the other database is set, and one if the needed table is missing.

    The tables in *misspelled* are present under another name, which is reported elsewhere.
    """
    other = _other(values)
    if values.get(other) is not None:
        yield f"{other} is set: expected only if provision_aurora is {'true' if other == 'aurora' else 'false'}"
    for key, kind in _TABLES.items():
        if key != other and values.get(key) is None and key not in misspelled:
            yield f"{key} is missing: expected {expected_table(key, kind)}"


def _other(values: Mapping[str, Any]) -> str:
    return "existing" if provisions_aurora(values) else "aurora"
