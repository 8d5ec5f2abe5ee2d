"""`meant_key`: the key that an unknown key was probably meant for."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from registration_infra.config.table import Table, tables_of

# Finds two letters in the wrong order in `region`, and does not find `backup` for `backup_tag`.
_MIN_SIMILARITY: Final = 0.82


def meant_key(key: str, table: type[Table]) -> str | None:
    """Return the key of *table* that *key* was probably meant for, or `None`.

    Case, hyphens and underscores do not count, so `minCapacity` is `min_capacity`. A key that belongs to a table is
    returned with the table: `aurora.min_capacity`.
    """
    known = {_plain(name): name for name in table.file_keys()}
    if found := get_close_matches(_plain(key), known, n=1, cutoff=_MIN_SIMILARITY):
        return known[found[0]]
    return next((f"{parent}.{name}" for parent, name in _nested_keys(table) if _plain(key) == _plain(name)), None)


def _nested_keys(table: type[Table]) -> Iterator[tuple[str, str]]:
    # A key of one word, such as `name`, says too little about its table.
    for parent, kind in tables_of(table).items():
        yield from ((parent, name) for name in kind.file_keys() if "_" in name)


def _plain(key: str) -> str:
    return key.replace("_", "").replace("-", "").lower()
