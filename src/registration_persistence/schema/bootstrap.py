"""`bootstrap`: create the roles of a cluster, set the passwords of its logins, and grant each the least privileges."""

import os
from dataclasses import dataclass
from functools import partial

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from registration_persistence.database import Credentials, Database, DatabaseSettings
from registration_persistence.database.credentials.secret_reader import read_secret
from registration_persistence.database.environment_rules import is_relaxed
from registration_persistence.database.secret_arn import arn_problem
from registration_persistence.domain.text import plain_text
from registration_persistence.errors import ConfigurationError, LockTimeout
from registration_persistence.schema.bootstrap_catalog import ADMIN, STATE
from registration_persistence.schema.bootstrap_checks import check_preconditions
from registration_persistence.schema.bootstrap_conflicts import RolesChanged, repeat_while_roles_change
from registration_persistence.schema.bootstrap_logins import IAM_ROLE, MAX_NAME_LENGTH, Logins
from registration_persistence.schema.bootstrap_passwords import is_password_outdated, set_password
from registration_persistence.schema.bootstrap_privileges import grant_as_owner, hand_over_to_owner, revoke_from_public
from registration_persistence.schema.bootstrap_roles import (
    create_group_roles,
    create_logins,
    set_idle_session_timeout,
)
from registration_persistence.schema.composed_sql import execute_verbatim
from registration_persistence.schema.deployment_lock import (
    LOCK_TIMEOUT_SECONDS,
    DeploymentInProgress,
    schema_connection,
    take_lock,
)
from registration_persistence.schema.grants import OWNER_ROLE, PACKAGE_OBJECTS_PARAMETERS, VERSION_TABLE

APPLICATION_SECRET = "APP_DATABASE_APPLICATION_SECRET_ARN"  # noqa: S105 the name of a variable
"""The environment variable with the ARN of the service's secret."""

APPLICATION_USER = "APP_DATABASE_APPLICATION_USER"
"""The environment variable with the service's user name, if the service logs in with IAM."""

MONITORING_SECRET = "APP_DATABASE_MONITORING_SECRET_ARN"  # noqa: S105 the name of a variable
"""The environment variable with the ARN of the monitoring's secret."""


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The logins that `bootstrap` created or found, and its changes.

    Args:
        application: The service's login.
        alternate: The other login of an alternating rotation: `NAME_clone`, or `NAME` if the secret names the clone;
            `None` if the service logs in with IAM.
        monitoring: The login of the monitoring, if there is one.
        changes: One sentence for each change: the new state, or `no longer: ` and the old state. Empty if nothing had
            to be changed.
    """

    application: str
    alternate: str | None
    monitoring: str | None
    changes: tuple[str, ...]


def bootstrap(
    database: Database, application: Credentials | str, *, monitoring: Credentials | None = None
) -> Bootstrapped:
    """Create the roles of a cluster, the service's login and its clone, and grant each the least privileges.

    Everything happens in one transaction, which is repeated if a bootstrap in another database of the cluster changes
    the same roles. It can be repeated at any time, and corrects manual changes. The password of
    *application* is set to the given one, also after a restore. The clone has no password until a rotation sets one,
    which `bootstrap` then leaves alone. Tables that belong to the login of *database* are handed over to the owner
    role.

    Args:
        database: The database, at its direct endpoint, with the cluster's own login, which creates roles and owns the
            database.
        application: The service's login, `NAME` or `NAME_clone`. A name alone, at most 57 characters, logs in with IAM:
            it becomes a member of `rds_iam`, has no clone, and RDS accepts no password for it.
        monitoring: The monitoring's login. Defaults to none.

    Raises:
        BootstrapRefused: The roles cannot be created; the error lists every reason.
        DeploymentInProgress: Another deployment is in progress, or keeps changing the roles of the cluster.
        LockTimeout: A table that is to be handed over is in use: try again.
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    limits = {"statement_timeout": 0, "idle_in_transaction_timeout": 0, "lock_timeout": LOCK_TIMEOUT_SECONDS}
    with schema_connection(database, name="bootstrap", pool="lambda", **limits) as connection:
        return repeat_while_roles_change(
            lambda: _bootstrap(connection, database.settings, Logins(application, monitoring))
        )


def bootstrap_from_secrets(
    database: Database,
    application: str | None = None,
    *,
    application_user: str | None = None,
    monitoring: str | None = None,
) -> Bootstrapped:
    """Read the credentials of the logins from Secrets Manager, and call `bootstrap` with them.

    The service has either a secret or, with IAM, a user name. An argument replaces both variables.

    Args:
        database: The database, at its direct endpoint, with the cluster's own login, which creates roles and owns the
            database.
        application: The ARN of the service's secret. Defaults to `APP_DATABASE_APPLICATION_SECRET_ARN`.
        application_user: The user name of a service that logs in with IAM, at most 57 characters. Defaults to
            `APP_DATABASE_APPLICATION_USER`.
        monitoring: The ARN of the monitoring's secret. Defaults to `APP_DATABASE_MONITORING_SECRET_ARN`; if that is
            not set either, there is no login for the monitoring.

    Raises:
        ConfigurationError: An ARN is malformed, two logins have the same ARN, or the service has neither or both of
            ARN and user name.
        SecretUnavailable: A secret cannot be read.
        SecretMalformed: A secret has no user name and password.
        BootstrapRefused: The roles cannot be created; the error lists every reason.
        DeploymentInProgress: Another deployment is in progress, or keeps changing the roles of the cluster.
        LockTimeout: A table that is to be handed over is in use: try again.
        RegistrationPersistenceError: The database cannot be reached, or an error of `Database.session`.
    """
    if not application and not application_user:
        application, application_user = os.environ.get(APPLICATION_SECRET), os.environ.get(APPLICATION_USER)
    monitoring = monitoring or os.environ.get(MONITORING_SECRET) or None
    if application_user and plain_text(application_user, MAX_NAME_LENGTH) is None:
        raise ConfigurationError([f"{APPLICATION_USER} is not text of at most {MAX_NAME_LENGTH} characters"])
    if application and application_user:
        raise ConfigurationError(
            [f"{APPLICATION_SECRET} and {APPLICATION_USER} are both set: expected one, because a login has one way in"]
        )
    if not application and not application_user:
        fix = f"expected the ARN of the service's secret, or with IAM the service's user name in {APPLICATION_USER}"
        raise ConfigurationError([f"{APPLICATION_SECRET} is not set: {fix}"])
    secrets = {APPLICATION_SECRET: application, MONITORING_SECRET: monitoring}
    given = {name: arn for name, arn in secrets.items() if arn}
    if problems := [problem for name, arn in given.items() if (problem := arn_problem(arn, name))]:
        raise ConfigurationError(problems)  # before the first secret is read
    arns = {"APP_DATABASE_SECRET_ARN": database.settings.secret_arn} | given
    if len(set(arns.values())) < len(arns):
        raise ConfigurationError([f"{' and '.join(arns)} are not all different: expected a secret for each login"])
    read = partial(read_secret, only_aws=not is_relaxed(database.settings.environment))
    return bootstrap(
        database,
        read(application, name=APPLICATION_SECRET) if application else application_user or "",
        monitoring=read(monitoring, name=MONITORING_SECRET) if monitoring else None,
    )


def _bootstrap(connection: Connection, settings: DatabaseSettings, logins: Logins) -> Bootstrapped:
    with connection.begin():
        return _change_everything(connection, settings, logins)


def _change_everything(connection: Connection, settings: DatabaseSettings, logins: Logins) -> Bootstrapped:
    admin = connection.execute(ADMIN).one()
    is_locked = _is_locked(connection)
    check_preconditions(connection, admin, logins)
    before = _state(connection, logins)
    outdated = [each for each in logins.credentials if is_password_outdated(connection, settings, each)]
    try:
        create_group_roles(connection, admin.name)
        if not is_locked:  # the admin has only now become a member of the owner
            take_lock(connection, OWNER_ROLE)
        create_logins(connection, logins, settings.name, admin.name)
        set_idle_session_timeout(connection, logins, settings.idle_session_timeout)
        for credentials in outdated:
            set_password(connection, credentials)
    except LockTimeout as error:
        raise RolesChanged(str(error)) from error
    revoke_from_public(connection, settings.name)
    hand_over_to_owner(connection)
    grant_as_owner(connection, logins.names)
    after = _state(connection, logins)
    return Bootstrapped(
        logins.service,
        logins.alternate,
        logins.monitoring.username if logins.monitoring else None,
        changes=(
            *sorted(after - before),
            *(f"{each.username} has the password of its secret" for each in outdated),
            *_lost_passwords(after - before, logins),
            *(f"no longer: {sentence}" for sentence in sorted(before - after)),
        ),
    )


def _lost_passwords(new: set[str], logins: Logins) -> list[str]:
    """Return a sentence if the service's login has just become a member of `rds_iam`."""
    name = logins.service
    if f"{name} is a member of {IAM_ROLE}" not in new:
        return []
    return [f"{name} logs in with IAM, and a password that it had is not accepted any more"]


def _is_locked(connection: Connection) -> bool:
    """Take the deployment lock, and return whether the login may.

    Raises:
        DeploymentInProgress: Another deployment holds the lock.
    """
    try:
        if take_lock(connection):  # until the end of the transaction, nobody else can create the table
            execute_verbatim(connection, f"DROP TABLE public.{VERSION_TABLE}")
    except LockTimeout as error:
        raise DeploymentInProgress("another deployment is migrating: wait until it is done") from error
    except ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        return False
    return True


def _state(connection: Connection, logins: Logins) -> set[str]:
    return set(connection.scalars(STATE, {**PACKAGE_OBJECTS_PARAMETERS, "roles": logins.roles}))
