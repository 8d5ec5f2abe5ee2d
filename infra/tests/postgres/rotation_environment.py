"""A database with roles and secrets, as the rotation function finds it."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import handler
import psycopg
import pytest
from moto.secretsmanager.models import secretsmanager_backends
from psycopg import sql

from registration_persistence import Credentials, Database, DatabaseSettings, StaticCredentials, schema
from registration_persistence.sandbox import FakeLambdaContext, LocalSecretsManager, PostgresServer
from registration_persistence.schema import MONITORING_ROLE, OWNER_ROLE, READ_WRITE_ROLE

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
_REGION, _ACCOUNT = "eu-west-1", "123456789012"


@dataclass(frozen=True, slots=True)
class Environment:
    """A database after `bootstrap` and `upgrade`, and the secrets of its logins.

    Args:
        server: The server, with its superuser.
        database: The name of the database.
        secrets_manager: The Secrets Manager.
        admin: The ARN of the administrator's secret.
        application: The ARN of the application's secret.
        monitoring: The monitoring's login.
        patch: Sets the environment variables of the function.
    """

    server: PostgresServer
    database: str
    secrets_manager: LocalSecretsManager
    admin: str
    application: str
    monitoring: Credentials
    patch: pytest.MonkeyPatch

    def current(self, arn: str) -> Credentials:
        """Return the login in the current version of a secret."""
        value = self.secrets_manager.read(arn)
        return Credentials(value["username"], value["password"])

    def pending(self, arn: str) -> Credentials:
        """Return the login in the pending version of a secret."""
        value = self.secrets_manager.read(arn, "AWSPENDING")
        return Credentials(value["username"], value["password"])

    def connect(self, credentials: Credentials) -> psycopg.Connection:
        """Open a connection in autocommit with *credentials*."""
        return replace(self.server, user=credentials.username, password=credentials.password).connect(self.database)

    def start(self, arn: str) -> str:
        """Begin a rotation as Secrets Manager does: a version with the label, without content. Return its id."""
        version = str(uuid4())
        versions = secretsmanager_backends[_ACCOUNT][_REGION].secrets[arn].versions
        for each in versions.values():
            each["version_stages"] = [label for label in each["version_stages"] if label != "AWSPENDING"]
        versions[version] = {"createdate": 0, "version_id": version, "version_stages": ["AWSPENDING"]}
        return version

    def perform(self, arn: str, version: str, *steps: str, alternating: bool = False, seconds: float = 20) -> None:
        """Invoke the function of the secret *arn* once for each of *steps*, as Secrets Manager does."""
        self.patch.setenv("APP_DATABASE_SECRET_ARN", arn)
        self.patch.setenv("ROTATION_ADMIN_SECRET_ARN", self.admin if alternating else "")
        for step in steps:
            event = {"SecretId": arn, "ClientRequestToken": version, "Step": step, "RotationToken": "unused"}
            handler.handle(json.loads(json.dumps(event)), FakeLambdaContext(timeout=seconds))

    def rotate(self, arn: str, *, alternating: bool = False) -> Credentials:
        """Rotate a secret, and return its new login."""
        self.perform(arn, self.start(arn), *STEPS, alternating=alternating)
        return self.current(arn)


@contextmanager
def environment(
    server: PostgresServer, secrets_manager: LocalSecretsManager, patch: pytest.MonkeyPatch
) -> Iterator[Environment]:
    """Create a database with an administrator as on Aurora, and remove everything afterwards."""
    run = secrets.token_hex(3)
    admin, application, monitoring = (
        Credentials(f"{name}_{run}", secrets.token_urlsafe(24)) for name in ("admin", "registration_app", "datadog")
    )
    arns = [
        secrets_manager.create(each.username, {"username": each.username, "password": each.password, "ssl": True})
        for each in (admin, application)
    ]
    name = f"rotation_{run}"
    _create(server, admin, name)
    settings: dict[str, Any] = {"host": server.host, "port": server.port, "name": name, "sslmode": "prefer"}
    database = Database(DatabaseSettings(environment="test", secret_arn=arns[0], **settings), StaticCredentials(admin))
    schema.bootstrap(database, application, monitoring=monitoring)
    schema.upgrade(database, owner_role=OWNER_ROLE)
    database.dispose()
    for variable, value in {"environment": "test", **settings}.items():
        prefix = "APP_" if variable == "environment" else "APP_DATABASE_"
        patch.setenv(f"{prefix}{variable.upper()}", str(value))
    try:
        yield Environment(server, name, secrets_manager, arns[0], arns[1], monitoring, patch)
    finally:
        server.drop_database(name)
        users = [application.username, f"{application.username}_clone", monitoring.username]
        _drop_roles(server, [*users, OWNER_ROLE, READ_WRITE_ROLE, MONITORING_ROLE, admin.username])


def _create(server: PostgresServer, admin: Credentials, database: str) -> None:
    with server.connect() as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB PASSWORD {}").format(
                sql.Identifier(admin.username), sql.Literal(_verifier(connection, admin))
            )
        )
        connection.execute(sql.SQL("GRANT pg_monitor TO {} WITH ADMIN OPTION").format(sql.Identifier(admin.username)))
    replace(server, user=admin.username, password=admin.password).create_database(database)


def _verifier(connection: psycopg.Connection, login: Credentials) -> str:
    # So that a search for the password does not find it in the statement that created the login.
    return connection.pgconn.encrypt_password(
        login.password.encode(), login.username.encode(), b"scram-sha-256"
    ).decode()


def _drop_roles(server: PostgresServer, roles: list[str]) -> None:
    with server.connect() as connection:
        for role in roles:
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None:
                for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
                    connection.execute(sql.SQL(statement).format(sql.Identifier(role)))
