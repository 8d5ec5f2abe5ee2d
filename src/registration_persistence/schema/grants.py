"""The privileges of the roles on the tables: the least that the statements of this package need."""

from collections.abc import Mapping, Sequence
from itertools import starmap
from typing import Any

from psycopg import sql
from sqlalchemy import Connection, text

from registration_persistence.domain.text import plain_text
from registration_persistence.domain.validation import at_most
from registration_persistence.errors import InvalidInput
from registration_persistence.models.tables import (
    OutboxRow,
    RegistrationConsentRow,
    RegistrationEventRow,
    RegistrationRow,
    VerificationTokenRow,
)
from registration_persistence.schema.composed_sql import execute_verbatim, public_table

OWNER_ROLE = "registration_owner"
"""Owns every object that the migrations create; nobody logs in as it."""

READ_WRITE_ROLE = "registration_rw"
"""The group role of the service's logins."""

MONITORING_ROLE = "registration_monitoring"
"""The group role of the monitoring's login: statistics and plans, no rows."""

VERSION_TABLE = "registration_schema_version"
"""Records the revision of the database; not `alembic_version`, which a service in the same database may use."""

_MAX_LOGINS, _MAX_LOGIN_CHARACTERS = 100, 63

GRANTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    RegistrationRow.__tablename__: {
        "SELECT": (),
        # Not version and updated_at: the database sets them in a new row.
        "INSERT": (
            "id", "email", "email_key", "email_key_rev", "status", "profile", "submit_key", "submit_digest",
            "tokens_issued", "token_issued_at", "created_at", "expires_at", "verified_at", "activated_at",
            "closed_at", "close_reason",
        ),
        "UPDATE": (
            "email", "email_key", "status", "profile", "submit_key", "submit_digest", "version", "tokens_issued",
            "token_issued_at", "updated_at", "expires_at", "verified_at", "activated_at", "closed_at", "close_reason",
        ),
        "DELETE": (),
    },
    VerificationTokenRow.__tablename__: {
        "SELECT": (),
        "INSERT": ("id", "registration_id", "purpose", "secret_hash", "hash_key_id", "created_at", "expires_at"),
        "UPDATE": ("attempts", "used_at", "replaced_at"),
        "DELETE": (),
    },
    # A DELETE that cascades from a registration runs with the privileges of the table's owner.
    RegistrationConsentRow.__tablename__: {
        "SELECT": (),
        "INSERT": (
            "registration_id", "id", "purpose", "document_version", "granted", "source", "recorded_at", "seq",
        ),
    },
    # Rows are inserted through the parent, so the partitions need no grants. Nobody chooses occurred_at.
    RegistrationEventRow.__tablename__: {
        "SELECT": (),
        "INSERT": ("registration_id", "seq", "id", "type", "data", "actor", "correlation_id"),
    },
    OutboxRow.__tablename__: {
        "SELECT": (),
        "INSERT": ("event_id", "registration_id", "type", "payload"),
        "UPDATE": ("available_at", "attempts", "last_error", "dead_at"),
        "DELETE": (),
    },
    VERSION_TABLE: {"SELECT": ()},
}  # fmt: skip
"""The privileges of `READ_WRITE_ROLE` on each table, with their columns, or none if they hold for the whole table.

No other role has any, except the owner.
"""

CALLED_FUNCTIONS = ("registrations_count_pending",)
"""The functions that `READ_WRITE_ROLE` may execute; those of triggers need no privilege."""

PACKAGE_OBJECTS_CTE = """
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
  WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY(:functions)
)
"""
"""The objects of this package: its tables, their partitions, and its functions."""

PACKAGE_OBJECTS_PARAMETERS: Mapping[str, Any] = {
    "tables": list(GRANTS),
    "partitioned": RegistrationEventRow.__tablename__,
    "functions": [
        "outbox_check_insert",
        "registration_consents_check_insert",
        "registration_events_check_insert",
        "registrations_check_delete",
        "registrations_check_insert",
        "registrations_check_move",
        "registrations_check_update",
        *CALLED_FUNCTIONS,
        "verification_tokens_check_update",
    ],
}
"""The parameters of `PACKAGE_OBJECTS_CTE`."""

_GRANTABLE_OBJECTS = text(f"""
WITH {PACKAGE_OBJECTS_CTE}
SELECT name, kind, oid::regprocedure::text AS signature FROM ours
WHERE pg_has_role(current_user, owner, 'USAGE') ORDER BY name
""")  # noqa: S608 a constant

_EXISTING_GROUPS = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:groups)")


def apply_grants(connection: Connection, *, logins: Sequence[str] = ()) -> None:
    """Grant the privileges of `GRANTS` on the tables that exist, and revoke all others.

    Does nothing if `bootstrap` has not created the roles yet. Skips tables of another owner.

    Args:
        connection: A connection with the privileges of the tables' owner, in a transaction.
        logins: Roles from which every privilege on these tables is revoked, in addition to PUBLIC and the groups; at
            most 100, each with 1 to 63 characters. Defaults to none.

    Raises:
        InvalidInput: *logins* contains something else or too many; nothing was sent.
        RegistrationPersistenceError: A statement failed with one of the errors of `Database.session`.
        sqlalchemy.exc.SQLAlchemyError: Another error of a statement, for example because a login does not exist.
    """
    roles = _checked_logins(logins)
    groups = connection.scalars(_EXISTING_GROUPS, {"groups": [READ_WRITE_ROLE, MONITORING_ROLE]}).all()
    if READ_WRITE_ROLE not in groups:
        return
    rows = connection.execute(_GRANTABLE_OBJECTS, PACKAGE_OBJECTS_PARAMETERS).all()
    tables = [row.name for row in rows if row.kind == "r"]
    functions = [row.signature for row in rows if row.kind == "f"]
    _revoke_all(connection, tables, functions, [*groups, *roles])
    for name in tables:
        if name in GRANTS:
            grant = sql.SQL("GRANT {} ON TABLE {} TO {}")
            privileges = sql.SQL(", ").join(starmap(_privilege, GRANTS[name].items()))
            execute_verbatim(connection, grant.format(privileges, public_table(name), sql.Identifier(READ_WRITE_ROLE)))
    for signature in functions:
        if signature.partition("(")[0].rpartition(".")[2] in CALLED_FUNCTIONS:
            group = sql.Identifier(READ_WRITE_ROLE)
            execute_verbatim(
                connection, sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(signature), group)
            )


def _privilege(privilege: str, columns: Sequence[str]) -> sql.Composable:
    if not columns:
        return sql.SQL(privilege)
    return sql.SQL("{} ({})").format(sql.SQL(privilege), sql.SQL(", ").join(map(sql.Identifier, columns)))


def _checked_logins(logins: Sequence[str]) -> list[str]:
    """Return the names of roles, if they are at most 100 texts."""
    too_many = InvalidInput(f"there are more than {_MAX_LOGINS} logins")
    given = [None] if isinstance(logins, str | bytes) or not isinstance(logins, Sequence) else logins
    taken = at_most(given, _MAX_LOGINS, too_many)
    names = [name for login in taken if (name := plain_text(login, _MAX_LOGIN_CHARACTERS))]
    if len(names) < len(taken):
        raise InvalidInput(f"the logins are not names of 1 to {_MAX_LOGIN_CHARACTERS} characters")
    return names


def _revoke_all(connection: Connection, tables: Sequence[str], functions: Sequence[str], roles: Sequence[str]) -> None:
    grantees = sql.SQL(", ").join([sql.SQL("PUBLIC"), *map(sql.Identifier, roles)])
    if tables:
        names = sql.SQL(", ").join(map(public_table, tables))
        execute_verbatim(connection, sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(names, grantees))
    for signature in functions:
        revoke = sql.SQL("REVOKE ALL ON FUNCTION {} FROM {}").format(sql.SQL(signature), grantees)
        execute_verbatim(connection, revoke)
