"""`bootstrap`: the roles of a cluster, its logins with the passwords of their secrets, and what each may do."""

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from registration_persistence.database import Credentials, Database, DatabaseSettings, StaticCredentials, deadline
from registration_persistence.database.commit_guard import driver_connection
from registration_persistence.database.credentials.secret_reader import read_secret
from registration_persistence.database.engine import create_database_engine
from registration_persistence.errors import ConfigurationError, RegistrationPersistenceError
from registration_persistence.schema.bootstrap_catalog import ADMIN, MEMBERSHIPS, OWNED, ROLES, STATE
from registration_persistence.schema.datadog import SCHEMA, make_explain_function
from registration_persistence.schema.deployment_lock import deployment
from registration_persistence.schema.grants import (
    MONITORING_ROLE,
    OURS_PARAMETERS,
    OWNER_ROLE,
    READ_WRITE_ROLE,
    apply_grants,
    run,
    table,
)

APPLICATION_SECRET = "APP_DATABASE_APPLICATION_SECRET_ARN"  # noqa: S105 the name of a variable

MONITORING_SECRET = "APP_DATABASE_MONITORING_SECRET_ARN"  # noqa: S105 the name of a variable

_GROUPS = (OWNER_ROLE, READ_WRITE_ROLE, MONITORING_ROLE)

# As AWS's rotation function names the other of two users.
_CLONE = "_clone"

# Of 63 octets, the clone's suffix takes some.
_PLAIN = re.compile(rf"[a-z_][a-z0-9_]{{0,{62 - len(_CLONE)}}}")

_RESERVED = re.compile(r"(pg_|rds).*|public|none|postgres|registration_(owner|rw|monitoring)(_clone)?")

_OLDEST, _ADMIN_OPTION_NEEDED = 150_000, 160_000

# An agent holds a few, and must not fill the slots of a small cluster.
_MONITORING_CONNECTIONS = 10

# Seconds to find out whether a password is right.
_PROBE = 5.0


class BootstrapRefused(RegistrationPersistenceError):
    """The roles cannot be made here; `problems` lists why, one sentence each. Nothing was changed."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "the roles cannot be made, and nothing was changed:" + "".join(f"\n  - {each}" for each in self.problems)


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What `bootstrap` found to do.

    Args:
        application: The login that its secret names.
        alternate: The other login of an alternating rotation: `NAME_clone`, or `NAME` where the secret names the clone.
        monitoring: The monitoring's login, if there is one.
        changes: What is true now and was not before, and after `no longer: ` what is true no more; nothing the second
            time.
    """

    application: str
    alternate: str
    monitoring: str | None
    changes: tuple[str, ...]


def bootstrap(database: Database, application: Credentials, *, monitoring: Credentials | None = None) -> Bootstrapped:
    """Make the roles of a cluster, the service's login and its clone, and grant each the least; all or nothing.

    It can be repeated at any time, and sets right what was changed by hand. The password of *application* becomes what
    is given here, also after a restore. The clone has none until a rotation gives it one, which is then left alone.
    Tables that the database's login made before are handed to the owner role.

    Args:
        database: With the cluster's own login: it creates roles and owns the database. At the direct endpoint.
        application: The service's login, `NAME` or `NAME_clone`.
        monitoring: The monitoring's login.

    Raises:
        BootstrapRefused: With every reason.
        DeploymentInProgress: Another deployment is at work.
        LockTimeout: A table that shall be handed over is in use: repeat it.
        RegistrationPersistenceError: As for `Database.session`.
    """
    with deployment(database, name="bootstrap", wait=0) as connection, connection.begin():
        return _Bootstrap(database.settings, connection, application, monitoring).run()


def bootstrap_from_secrets(
    database: Database, application: str | None = None, *, monitoring: str | None = None
) -> Bootstrapped:
    """Call `bootstrap` with the credentials of secrets.

    Args:
        database: As for `bootstrap`.
        application: The ARN of the service's secret; `APP_DATABASE_APPLICATION_SECRET_ARN` where it is `None`.
        monitoring: The same for the monitoring; `APP_DATABASE_MONITORING_SECRET_ARN`, or there is none.

    Raises:
        ConfigurationError: An ARN is missing, is none, or is that of another login.
        SecretUnavailable: A secret cannot be read.
        SecretMalformed: A secret has no user name and password.
        RegistrationPersistenceError: As for `bootstrap`.
    """
    application = application or os.environ.get(APPLICATION_SECRET)
    monitoring = monitoring or os.environ.get(MONITORING_SECRET) or None
    if not application:
        raise ConfigurationError([f"{APPLICATION_SECRET} is not set: expected the ARN of the service's secret"])
    arns = {"APP_DATABASE_SECRET_ARN": database.settings.secret_arn, APPLICATION_SECRET: application}
    arns |= {MONITORING_SECRET: monitoring} if monitoring else {}
    if len(set(arns.values())) < len(arns):
        raise ConfigurationError([f"{' and '.join(arns)} are not all different: expected a secret for each login"])
    return bootstrap(
        database,
        read_secret(application, name=APPLICATION_SECRET),
        monitoring=read_secret(monitoring, name=MONITORING_SECRET) if monitoring else None,
    )


class _Bootstrap:
    def __init__(
        self,
        settings: DatabaseSettings,
        connection: Connection,
        application: Credentials,
        monitoring: Credentials | None,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._application, self._monitoring = application, monitoring
        current = application.username
        self._base = current.removesuffix(_CLONE)
        self._alternate = self._base if current != self._base else current + _CLONE
        self._services = (current, self._alternate)
        self._logins = (*self._services, *([monitoring.username] if monitoring else []))

    def run(self) -> Bootstrapped:
        admin = self._connection.execute(ADMIN).one()
        if problems := [*self._name_problems(admin), *self._admin_problems(admin), *self._state_problems(admin)]:
            raise BootstrapRefused(problems)
        before = self._state()
        secrets = [each for each in (self._application, self._monitoring) if each is not None]
        stale = [each for each in secrets if self._is_missing(each.username) or self._is_rejected(each)]
        self._make_groups(admin)
        self._make_logins()
        for each in stale:
            self._set_password(each)
        self._close_to_public()
        self._hand_over(admin)
        self._grant()
        after = self._state()
        changes = (
            *sorted(after - before),
            *(f"{each.username} has the password of its secret" for each in stale),
            *(f"no longer: {sentence}" for sentence in sorted(before - after)),
        )
        return Bootstrapped(
            self._application.username,
            self._alternate,
            self._monitoring.username if self._monitoring else None,
            changes,
        )

    def _name_problems(self, admin: Row[Any]) -> Iterator[str]:
        names = {"application": self._base}
        if self._monitoring:
            names["monitoring"] = self._monitoring.username
        for what, name in names.items():
            if not _PLAIN.fullmatch(name) or _RESERVED.fullmatch(name):
                yield (
                    f"the {what} secret's user name cannot be one: expected lower-case letters, digits and _, "
                    f"at most {63 - len(_CLONE)}, and no name of PostgreSQL, RDS or this package"
                )
        if len({*self._logins, admin.name}) < len(self._logins) + 1:
            yield "two of the secrets have the same user name: expected one each for cluster, application, monitoring"

    def _admin_problems(self, admin: Row[Any]) -> Iterator[str]:
        if admin.version < _OLDEST:
            yield f"the server is PostgreSQL {admin.version // 10_000}: expected 15 or newer"
        if not admin.creates_roles:
            yield f"{admin.name} may not create roles: use the cluster's own secret"
        if not admin.owns_database:
            yield f"the database does not belong to {admin.name}: use the cluster's own secret"
        elif not admin.owns_public:
            yield f"the schema public is not {admin.name}'s: ALTER SCHEMA public OWNER TO pg_database_owner"

    def _state_problems(self, admin: Row[Any]) -> Iterator[str]:
        for role in self._connection.execute(ROLES, {"roles": [*_GROUPS, *self._logins]}):
            if role.mighty:
                yield f"the role {role.name} is a superuser, replicates or bypasses row security: choose another name"
            if admin.version >= _ADMIN_OPTION_NEEDED and not role.administrable:
                yield (
                    f"the role {role.name} was made by somebody else: "
                    f"GRANT {role.name} TO {admin.name} WITH ADMIN OPTION, as who made it"
                )
        for owned in self._connection.execute(OWNED, OURS_PARAMETERS):
            if owned.owner not in {OWNER_ROLE, admin.name}:
                kind = {"r": "TABLE", "f": "FUNCTION", "n": "SCHEMA"}[owned.kind]
                yield (
                    f"{owned.name} belongs to {owned.owner}: ALTER {kind} {owned.name} OWNER TO {admin.name}, "
                    f"from where bootstrap hands it to {OWNER_ROLE}"
                )

    def _state(self) -> set[str]:
        roles = [*_GROUPS, *self._logins]
        return set(self._connection.scalars(STATE, {**OURS_PARAMETERS, "roles": roles}))

    def _make_groups(self, admin: Row[Any]) -> None:
        for group in _GROUPS:
            self._make(group, "NOLOGIN")
        self._run("GRANT {} TO CURRENT_USER", OWNER_ROLE)
        try:
            # Tried, not asked before: rds_superuser may do more than the catalog says.
            self._run("GRANT pg_monitor TO {}", MONITORING_ROLE)
        except DBAPIError as error:
            if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                raise
            problem = f"{admin.name} may not grant pg_monitor: GRANT pg_monitor TO {admin.name} WITH ADMIN OPTION"
            raise BootstrapRefused([problem]) from error

    def _make_logins(self) -> None:
        for login in self._services:
            self._make(login, "LOGIN")
            self._run("GRANT {} TO {}", READ_WRITE_ROLE, login)
        if self._monitoring:
            self._make(self._monitoring.username, "LOGIN", connections=_MONITORING_CONNECTIONS)
            self._run("GRANT {} TO {}", MONITORING_ROLE, self._monitoring.username)
        for login in self._logins:
            self._limit(login)
        for membership in self._further_memberships():
            self._run("REVOKE {} FROM {}", membership.role, membership.member)
        if left := self._further_memberships():
            raise BootstrapRefused(
                [f"{each.member} is a member of {each.role}: REVOKE {each.role} FROM {each.member}" for each in left]
            )

    def _further_memberships(self) -> list[Row[Any]]:
        """Return what the logins are members of, besides their groups."""
        rows = self._connection.execute(MEMBERSHIPS, {"roles": list(self._logins)})
        group = {login: READ_WRITE_ROLE if login in self._services else MONITORING_ROLE for login in self._logins}
        return [row for row in rows if row.role != group[row.member]]

    def _make(self, name: str, login: str, *, connections: int = -1) -> None:
        """Create a role, or give one that is there the attributes that it should have."""
        (role,) = self._connection.execute(ROLES, {"roles": [name]}).all() or (None,)
        if role is None:
            self._run(
                f"CREATE ROLE {{}} {login} NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT {connections}", name
            )
            return
        if role.login != (login == "LOGIN") or role.creates or not role.inherits or role.connections != connections:
            self._run(f"ALTER ROLE {{}} {login} NOCREATEDB NOCREATEROLE INHERIT CONNECTION LIMIT {connections}", name)

    def _limit(self, login: str) -> None:
        """Give *login* the time limits that a pooler does not let the client ask for."""
        seconds = {field.name: field.default for field in dataclasses.fields(DatabaseSettings)}
        for setting, name in (
            ("statement_timeout", "statement_timeout"),
            ("lock_timeout", "lock_timeout"),
            ("idle_in_transaction_session_timeout", "idle_in_transaction_timeout"),
        ):
            self._run(f"ALTER ROLE {{}} SET {setting} = '{seconds[name]:g}s'", login)

    def _is_missing(self, login: str) -> bool:
        return not self._connection.execute(ROLES, {"roles": [login]}).all()

    def _is_rejected(self, credentials: Credentials) -> bool:
        """Tell whether the server does not let *credentials* in, or does so whatever the password is."""
        settings = dataclasses.replace(
            self._settings, pool="lambda", application_name="registration_persistence bootstrap"
        )
        engine = create_database_engine(settings, StaticCredentials(credentials))
        try:
            with deadline(_PROBE, reserve=0), engine.connect() as connection:
                return not driver_connection(connection).pgconn.used_password
        except RegistrationPersistenceError:
            return True
        finally:
            engine.dispose()

    def _set_password(self, credentials: Credentials) -> None:
        """Send a hash, which is all that the server needs, so that its logs do not have the password."""
        problem = _password_set(driver_connection(self._connection), credentials)
        if problem is not None:
            raise BootstrapRefused([f"the password of {credentials.username} cannot be set: {problem}"])

    def _close_to_public(self) -> None:
        """Leave PUBLIC nothing, and the groups the way to the tables."""
        name = self._settings.name
        self._run("REVOKE ALL ON DATABASE {} FROM PUBLIC", name)
        self._run("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for group in (READ_WRITE_ROLE, MONITORING_ROLE):
            self._run("GRANT CONNECT ON DATABASE {} TO {}", name, group)
            self._run("GRANT USAGE ON SCHEMA public TO {}", group)
        self._run("GRANT USAGE, CREATE ON SCHEMA public TO {}", OWNER_ROLE)

    def _hand_over(self, admin: Row[Any]) -> None:
        """Give the owner role what was made before there was one."""
        for owned in self._connection.execute(OWNED, OURS_PARAMETERS).all():
            if owned.owner == OWNER_ROLE:
                continue
            assert owned.owner == admin.name
            verb, name = {
                "r": ("ALTER TABLE {} OWNER TO {}", table(owned.name)),
                "f": ("ALTER FUNCTION {} OWNER TO {}", sql.SQL(owned.name)),
                "n": ("ALTER SCHEMA {} OWNER TO {}", sql.Identifier(owned.name)),
            }[owned.kind]
            run(self._connection, sql.SQL(verb).format(name, sql.Identifier(OWNER_ROLE)))

    def _grant(self) -> None:
        self._run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION {{}}", OWNER_ROLE)
        self._run("SET LOCAL ROLE {}", OWNER_ROLE)
        apply_grants(self._connection, logins=self._logins)
        make_explain_function(self._connection)
        self._run("SET LOCAL ROLE NONE")

    def _run(self, statement: str, *names: str) -> None:
        run(self._connection, sql.SQL(statement).format(*map(sql.Identifier, names)))


def _password_set(driver: psycopg.Connection[Any], credentials: Credentials) -> str | None:
    """Set a password and return `None`, or what went wrong; raises nowhere that a frame would show it."""
    try:
        verifier = driver.pgconn.encrypt_password(
            credentials.password.encode(), credentials.username.encode(), b"scram-sha-256"
        ).decode()
        driver.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(credentials.username), sql.Literal(verifier))
        )
    except psycopg.Error as error:
        return error.diag.message_primary or "libpq cannot hash it"
    return None
