"""Tests of `schema.bootstrap` for a service that logs in with IAM."""

import secrets
from collections.abc import Iterator

import pytest
from clusters import Cluster
from psycopg import sql

from registration_persistence import schema
from registration_persistence.errors import ConfigurationError
from registration_persistence.schema import OWNER_ROLE, READ_WRITE_ROLE, BootstrapRefused

SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"


@pytest.fixture
def login() -> str:
    """The name of a login with IAM."""
    return f"registration_iam_{secrets.token_hex(3)}"


@pytest.fixture
def cluster_with_iam(cluster: Cluster, login: str) -> Iterator[Cluster]:
    """A database whose server has the role of RDS, which the admin may grant."""
    cluster.execute("CREATE ROLE rds_iam NOLOGIN")
    cluster.execute("GRANT rds_iam TO {} WITH ADMIN OPTION", cluster.admin.user)
    if cluster.server_version >= 160_000:  # on RDS the admin may grant the role, and is not a member
        cluster.execute("GRANT rds_iam TO {} WITH INHERIT FALSE, SET FALSE", cluster.admin.user)
    yield cluster
    with cluster.server.connect(cluster.name) as connection:
        for role in (login, "rds_iam"):
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None:
                for statement in ("DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
                    connection.execute(sql.SQL(statement).format(sql.Identifier(role)))


def members(cluster: Cluster, login: str) -> set[str]:
    """Return the roles that *login* is a member of."""
    with cluster.server.connect(cluster.name) as connection:
        rows = connection.execute(
            "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = to_regrole(%s)", [login]
        )
        return {role for (role,) in rows}


def test_the_service_gets_rds_iam_and_back(cluster_with_iam: Cluster, login: str) -> None:
    """The login has no clone and no password; a second run changes nothing, and a run with a secret takes it back."""
    cluster = cluster_with_iam

    first = schema.bootstrap(cluster.database, login, monitoring=cluster.monitoring)
    again = schema.bootstrap(cluster.database, login, monitoring=cluster.monitoring)
    schema.upgrade(cluster.database, owner_role=OWNER_ROLE)

    assert (first.application, first.alternate, first.monitoring) == (login, None, cluster.monitoring.username)
    assert {
        f"{login} is a role with login",
        f"{login} is a member of rds_iam",
        f"{login} is a member of {READ_WRITE_ROLE}",
        f"{login} has statement_timeout=15s",
        f"{login} logs in with IAM, and a password that it had is not accepted any more",
    } <= set(first.changes)
    assert () == again.changes
    assert {"rds_iam", READ_WRITE_ROLE} == members(cluster, login)
    assert not members(cluster, f"{login}_clone")
    password = next(row for row in cluster.catalogue() if row[:2] == ("role", login))[2]["hash"]
    assert password is None

    with cluster.admin.connect(cluster.name) as connection:
        connection.execute(sql.SQL("GRANT rds_iam TO {}").format(sql.Identifier(cluster.monitoring.username)))
    corrected = schema.bootstrap(cluster.database, login, monitoring=cluster.monitoring)
    assert (f"no longer: {cluster.monitoring.username} is a member of rds_iam",) == corrected.changes

    back = cluster.bootstrap(monitoring=None)
    assert "rds_iam" not in members(cluster, cluster.application.username)
    assert cluster.application.username == back.application
    assert {"rds_iam", READ_WRITE_ROLE} == members(cluster, login), "another login keeps its way in"


def test_an_admin_that_would_lose_its_password_is_refused(cluster_with_iam: Cluster, login: str) -> None:
    """If the admin is a member of the login, RDS would ask it for a token too, and nothing is changed."""
    cluster = cluster_with_iam
    cluster.execute("CREATE ROLE {} LOGIN", login)
    cluster.execute("GRANT {} TO {} WITH ADMIN OPTION", login, cluster.admin.user)
    if cluster.server_version < 160_000:
        cluster.execute("REVOKE rds_iam FROM {}", cluster.admin.user)  # CREATEROLE suffices there

    with pytest.raises(BootstrapRefused, match=f"REVOKE {login} FROM {cluster.admin.user}"):
        schema.bootstrap(cluster.database, login)

    assert "rds_iam" not in members(cluster, login)


def test_a_server_without_iam_is_refused(cluster: Cluster, login: str) -> None:
    """A server outside RDS has no role `rds_iam`; names of RDS cannot be used."""
    before = cluster.catalogue()

    with pytest.raises(BootstrapRefused, match="the role rds_iam does not exist, so this is not a server of Amazon"):
        schema.bootstrap(cluster.database, login)
    with pytest.raises(BootstrapRefused, match="the user name for IAM cannot be used: expected lower-case letters"):
        schema.bootstrap(cluster.database, "rds_iam")

    assert before == cluster.catalogue()


def test_a_service_has_a_secret_or_a_user(cluster: Cluster, login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither and both are refused before anything is read; an argument replaces the variables."""
    with pytest.raises(
        ConfigurationError, match="or with IAM the service's user name in APP_DATABASE_APPLICATION_USER"
    ):
        schema.bootstrap_from_secrets(cluster.database)
    with pytest.raises(ConfigurationError, match="APP_DATABASE_APPLICATION_USER are both set: expected one"):
        schema.bootstrap_from_secrets(cluster.database, SECRET, application_user=login)

    monkeypatch.setenv("APP_DATABASE_APPLICATION_SECRET_ARN", SECRET)
    with pytest.raises(BootstrapRefused, match="rds_iam does not exist"):
        schema.bootstrap_from_secrets(cluster.database, application_user=login)
    monkeypatch.setenv("APP_DATABASE_APPLICATION_USER", login)
    with pytest.raises(ConfigurationError, match="are both set"):
        schema.bootstrap_from_secrets(cluster.database)
    monkeypatch.delenv("APP_DATABASE_APPLICATION_SECRET_ARN")
    with pytest.raises(BootstrapRefused, match="rds_iam does not exist"):
        schema.bootstrap_from_secrets(cluster.database)
