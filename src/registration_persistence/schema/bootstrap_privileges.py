"""Set the owners and the privileges of the database, its schemas and its objects."""

from collections.abc import Sequence

from psycopg import sql
from sqlalchemy import Connection

from registration_persistence.schema.bootstrap_catalog import OBJECT_OWNERS
from registration_persistence.schema.composed_sql import execute_verbatim, execute_with_identifiers, public_table
from registration_persistence.schema.datadog import DATADOG_SCHEMA, create_explain_function
from registration_persistence.schema.grants import (
    MONITORING_ROLE,
    OWNER_ROLE,
    PACKAGE_OBJECTS_PARAMETERS,
    READ_WRITE_ROLE,
    apply_grants,
)


def revoke_from_public(connection: Connection, database_name: str) -> None:
    """Revoke every privilege of PUBLIC on the database, and let the group roles connect and use the schema."""
    execute_with_identifiers(connection, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database_name)
    execute_verbatim(connection, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for group in (READ_WRITE_ROLE, MONITORING_ROLE):
        execute_with_identifiers(connection, "GRANT CONNECT ON DATABASE {} TO {}", database_name, group)
        execute_with_identifiers(connection, "GRANT USAGE ON SCHEMA public TO {}", group)
    execute_with_identifiers(connection, "GRANT USAGE, CREATE ON SCHEMA public TO {}", OWNER_ROLE)


def hand_over_to_owner(connection: Connection) -> None:
    """Make the owner role the owner of the objects that the admin created before the role existed."""
    for owned in connection.execute(OBJECT_OWNERS, PACKAGE_OBJECTS_PARAMETERS).all():
        if owned.owner == OWNER_ROLE:
            continue
        template, name = {
            "r": ("ALTER TABLE {} OWNER TO {}", public_table(owned.name)),
            "f": ("ALTER FUNCTION {} OWNER TO {}", sql.SQL(owned.name)),
            "n": ("ALTER SCHEMA {} OWNER TO {}", sql.Identifier(owned.name)),
        }[owned.kind]
        execute_verbatim(connection, sql.SQL(template).format(name, sql.Identifier(OWNER_ROLE)))


def grant_as_owner(connection: Connection, logins: Sequence[str]) -> None:
    """As the owner role, grant the privileges on the tables and create the function for Datadog.

    Args:
        connection: A connection of the cluster's own login, in a transaction.
        logins: Roles from which every other privilege on the tables is revoked.
    """
    create_schema = f"CREATE SCHEMA IF NOT EXISTS {DATADOG_SCHEMA} AUTHORIZATION {{}}"
    execute_with_identifiers(connection, create_schema, OWNER_ROLE)
    execute_with_identifiers(connection, "SET LOCAL ROLE {}", OWNER_ROLE)
    apply_grants(connection, logins=logins)
    create_explain_function(connection)
    execute_verbatim(connection, "SET LOCAL ROLE NONE")
