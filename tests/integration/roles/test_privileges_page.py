"""The tables of docs/howto/roles.md, from a real server: what each login can read, write, execute and lock."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from clusters import INSUFFICIENT_PRIVILEGE, Cluster
from psycopg import sql

from registration_persistence.schema import GRANTS, OWNER_ROLE

PAGE = Path(__file__).parents[3] / "docs/howto/roles.md"
BEGIN, END = "<!-- generated privileges -->\n\n", "\n<!-- end of the generated privileges -->"
EVENTS = "registration_events"
PARTITIONS = "each partition of it"
NONE = "-"

LOCK_MODES = (
    "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE", "ACCESS EXCLUSIVE",
)  # fmt: skip

COLUMNS = """
SELECT privilege, array_agg(attname ORDER BY attnum) FILTER (WHERE has_column_privilege(%(role)s::name, attrelid, attnum, privilege)),
       count(*)
FROM pg_attribute, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS privilege
WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped GROUP BY privilege
"""  # noqa: E501 one expression
WHOLE_TABLE = """
SELECT array_agg(privilege) FROM unnest(ARRAY['DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
WHERE has_table_privilege(%(role)s::name, %(table)s::regclass, privilege)
"""
ELSEWHERE = """
SELECT 'the database', array_agg(privilege) FROM unnest(ARRAY['CONNECT', 'CREATE', 'TEMPORARY']) AS privilege
WHERE has_database_privilege(%(role)s::name, current_database(), privilege)
UNION ALL
SELECT format('the schema `%%s`', nspname), array_agg(privilege) FILTER (WHERE has_schema_privilege(%(role)s::name, oid, privilege))
FROM pg_namespace, unnest(ARRAY['USAGE', 'CREATE']) AS privilege WHERE nspname IN ('public', 'datadog') GROUP BY nspname
UNION ALL
SELECT CASE prorettype WHEN 'trigger'::regtype THEN 'the functions of the triggers' ELSE format('`%%s`', proname) END AS object,
       array_agg(DISTINCT 'EXECUTE'::text) FILTER (WHERE has_function_privilege(%(role)s::name, oid, 'EXECUTE'))
FROM pg_proc WHERE pronamespace::regnamespace::text IN ('public', 'datadog') GROUP BY object
ORDER BY 1
"""  # noqa: E501 one expression
MEMBERSHIPS = """
SELECT array_agg(format('`%%s`', rolname) ORDER BY rolname) FROM pg_roles
WHERE rolname ~ '^(pg|registration)_' AND rolname <> %(role)s::name AND rolname !~ '_app_' AND pg_has_role(%(role)s::name, oid, 'USAGE')
"""  # noqa: E501 one expression


def test_the_page_states_the_privileges(prepared: Cluster) -> None:
    """Privileges are read from the catalog, and each lock is tried; if the page differs, the error has the new text."""
    with stranger(prepared) as nobody, prepared.server.connect(prepared.name) as connection:
        connection.execute("SET statement_timeout = '10s'")
        app, clone = prepared.application.username, prepared.clone
        logins = {
            "the service's login, and its clone": app,
            "the monitoring login": prepared.monitoring.username,
            "the cluster's login, also after SET ROLE": prepared.admin.user,
            "any other login": nobody,
        }
        tables = "".join(table_rows(connection, name, role) for name, role in logins.items())
        elsewhere = {name: other_objects(connection, role) for name, role in logins.items()}
        assert table_rows(connection, "", app) == table_rows(connection, "", clone)
        assert other_objects(connection, app) == other_objects(connection, clone)
        admin_tables = table_rows(connection, "", prepared.admin.user)
        assert admin_tables == table_rows(connection, "", OWNER_ROLE)

    expected = (
        "| login | table | reads | inserts | updates | also | strongest lock |\n|---|---|---|---|---|---|---|\n"
        f"{tables}\n| object | {' | '.join(elsewhere)} |\n|---|{'---|' * len(elsewhere)}\n"
    )
    objects = list(next(iter(elsewhere.values())))
    expected += "".join(
        f"| {what} | {' | '.join(privileges[what] for privileges in elsewhere.values())} |\n" for what in objects
    )
    found = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert found == expected, f"replace the generated privileges in {PAGE.name} by:\n{expected}"


@contextmanager
def stranger(cluster: Cluster) -> Iterator[str]:
    """Create a login without any grant."""
    name = f"stranger_{secrets.token_hex(3)}"
    cluster.server.create_login(name, "password")
    try:
        yield name
    finally:
        cluster.execute("DROP ROLE {}", name)


def table_rows(connection: psycopg.Connection, name: str, role: str) -> str:
    """Return the lines of the tables; the partitions have one line, because they are all equal."""
    found = connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [EVENTS]
    )
    partitions = {cells(connection, table, role) for (table,) in found.fetchall()}
    assert len(partitions) == 1
    rows = {}
    for table in GRANTS:
        rows[f"`{table}`"] = cells(connection, table, role)
        if table == EVENTS:
            rows[PARTITIONS] = partitions.pop()
    if len(set(rows.values())) == 1:
        rows = {"every table": set(rows.values()).pop()}
    return "".join(f"| {name} | {table} | {' | '.join(row)} |\n" for table, row in rows.items())


def cells(connection: psycopg.Connection, table: str, role: str) -> tuple[str, ...]:
    """Return what *role* can do with the columns of *table*, with the whole table, and the strongest lock."""
    parameters = {"role": role, "table": table}
    of_columns = {}
    for privilege, columns, number in connection.execute(COLUMNS, parameters).fetchall():
        names = ", ".join(f"`{column}`" for column in columns or ())
        of_columns[privilege] = "every column" if len(columns or ()) == number else names or NONE
    ((others,),) = connection.execute(WHOLE_TABLE, parameters).fetchall()
    modes = [mode for mode in LOCK_MODES if can_lock(connection, table, role, mode)]
    assert modes == list(LOCK_MODES[: len(modes)])
    return (
        *(of_columns[privilege] for privilege in ("SELECT", "INSERT", "UPDATE")),
        ", ".join(others or [NONE]),
        modes[-1] if modes else NONE,
    )


def can_lock(connection: psycopg.Connection, table: str, role: str, mode: str) -> bool:
    """Return whether a session of *role* can lock *table*."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL SESSION AUTHORIZATION {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("LOCK TABLE {} IN " + mode + " MODE").format(sql.Identifier("public", table)))
    except INSUFFICIENT_PRIVILEGE:
        return False
    return True


def other_objects(connection: psycopg.Connection, role: str) -> dict[str, str]:
    """Return the privileges of *role* on the database, the schemas and the functions, and its roles."""
    rows = connection.execute(ELSEWHERE, {"role": role}).fetchall()
    ((roles,),) = connection.execute(MEMBERSHIPS, {"role": role}).fetchall()
    return {what: ", ".join(privileges or [NONE]) for what, privileges in [*rows, ("has the privileges of", roles)]}
