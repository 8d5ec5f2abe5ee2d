"""`only_reads`: whether a statement changes nothing, as far as its text shows."""

import re
from functools import lru_cache

from registration_persistence.database.error_redaction import masked_statement
from registration_persistence.lazy_pattern import lazy_pattern

_READS = lazy_pattern(r"\s*(?:SELECT|SHOW|TABLE|VALUES)\b", re.IGNORECASE)

# SELECT ... INTO creates a table, and a second statement may do anything.
_CHANGES = lazy_pattern(r"\bINTO\b|;\s*\S", re.IGNORECASE)

_CALL = lazy_pattern(r'((?:"[^"]*"|[\w$.])+)\s*\(')


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A parenthesis follows these words too.
_WORDS = _words(
    """all and any array as between by cast case distinct else except exists filter from having in intersect is
    join lateral like limit not offset on or order over partition row rows select similar some then union using values
    when where within"""
)

_FUNCTIONS_WITHOUT_EFFECT = _words(
    """abs age array_agg array_length array_position array_to_string avg bool_and bool_or ceil char_length
    clock_timestamp coalesce concat concat_ws count cume_dist current_database current_setting date_part date_trunc
    dense_rank encode every extract first_value floor format generate_series greatest inet_server_addr
    inet_server_port json_agg json_build_object jsonb_agg jsonb_array_elements jsonb_array_length jsonb_build_object
    jsonb_typeof lag last_value lead least left length lower ltrim make_interval max md5 min mod now nullif octet_length
    percent_rank pg_backend_pid pg_is_in_recovery pg_sleep pg_table_size pg_total_relation_size position rank
    regexp_match regexp_replace replace right round row_number row_to_json rtrim sha256 split_part starts_with
    statement_timestamp string_agg substr substring sum to_char to_json to_jsonb to_timestamp transaction_timestamp trim
    trunc unnest upper version"""
)


@lru_cache(maxsize=512)
def only_reads(statement: str) -> bool:
    """Return whether *statement* is a query that calls no functions but some of PostgreSQL's, which change nothing.

    A function of the database may change something, so a query that calls another one is not known to read only.

    Args:
        statement: The text of the statement.
    """
    bare = masked_statement(statement)
    if not _READS.match(bare) or _CHANGES.search(bare):
        return False
    called = {name.lower().removeprefix("pg_catalog.") for name in _CALL.findall(bare)}
    return called <= _WORDS | _FUNCTIONS_WITHOUT_EFFECT
