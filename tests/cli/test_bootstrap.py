"""`bootstrap`: the roles of a new cluster."""

import json
import re
import secrets
from collections.abc import Iterator

import pytest
from command_line import LOGIN, PASSWORD, one_line, run, variables

from registration_persistence.sandbox import LocalSecretsManager, PostgresServer
from registration_persistence.schema import MONITORING_ROLE, OWNER_ROLE, READ_WRITE_ROLE

ROLES = (OWNER_ROLE, READ_WRITE_ROLE, MONITORING_ROLE)
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"


@pytest.fixture
def admin(command_server: PostgresServer) -> Iterator[dict[str, str]]:
    """The variables of a Secrets Manager and of an empty database, whose owner may create roles."""
    name, user = f"bootstrap_{secrets.token_hex(8)}", f"admin_{secrets.token_hex(4)}"
    command_server.create_login(user, PASSWORD)
    with command_server.connect() as connection:
        connection.execute(f"ALTER ROLE {user} CREATEROLE CREATEDB")
        connection.execute(f"GRANT pg_monitor TO {user} WITH ADMIN OPTION")
    command_server.create_database(name, owner=user)
    with LocalSecretsManager() as secrets_manager:
        arn = secrets_manager.create(name, {"username": "registration_app", "password": PASSWORD})
        yield {
            **variables(command_server.port, name),
            **secrets_manager.environment,
            "APP_DATABASE_USER": user,
            "APP_DATABASE_APPLICATION_SECRET_ARN": arn,
        }
    command_server.drop_database(name)
    with command_server.connect() as connection:
        roles = ["registration_app", "registration_app_clone", *ROLES, user]
        existing = {role for (role,) in connection.execute("SELECT rolname FROM pg_roles")}
        for role in (role for role in roles if role in existing):
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_bootstrap_prints_its_changes(admin: dict[str, str]) -> None:
    """It prints one line for each change, and another line if nothing changed; then the owner role can migrate."""
    owner = {**admin, "APP_DATABASE_OWNER_ROLE": OWNER_ROLE}

    first = run("bootstrap", environ=admin).stdout.splitlines()

    assert "registration_app has the password of its secret" in first
    assert "registration_app_clone is a role with login" in first
    assert run("bootstrap", environ=admin).stdout == "no changes\n"
    assert {"changes": []} == json.loads(run("bootstrap", "--json", environ=admin).stdout)
    run("migrate", environ=owner)
    denied = one_line(run("partitions", "--months", "40", environ=service(admin), code=1).stderr)
    assert re.search(r"permission denied .*: use a login .* partitions need the one that owns the tables", denied)
    assert "partitions created: " in run("partitions", "--months", "40", environ=owner).stdout
    run("check", environ=service(admin))
    assert "expired 0" in run("expire", environ=service(admin)).stdout


def service(admin: dict[str, str]) -> dict[str, str]:
    """Return the variables of *admin* with the login of the service."""
    return {**admin, "APP_DATABASE_USER": "registration_app"}


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--application-secret", "nonsense"), 2, "APP_DATABASE_APPLICATION_SECRET_ARN is 'nonsense': expected arn:"),
        (("--monitoring-secret", f"{SECRET}missing-AbCdEf"), 1, f"cannot read the secret {SECRET}missing-AbCdEf"),
    ],
)
def test_bootstrap_without_its_secrets_is_rejected(
    admin: dict[str, str], arguments: tuple[str, ...], code: int, reason: str
) -> None:
    """The error names an invalid ARN, or a secret that does not exist."""
    assert reason in run("bootstrap", *arguments, environ=admin, code=code).stderr.splitlines()[-1]


def test_bootstrap_without_the_privilege_is_rejected(admin: dict[str, str], empty_database: dict[str, str]) -> None:
    """If the login may not create roles, the reasons are listed."""
    stderr = run("bootstrap", environ={**admin, **empty_database}, code=1).stderr

    assert stderr.startswith("registration-persistence: the roles cannot be created, and nothing was changed:\n  - ")
    assert f"{LOGIN} may not create roles: use the cluster's own secret" in stderr
