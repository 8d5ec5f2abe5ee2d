"""Find privileges and triggers that differ from those that protect the event log and the consents."""

from collections.abc import Iterator

from psycopg import sql
from sqlalchemy import Connection, text

from registration_persistence.schema.composed_sql import public_table
from registration_persistence.schema.grants import (
    GRANTS,
    PACKAGE_OBJECTS_CTE,
    PACKAGE_OBJECTS_PARAMETERS,
    READ_WRITE_ROLE,
)

_ADDED = "AFTER INSERT ON {} REFERENCING NEW TABLE AS added FOR EACH STATEMENT"
_MOVE = "BEFORE UPDATE OF status ON {} FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)"

TRIGGERS = {
    "outbox_check_insert": _ADDED,
    "registration_consents_check_insert": _ADDED,
    "registration_events_check_insert": _ADDED,
    "registrations_check_delete": "BEFORE DELETE ON {} FOR EACH ROW",
    "registrations_check_insert": "BEFORE INSERT ON {} FOR EACH ROW",
    "registrations_check_move": _MOVE,
    "registrations_check_update": "BEFORE UPDATE ON {} FOR EACH ROW",
    "verification_tokens_check_update": "BEFORE UPDATE ON {} FOR EACH ROW",
}
"""The triggers, each of which calls the function of its name."""

_TRIGGERS_FOUND = text(f"""
WITH {PACKAGE_OBJECTS_CTE}, expected AS (
  SELECT unnest(CAST(:triggers AS text[])) AS trigger, unnest(CAST(:of_tables AS text[])) AS of_table
)
SELECT ours.name, expected.trigger, t.tgname IS NULL AS missing
FROM ours
JOIN expected ON expected.of_table = ours.name
LEFT JOIN pg_trigger t ON t.tgrelid = ours.oid AND t.tgname = expected.trigger
  AND t.tgfoid = to_regproc('public.' || expected.trigger)
WHERE ours.kind = 'r' AND (t.tgname IS NULL OR t.tgenabled NOT IN ('O', 'A'))
ORDER BY 1, 2
""")  # noqa: S608 constants

# The privileges of PUBLIC, of the service's group, and of its logins, which should have theirs from the group.
_PRIVILEGES_FOUND = text(f"""
WITH {PACKAGE_OBJECTS_CTE}, granted AS (
  SELECT name, owner, grantee, privilege_type, NULL AS attname FROM ours, aclexplode(acl) WHERE kind = 'r'
  UNION ALL
  SELECT name, owner, grantee, privilege_type, attname
  FROM ours JOIN pg_attribute ON attrelid = ours.oid AND NOT attisdropped, aclexplode(attacl) WHERE kind = 'r'
)
SELECT name, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE rolname END AS role, privilege_type, attname
FROM granted LEFT JOIN pg_roles ON pg_roles.oid = grantee
WHERE grantee <> owner AND (grantee = 0 OR NOT rolsuper AND EXISTS (
  SELECT FROM pg_roles g WHERE g.rolname = :group AND pg_has_role(grantee, g.oid, 'MEMBER')))
ORDER BY 1, 2, 3, 4
""")  # noqa: S608 constants


def missing_protection(connection: Connection) -> list[str]:
    """Return one line for each privilege or trigger that differs, with the SQL statement that corrects it.

    Checks no privileges of a database in which `bootstrap` has not granted any.

    Args:
        connection: A connection to the database.
    """
    return [*_trigger_problems(connection), *_privilege_problems(connection)]


def _trigger_problems(connection: Connection) -> Iterator[str]:
    tables = {trigger: trigger.partition("_check_")[0] for trigger in TRIGGERS}
    parameters = {**PACKAGE_OBJECTS_PARAMETERS, "triggers": list(tables), "of_tables": list(tables.values())}
    for row in connection.execute(_TRIGGERS_FOUND, parameters):
        table = public_table(row.name)
        if row.missing:
            problem, template = "missing", "CREATE TRIGGER {} {} EXECUTE FUNCTION {}();"
            event = sql.SQL(TRIGGERS[row.trigger]).format(table)
            fix = sql.SQL(template).format(sql.Identifier(row.trigger), event, public_table(row.trigger))
        else:
            problem, template = "disabled", "ALTER TABLE {} ENABLE TRIGGER {};"
            fix = sql.SQL(template).format(table, sql.Identifier(row.trigger))
        yield f"the trigger {row.trigger} of {row.name} is {problem}: {fix.as_string()}"


def _privilege_problems(connection: Connection) -> Iterator[str]:
    rows = connection.execute(_PRIVILEGES_FOUND, {**PACKAGE_OBJECTS_PARAMETERS, "group": READ_WRITE_ROLE})
    found = {(row.role, row.name, row.privilege_type, row.attname or "") for row in rows}
    expected = {
        (READ_WRITE_ROLE, table, privilege, column)
        for table, privileges in GRANTS.items()
        for privilege, columns in privileges.items()
        for column in columns or ("",)
    }
    for each in sorted(found - expected):
        yield _privilege_problem("has", "REVOKE {} ON {} FROM {};", each)
    for each in sorted(expected - found) if found & expected else ():
        yield _privilege_problem("lacks", "GRANT {} ON {} TO {};", each)


def _privilege_problem(verb: str, template: str, granted: tuple[str, str, str, str]) -> str:
    role, table, privilege, column = granted
    columns = sql.SQL(" ({})").format(sql.Identifier(column)) if column else sql.SQL("")
    grantee = sql.SQL("PUBLIC") if role == "PUBLIC" else sql.Identifier(role)
    fix = sql.SQL(template).format(sql.SQL(privilege) + columns, public_table(table), grantee)
    described = f"{privilege} ({column})" if column else privilege
    return f"{role} {verb} {described} on {table}: {fix.as_string()}"
