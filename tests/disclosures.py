"""Search everything that a login can read for values that it must not see."""

import base64
from collections.abc import Iterable, Iterator, Mapping

import psycopg
from psycopg import sql

# All columns that the login may read, of all tables and views, those of the system included.
_RELATIONS = """
SELECT nspname, relname, array_agg(attname ORDER BY attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute a ON attrelid = c.oid
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND attnum > 0 AND NOT attisdropped
AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, attnum, 'SELECT')
GROUP BY nspname, relname, c.oid ORDER BY nspname, relname"""

# All functions that the login may call without arguments, and those that return a set, with NULL for each argument.
_FUNCTIONS = """
SELECT nspname, proname, ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes::oid[]) t)
FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
WHERE prokind = 'f' AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')
AND (pronargs = 0 OR proretset AND NOT proisstrict) AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
AND NOT EXISTS (SELECT FROM unnest(proargtypes::oid[]) t JOIN pg_type ON pg_type.oid = t WHERE typtype = 'p')
ORDER BY nspname, proname, p.oid"""

# Further calls, whose arguments make them show what other sessions do.
_CALLS = (
    "SELECT pg_stat_get_backend_activity(id)::text FROM pg_stat_get_backend_idset() id",
    "SELECT name || setting FROM pg_ls_logdir() JOIN pg_settings ON true WHERE name ~ 'log'",
    "SELECT pg_read_file(pg_current_logfile())",
    "SELECT pg_read_file('log')",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_stat_file('log')::text",
    "SELECT rolpassword FROM pg_authid",
    "SELECT passwd FROM pg_shadow",
    "SELECT s::text FROM pg_statistic s",
    "SELECT d::text FROM pg_statistic_ext_data d",
    "SELECT string_agg(lo_get(oid)::text, '') FROM pg_largeobject_metadata",
)


class Search:
    """A search for secret values in texts.

    Args:
        values: The secret values by a name, which the result shows; `bytes` are also found as hex and Base64.
    """

    def __init__(self, values: Mapping[str, str | bytes]) -> None:
        self._forms = {name: {form.lower() for form in _forms(value)} for name, value in values.items()}

    def in_text(self, where: str, text: str) -> set[tuple[str, str]]:
        """Return `(name, where)` for each value that *text* contains in any form."""
        lower = text.lower()
        return {(name, where) for name, forms in self._forms.items() if any(form in lower for form in forms)}

    def in_texts(self, texts: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return `(name, where)` for each value in *texts*, which are those of `readable`."""
        return {found for where, text in texts for found in self.in_text(where, text)}

    def in_database(self, connection: psycopg.Connection) -> set[tuple[str, str]]:
        """Return `(name, where)` for each value that the login of *connection*, in autocommit, can read anywhere."""
        return self.in_texts(readable(connection))


def readable(connection: psycopg.Connection) -> Iterator[tuple[str, str]]:
    """Yield where, and every text that the login of *connection* can read there; also the texts of errors."""
    connection.execute("SET jit = off")  # compiling the views of the system takes far longer than reading them
    for where, statement in [*_statements(connection)]:  # the list first, because the connection is used again
        yield where, _result(connection, statement)


def _statements(connection: psycopg.Connection) -> Iterator[tuple[str, sql.SQL | sql.Composed]]:
    for schema, name, columns in connection.execute(_RELATIONS):
        selected = sql.SQL(", ").join(map(sql.Identifier, columns))
        relation = sql.Identifier(schema, name)
        yield f"{schema}.{name}", sql.SQL("SELECT ROW({})::text FROM {}").format(selected, relation)
    for schema, name, types in connection.execute(_FUNCTIONS):
        nulls = sql.SQL(", ".join(f"NULL::{each}" for each in types))
        function = sql.Identifier(schema, name)
        yield f"{schema}.{name}()", sql.SQL("SELECT called::text FROM {}({}) called").format(function, nulls)
    for call in _CALLS:
        yield call, sql.SQL(call)


def _result(connection: psycopg.Connection, statement: sql.SQL | sql.Composed) -> str:
    try:
        return "\n".join(str(value) for (value,) in connection.execute(statement))
    except psycopg.Error as error:
        return f"{error} {error.diag.message_detail} {error.diag.context}"


def _forms(value: str | bytes) -> Iterable[str]:
    if isinstance(value, str):
        raw = value.encode()
        return (value, raw.hex(), base64.b64encode(raw).decode().rstrip("="))
    return (value.hex(), base64.b64encode(value).decode().rstrip("="), repr(value)[2:-1])
