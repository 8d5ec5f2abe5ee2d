"""The reasons why `bootstrap` cannot do its work."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.schema.bootstrap_catalog import IAM_ROLE_EXISTS, OBJECT_OWNERS, ROLES
from registration_persistence.schema.bootstrap_logins import Logins, name_problems
from registration_persistence.schema.composed_sql import quoted_if_needed
from registration_persistence.schema.grants import OWNER_ROLE, PACKAGE_OBJECTS_PARAMETERS

_MIN_SERVER_VERSION = 150_000

# Since PostgreSQL 16, CREATEROLE allows changes only to roles that the login has ADMIN OPTION for.
_ADMIN_OPTION_VERSION = 160_000


class BootstrapRefused(RegistrationPersistenceError):
    """The roles cannot be created; nothing was changed.

    Args:
        problems: Every reason, one sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        heading = "the roles cannot be created, and nothing was changed:"
        return heading + "".join(f"\n  - {problem}" for problem in self.problems)


def check_preconditions(connection: Connection, admin: Row[Any], logins: Logins) -> None:
    """Check the names of *logins*, the privileges of the admin, and the roles and objects that exist.

    Args:
        connection: A connection of the cluster's own login.
        admin: The row of `ADMIN`.
        logins: The logins that are to be created.

    Raises:
        BootstrapRefused: With every reason.
    """
    problems = [
        *name_problems(logins, admin.name),
        *_admin_problems(admin),
        *_role_problems(connection, admin, logins.roles),
        *_owner_problems(connection, admin.name),
        *_iam_problems(connection, logins),
    ]
    if problems:
        raise BootstrapRefused(problems)


def _admin_problems(admin: Row[Any]) -> Iterator[str]:
    if admin.version < _MIN_SERVER_VERSION:
        yield f"the server is PostgreSQL {admin.version // 10_000}: expected 15 or newer"
    if not admin.creates_roles:
        yield f"{admin.name} may not create roles: use the cluster's own secret"
    if not admin.owns_database:
        yield f"the database does not belong to {admin.name}: use the cluster's own secret"
    elif not admin.owns_public:
        yield f"the schema public does not belong to {admin.name}: ALTER SCHEMA public OWNER TO pg_database_owner"


def _role_problems(connection: Connection, admin: Row[Any], roles: Sequence[str]) -> Iterator[str]:
    for role in connection.execute(ROLES, {"roles": roles}):
        if role.is_privileged:
            yield f"the role {role.name} is a superuser, replicates or bypasses row security: choose another name"
        if admin.version >= _ADMIN_OPTION_VERSION and not role.administrable:
            yield (
                f"the role {role.name} was created by another role: run "
                f"GRANT {role.name} TO {quoted_if_needed(admin.name)} WITH ADMIN OPTION as the role that created it"
            )


def _iam_problems(connection: Connection, logins: Logins) -> Iterator[str]:
    if logins.uses_iam and not connection.scalar(IAM_ROLE_EXISTS):
        yield (
            "the role rds_iam does not exist, so this is not a server of Amazon RDS, and it knows no IAM: give the "
            "service a secret (APP_DATABASE_APPLICATION_SECRET_ARN)"
        )


def _owner_problems(connection: Connection, admin_name: str) -> Iterator[str]:
    for owned in connection.execute(OBJECT_OWNERS, PACKAGE_OBJECTS_PARAMETERS):
        if owned.owner not in {OWNER_ROLE, admin_name}:
            kind = {"r": "TABLE", "f": "FUNCTION", "n": "SCHEMA"}[owned.kind]
            name = owned.name if owned.kind == "f" else quoted_if_needed(owned.name)  # a signature is quoted
            yield (
                f"{owned.name} belongs to {owned.owner}: ALTER {kind} {name} OWNER TO {quoted_if_needed(admin_name)}, "
                f"then bootstrap hands it over to {OWNER_ROLE}"
            )
