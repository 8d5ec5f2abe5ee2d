"""Who may do what with which table: the least that the statements of this package need."""

from collections.abc import Mapping, Sequence

from psycopg import sql
from sqlalchemy import Connection, text

from registration_persistence.models.tables import (
    OutboxRow,
    RegistrationConsentRow,
    RegistrationEventRow,
    RegistrationRow,
    VerificationTokenRow,
)

OWNER_ROLE = "registration_owner"
"""Owns everything that the migrations make; nobody logs in as it."""
READ_WRITE_ROLE = "registration_rw"
"""The group of the service's logins."""
MONITORING_ROLE = "registration_monitoring"
"""The group of the monitoring's login: statistics and plans, no row."""

VERSION_TABLE = "alembic_version"
_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")

GRANTS: Mapping[str, Sequence[str]] = {
    RegistrationRow.__tablename__: _ALL,
    VerificationTokenRow.__tablename__: _ALL,
    # What cascades from a registration is done by the table's owner.
    RegistrationConsentRow.__tablename__: ("SELECT", "INSERT"),
    # A row goes through the parent, so that the partitions need no grants.
    RegistrationEventRow.__tablename__: ("SELECT", "INSERT"),
    OutboxRow.__tablename__: _ALL,
    VERSION_TABLE: ("SELECT",),
}
"""What `READ_WRITE_ROLE` may do with each table; nobody else may do anything."""

# Tables, partitions and the functions of triggers, and whether who asks may grant on them.
OURS = """
ours AS (
  SELECT c.oid, c.relname AS name, c.relowner AS owner, c.relacl AS acl, 'r'::"char" AS kind
  FROM pg_class c
  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    AND (c.relname = ANY(:tables) OR EXISTS (
      SELECT FROM pg_inherits i JOIN pg_class parent ON parent.oid = i.inhparent
      WHERE i.inhrelid = c.oid AND parent.relname = :partitioned AND parent.relnamespace = c.relnamespace))
  UNION ALL
  SELECT p.oid, p.oid::regprocedure::text, p.proowner, p.proacl, 'f'::"char"
  FROM pg_proc p
  WHERE p.pronamespace = 'public'::regnamespace AND p.oid IN (
    SELECT t.tgfoid FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = p.pronamespace AND c.relname = ANY(:tables))
)
"""
OURS_PARAMETERS = {"tables": list(GRANTS), "partitioned": RegistrationEventRow.__tablename__}

_GRANTABLE = text(f"""
WITH {OURS}
SELECT name, kind, oid::regprocedure::text AS signature FROM ours
WHERE pg_has_role(current_user, owner, 'USAGE') ORDER BY name
""")  # noqa: S608 a constant
_GROUPS = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:groups)")


def apply_grants(connection: Connection, *, logins: Sequence[str] = ()) -> None:
    """Grant what `GRANTS` says on the tables that exist, and take away whatever else there was.

    Does nothing where `bootstrap` has not made the roles yet, and leaves tables out that are another's.

    Args:
        connection: As the owner of the tables, in a transaction.
        logins: Roles that shall have nothing of their own on these tables, besides PUBLIC and the groups.
    """
    wanted = [READ_WRITE_ROLE, MONITORING_ROLE]
    groups = connection.scalars(_GROUPS, {"groups": wanted}).all()
    if READ_WRITE_ROLE not in groups:
        return
    rows = connection.execute(_GRANTABLE, OURS_PARAMETERS).all()
    tables = [row.name for row in rows if row.kind == "r"]
    functions = [row.signature for row in rows if row.kind == "f"]
    nobody = sql.SQL(", ").join([sql.SQL("PUBLIC"), *map(sql.Identifier, [*groups, *logins])])
    if tables:
        named = sql.SQL(", ").join(table(name) for name in tables)
        run(connection, sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(named, nobody))
    for function in functions:
        run(connection, sql.SQL("REVOKE ALL ON FUNCTION {} FROM {}").format(sql.SQL(function), nobody))
    for name in tables:
        if name in GRANTS:
            privileges = sql.SQL(", ").join(map(sql.SQL, GRANTS[name]))
            group = sql.Identifier(READ_WRITE_ROLE)
            run(connection, sql.SQL("GRANT {} ON TABLE {} TO {}").format(privileges, table(name), group))


def table(name: str) -> sql.Composable:
    """Return the table *name* of ours for a statement."""
    return sql.Identifier("public", name)


def run(connection: Connection, statement: sql.Composable) -> None:
    """Execute a statement that takes no parameters."""
    connection.exec_driver_sql(statement.as_string().replace("%", "%%"))
