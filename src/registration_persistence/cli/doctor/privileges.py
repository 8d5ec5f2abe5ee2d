"""The role of the login: its membership, its effective privileges compared with `GRANTS`, and the protection."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text

from registration_persistence.cli.doctor.check import Check, failed, listed, ok, skipped, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.schema.grants import (
    CALLED_FUNCTIONS,
    GRANTS,
    PACKAGE_OBJECTS_CTE,
    PACKAGE_OBJECTS_PARAMETERS,
    READ_WRITE_ROLE,
)
from registration_persistence.schema.protection import missing_protection

ROLE, PROTECTION = "role", "protection"

_COLUMN_PRIVILEGES = ("INSERT", "UPDATE")
_TABLE_PRIVILEGES = ("SELECT", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")

_MEMBERSHIP = text("""
SELECT EXISTS (SELECT FROM pg_roles g WHERE g.rolname = :group) AS group_exists,
  EXISTS (SELECT FROM pg_roles g WHERE g.rolname = :group AND pg_has_role(g.oid, 'USAGE')) AS is_member,
  has_schema_privilege('public', 'USAGE') AS uses_schema, has_schema_privilege('public', 'CREATE') AS creates
""")

# The privileges that the login has, whoever granted them: itself, its groups or PUBLIC.
_EFFECTIVE = text(f"""
WITH {PACKAGE_OBJECTS_CTE}
SELECT ours.name, privilege, '' AS column, has_table_privilege(ours.oid, privilege) AS held
FROM ours, unnest(CAST(:table_privileges AS text[])) AS privilege
WHERE ours.kind = 'r' AND ours.name = ANY(:tables)
UNION ALL
SELECT ours.name, privilege, attname, has_column_privilege(ours.oid, attnum, privilege)
FROM ours JOIN pg_attribute ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped,
  unnest(CAST(:column_privileges AS text[])) AS privilege
WHERE ours.kind = 'r' AND ours.name = ANY(:tables)
UNION ALL
SELECT ours.name, 'EXECUTE', '', has_function_privilege(ours.oid, 'EXECUTE') FROM ours WHERE ours.kind = 'f'
UNION ALL
SELECT ours.name, 'ownership', '', pg_has_role(ours.owner, 'MEMBER') FROM ours
WHERE ours.kind = 'r' AND ours.name = ANY(:tables)
""")  # noqa: S608 constants

_NO_TABLES = "there are no tables: see the check 'schema'"

_BOOTSTRAP = "run `registration-persistence bootstrap` with the cluster's login, which restores all privileges"

_LEAST = f"give the service a login of its own, with {READ_WRITE_ROLE} alone: docs/howto/roles.md"


def role_check(facts: Facts) -> Check:
    """Compare the privileges of the login with those that the service needs."""
    if not facts.has_tables:
        return skipped(ROLE, _NO_TABLES)
    server = facts.server
    assert server is not None
    user, connection = server.current_user, facts.connection
    membership = connection.execute(_MEMBERSHIP, {"group": READ_WRITE_ROLE}).one()
    missing, excess = _differences(connection)
    if not membership.uses_schema:
        missing.insert(0, "USAGE on the schema public")
    if missing:
        role = f"; it is no member of {READ_WRITE_ROLE}" if membership.group_exists and not membership.is_member else ""
        return failed(ROLE, f"{user} lacks {listed(missing)}{role}", _BOOTSTRAP)
    powers = [
        power
        for power, held in (
            ("is a superuser", server.is_superuser),
            ("may create roles", server.creates_roles),
            ("bypasses row security", server.bypasses_rls),
            ("may create objects in the schema public", membership.creates),
            (f"has more than the service needs: {listed(excess)}", excess),
        )
        if held
    ]
    if powers:
        return warning(ROLE, f"{user} {listed(powers)}", _LEAST)
    return ok(ROLE, f"{user} has the privileges of {READ_WRITE_ROLE}, and no others")


def protection_check(facts: Facts) -> Check:
    """Look for triggers and privileges of the groups that differ, as `registration-persistence check` does."""
    if not facts.has_tables:
        return skipped(PROTECTION, _NO_TABLES)
    problems = missing_protection(facts.connection)
    if problems:
        # Each line ends with the statement that corrects it.
        described, statements = zip(*(line.split(": ", 1) for line in problems), strict=True)
        return failed(PROTECTION, listed(described), listed(statements))
    return ok(PROTECTION, "the triggers and the privileges of the event log and the consents are in place")


def _differences(connection: Connection) -> tuple[list[str], list[str]]:
    """Return the privileges that the login lacks, and those that it has in excess."""
    parameters = {
        **PACKAGE_OBJECTS_PARAMETERS,
        "table_privileges": list(_TABLE_PRIVILEGES),
        "column_privileges": list(_COLUMN_PRIVILEGES),
    }
    rows = connection.execute(_EFFECTIVE, parameters).all()
    owned = {row.name for row in rows if row.privilege == "ownership" and row.held}
    missing = [_described(row) for row in rows if not row.held and _is_needed(row)]
    excess = [f"the ownership of {name}" for name in sorted(owned)]
    # A function of a trigger cannot be called, and the owner has every privilege.
    excess += [
        _described(row)
        for row in rows
        if row.held and not _is_needed(row) and row.privilege not in {"ownership", "EXECUTE"} and row.name not in owned
    ]
    return list(_grouped(missing)), list(_grouped(excess))


def _is_needed(row: Any) -> bool:
    if row.privilege == "EXECUTE":
        return row.name.partition("(")[0] in CALLED_FUNCTIONS
    columns: Sequence[str] | None = GRANTS[row.name].get(row.privilege)
    return columns is not None and (not columns or not row.column or row.column in columns)


def _described(row: Any) -> str:
    privilege = f"{row.privilege} ({row.column})" if row.column else row.privilege
    return f"{privilege} on {row.name}"


def _grouped(privileges: Sequence[str]) -> Iterator[str]:
    """Join the columns of each privilege on a table: `UPDATE (a, b) on registrations`."""
    columns: dict[tuple[str, str], list[str]] = {}
    for each in privileges:
        privilege, _, rest = each.partition(" (")
        column, _, table = rest.partition(") on ")
        if table:
            columns.setdefault((privilege, table), []).append(column)
        else:
            yield each
    yield from (f"{privilege} ({', '.join(names)}) on {table}" for (privilege, table), names in columns.items())
