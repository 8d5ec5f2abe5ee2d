"""Create the group roles and the logins of a cluster, or correct those that exist."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import psycopg
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from registration_persistence.database import DatabaseSettings
from registration_persistence.schema.bootstrap_catalog import ADMIN_USES_IAM, MEMBERSHIPS, ROLES
from registration_persistence.schema.bootstrap_checks import BootstrapRefused
from registration_persistence.schema.bootstrap_logins import GROUP_ROLES, IAM_ROLE, Logins
from registration_persistence.schema.composed_sql import execute_with_identifiers, quoted_if_needed
from registration_persistence.schema.grants import MONITORING_ROLE, OWNER_ROLE
from registration_persistence.schema.login_settings import READABLE_STYLES

# An agent needs a few connections, and must not use up the connection slots of a small cluster.
_MAX_MONITORING_CONNECTIONS = 10
_UNLIMITED_CONNECTIONS = -1

# The settings of PostgreSQL, and the fields of `DatabaseSettings` with their defaults.
_TIME_LIMITS = {
    "statement_timeout": "statement_timeout",
    "lock_timeout": "lock_timeout",
    "idle_in_transaction_session_timeout": "idle_in_transaction_timeout",
}


def create_group_roles(connection: Connection, admin_name: str) -> None:
    """Create the group roles, make the admin a member of the owner role, and let the monitoring read statistics.

    Raises:
        BootstrapRefused: The admin may not grant `pg_monitor`.
    """
    for group in GROUP_ROLES:
        _create_role(connection, group, "NOLOGIN")
    execute_with_identifiers(connection, "GRANT {} TO CURRENT_USER", OWNER_ROLE)
    _grant("pg_monitor", MONITORING_ROLE, connection, admin_name)


def _grant(role: str, member: str, connection: Connection, admin_name: str) -> None:
    """Make *member* a member of *role*, which belongs to the server.

    Raises:
        BootstrapRefused: The admin may not grant *role*.
    """
    try:
        # Not checked beforehand, because rds_superuser has privileges that the catalog does not show.
        execute_with_identifiers(connection, "GRANT {} TO {}", role, member)
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        admin = quoted_if_needed(admin_name)
        problem = f"{admin_name} may not grant {role}: GRANT {role} TO {admin} WITH ADMIN OPTION"
        raise BootstrapRefused([problem]) from error


def create_logins(connection: Connection, logins: Logins, database_name: str, admin_name: str) -> None:
    """Create the logins, make each a member of its group role alone, and set its time limits and date style.

    A login with IAM becomes a member of `rds_iam` too.

    Raises:
        BootstrapRefused: The admin may not grant `rds_iam`, or would have to log in with IAM itself; or a login stays a
            member of another role, because only that role's admin can revoke it.
    """
    monitoring = logins.monitoring.username if logins.monitoring else None
    for login, group in logins.group_of.items():
        limit = _MAX_MONITORING_CONNECTIONS if login == monitoring else _UNLIMITED_CONNECTIONS
        _create_role(connection, login, "LOGIN", max_connections=limit)
        execute_with_identifiers(connection, "GRANT {} TO {}", group, login)
    if logins.uses_iam:
        _enable_iam(connection, logins.service, admin_name)
    for login in logins.names:
        _set_defaults(connection, login, database_name)
    for membership in _unwanted_memberships(connection, logins):
        execute_with_identifiers(connection, "REVOKE {} FROM {}", membership.role, membership.member)
    if remaining := _unwanted_memberships(connection, logins):
        raise BootstrapRefused(
            [
                f"{each.member} is a member of {each.role}: REVOKE {quoted_if_needed(each.role)} FROM {each.member}"
                for each in remaining
            ]
        )


def set_idle_session_timeout(connection: Connection, logins: Logins, seconds: float) -> None:
    """Let the server end idle sessions of the service's logins, also those that a connection pooler keeps.

    Args:
        connection: A connection in the transaction of `bootstrap`.
        logins: The logins.
        seconds: The limit; 0 leaves the setting of the logins as it is.
    """
    if not seconds:
        return
    for login in filter(None, (logins.service, logins.alternate)):
        setting = f"idle_session_timeout = '{round(seconds * 1000)}ms'"
        execute_with_identifiers(connection, f"ALTER ROLE {{}} SET {setting}", login)


def _unwanted_memberships(connection: Connection, logins: Logins) -> Sequence[Row[Any]]:
    rows = connection.execute(MEMBERSHIPS, {"roles": logins.names}).all()
    return [row for row in rows if not logins.may_be_member(row.member, row.role)]


def _enable_iam(connection: Connection, login: str, admin_name: str) -> None:
    """Let *login* log in with IAM.

    Raises:
        BootstrapRefused: The admin may not do that, or would have to log in with IAM itself from now on.
    """
    used_iam_before = connection.scalar(ADMIN_USES_IAM)
    _grant(IAM_ROLE, login, connection, admin_name)
    if connection.scalar(ADMIN_USES_IAM) and not used_iam_before:
        admin = quoted_if_needed(admin_name)
        fix = f"REVOKE {login} FROM {admin}, or ALTER ROLE {admin} RESET createrole_self_grant"
        raise BootstrapRefused(
            [f"{admin_name} is a member of {login}, so that RDS would not accept its password any more: {fix}"]
        )


def _create_role(
    connection: Connection, name: str, login: str, *, max_connections: int = _UNLIMITED_CONNECTIONS
) -> None:
    """Create a role, or correct the attributes of the one that exists."""
    limit = f"CONNECTION LIMIT {max_connections}"
    role = connection.execute(ROLES, {"roles": [name]}).one_or_none()
    if role is None:
        attributes = f"{login} NOSUPERUSER NOCREATEDB NOCREATEROLE {limit}"
        execute_with_identifiers(connection, f"CREATE ROLE {{}} {attributes}", name)
        return
    is_as_wanted = role.login == (login == "LOGIN") and role.connections == max_connections
    if not is_as_wanted or role.creates or not role.inherits:
        attributes = f"{login} NOCREATEDB NOCREATEROLE INHERIT {limit}"
        execute_with_identifiers(connection, f"ALTER ROLE {{}} {attributes}", name)


def _set_defaults(connection: Connection, login: str, database_name: str) -> None:
    """Set time limits and styles on the server, because a connection pooler does not let the client set them."""
    defaults = {field.name: field.default for field in dataclasses.fields(DatabaseSettings)}
    for setting, name in _TIME_LIMITS.items():
        execute_with_identifiers(connection, f"ALTER ROLE {{}} SET {setting} = '{defaults[name]:g}s'", login)
    for setting, style in READABLE_STYLES.items():
        execute_with_identifiers(connection, f"ALTER ROLE {{}} SET {setting} = '{style}'", login)
        execute_with_identifiers(connection, f"ALTER ROLE {{}} IN DATABASE {{}} RESET {setting}", login, database_name)
