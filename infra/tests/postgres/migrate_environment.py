"""`Cluster`: a new database for a function of `migrate_function/`; its fixtures are in `conftest.py`."""

import json
import logging
import runpy
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from registration_persistence.database import forget_db
from registration_persistence.sandbox import FakeLambdaContext, LocalSecretsManager, PostgresServer
from registration_persistence.schema import MONITORING_ROLE, OWNER_ROLE, READ_WRITE_ROLE

HANDLER = Path(__file__).parents[2] / "migrate_function" / "handler.py"

Handle = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A new cluster, and the passwords of its logins."""

    server: PostgresServer
    name: str
    passwords: dict[str, str]

    def connect(self) -> psycopg.Connection:
        """Open a connection in autocommit as the superuser."""
        return self.server.connect(self.name)


@pytest.fixture
def cluster(
    postgres_server: PostgresServer, secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """An empty database, an administrator like on Aurora, three secrets, and the environment of the function."""
    run = secrets.token_hex(3)
    name = f"handler_{run}"
    users = {purpose: f"{purpose}_{run}" for purpose in ("admin", "application", "monitoring")}
    passwords = {user: secrets.token_urlsafe(16) for user in users.values()}
    arns = {
        purpose: secrets_manager.create(f"{purpose}-{run}", {"username": user, "password": passwords[user]})
        for purpose, user in users.items()
    }
    with postgres_server.connect() as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB PASSWORD {}").format(
                sql.Identifier(users["admin"]), sql.Literal(passwords[users["admin"]])
            )
        )
        connection.execute(sql.SQL("GRANT pg_monitor TO {} WITH ADMIN OPTION").format(sql.Identifier(users["admin"])))
    replace(postgres_server, user=users["admin"], password=passwords[users["admin"]]).create_database(name)
    for variable, value in {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": postgres_server.host,
        "APP_DATABASE_PORT": str(postgres_server.port),
        "APP_DATABASE_NAME": name,
        "APP_DATABASE_SECRET_ARN": arns["admin"],
        "APP_DATABASE_SSLMODE": "prefer",
        "APP_DATABASE_OWNER_ROLE": OWNER_ROLE,
        "APP_DATABASE_APPLICATION_SECRET_ARN": arns["application"],
        "APP_DATABASE_MONITORING_SECRET_ARN": arns["monitoring"],
    }.items():
        monkeypatch.setenv(variable, value)
    forget_db()
    yield Cluster(postgres_server, name, passwords)
    forget_db()
    postgres_server.drop_database(name)
    logins = [users["application"], f"{users['application']}_clone", users["monitoring"]]
    with postgres_server.connect() as connection:
        for role in [*logins, OWNER_ROLE, READ_WRITE_ROLE, MONITORING_ROLE, users["admin"]]:
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None:
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def handle(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> Iterator[Handle]:
    """Return the handler, called like in Lambda with JSON; afterwards, check that no answer or log has a password."""
    function = runpy.run_path(str(HANDLER))["handle"]
    answers = []

    def invoke(event: Any, seconds: float = 60) -> dict[str, Any]:
        try:
            answers.append(json.dumps(function(json.loads(json.dumps(event)), FakeLambdaContext(timeout=seconds))))
        except Exception as error:
            answers.append(f"{type(error).__name__}: {error}")
            raise
        answer: dict[str, Any] = json.loads(answers[-1])
        return answer

    with caplog.at_level(logging.DEBUG):
        yield invoke
    output = "".join(answers) + caplog.text
    assert not [user for user, password in cluster.passwords.items() if password in output]
