"""Names of databases that RDS or PostgreSQL keep for themselves."""

from typing import Final

_DATABASES_OF_THE_SERVER: Final = frozenset({"postgres", "template0", "template1", "rdsadmin"})
# RDS rejects `db` for PostgreSQL, and each reserved key word of SQL.
_RESERVED_BY_RDS: Final = frozenset({"db"})
# `SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')`, of PostgreSQL 15 to 18 together.
_KEY_WORDS: Final = """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true
    union unique user using variadic verbose when where window with
"""

UNUSABLE_DATABASES: Final = _DATABASES_OF_THE_SERVER - {"postgres"}
"""Databases that exist on each server and cannot hold tables of a service."""


def is_reserved_for_new_database(name: str) -> bool:
    """Return whether RDS cannot create a database *name*, in any case."""
    return name.lower() in _DATABASES_OF_THE_SERVER | _RESERVED_BY_RDS | {*_KEY_WORDS.split()}
