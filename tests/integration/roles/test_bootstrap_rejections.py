"""Tests of `schema.bootstrap`: the cases in which it raises an error and changes nothing."""

import secrets
import traceback

import pytest
from clusters import Cluster, service

from registration_persistence import Credentials, StaticCredentials, schema
from registration_persistence.errors import ConfigurationError, SecretMalformed
from registration_persistence.sandbox import LocalSecretsManager
from registration_persistence.schema import BootstrapRefused, DeploymentInProgress
from registration_persistence.schema.deployment_lock import LOCK_STATEMENT


def test_a_concurrent_deployment_is_rejected_at_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """While another deployment holds the migration lock, neither roles nor tables are created, and nothing waits."""
    cluster.prepare()
    with (
        cluster.server.connect(cluster.name) as other,
        other.transaction(),
        caplog.at_level("INFO", "registration_persistence.migrations"),
    ):
        other.execute(LOCK_STATEMENT)
        before = cluster.catalogue()

        with pytest.raises(DeploymentInProgress, match="another deployment is migrating: wait until it is done"):
            cluster.bootstrap()
        with pytest.raises(DeploymentInProgress):
            schema.upgrade(cluster.database, wait=0)

        assert before == cluster.catalogue()
        assert "waiting" not in caplog.text
        with pytest.raises(
            DeploymentInProgress, match=r"has held the lock for [12] s: look for its session in pg_stat_activity"
        ):
            schema.upgrade(cluster.database, wait=1)
        assert "another deployment is migrating: waiting for it" in caplog.text
    cluster.prepare()


def test_bootstrap_is_one_transaction(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the last step fails, no step is kept."""
    before = cluster.catalogue()

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("registration_persistence.schema.bootstrap_privileges.create_explain_function", fail)
    with pytest.raises(RuntimeError):
        cluster.bootstrap()

    assert before == cluster.catalogue()


def test_an_admin_that_cannot_grant_pg_monitor_is_rejected(cluster: Cluster) -> None:
    """On PostgreSQL 15, CREATEROLE suffices; since 16 the catalog does not show it, so the grant is tried."""
    cluster.execute("REVOKE pg_monitor FROM {}", cluster.admin.user)
    before = cluster.catalogue()

    if cluster.database.ping().server_version.startswith("15"):
        cluster.bootstrap()
    else:
        with pytest.raises(BootstrapRefused, match=r"may not grant pg_monitor: GRANT pg_monitor TO admin_\w+"):
            cluster.bootstrap()
        assert before == cluster.catalogue()


def test_an_invalid_user_name_is_rejected(cluster: Cluster) -> None:
    """Reserved names, and names that need quoting, create no role."""
    for name in (
        "Capital",
        "with-dash",
        'quo"te',
        "a" * 58,
        "",
        "1st",
        "pg_mine",
        "rds_mine",
        "registration_owner",
        "postgres",
    ):
        with pytest.raises(BootstrapRefused, match="secret cannot be used: expected lower-case letters"):
            schema.bootstrap(cluster.database, Credentials(name, "password"))


def test_all_problems_are_reported_together(cluster: Cluster) -> None:
    """A foreign login, tables of another owner and a duplicate user are named, each with its fix."""
    login = cluster.application.username
    cluster.execute("CREATE ROLE {} SUPERUSER LOGIN", login)
    cluster.execute("CREATE TABLE outbox ()")
    cluster.execute("CREATE SCHEMA datadog")

    with pytest.raises(BootstrapRefused) as refused:
        cluster.bootstrap(monitoring=Credentials(cluster.admin.user, "password"))

    said = str(refused.value)
    assert "two of the secrets have the same user name" in said
    assert f"the role {login} is a superuser" in said
    assert f"outbox belongs to {cluster.server.user}: ALTER TABLE outbox OWNER TO {cluster.admin.user}" in said
    assert f"datadog belongs to {cluster.server.user}: ALTER SCHEMA datadog OWNER TO {cluster.admin.user}" in said
    assert "password" not in said


def test_a_login_without_createrole_is_rejected(prepared: Cluster) -> None:
    """The login of the service cannot bootstrap, and the error has the reason."""
    with pytest.raises(BootstrapRefused) as refused:
        schema.bootstrap(service(prepared, StaticCredentials(prepared.application)), Credentials("somebody", "else"))

    assert f"{prepared.application.username} may not create roles: use the cluster's own secret" in str(refused.value)
    assert "the database does not belong to" in str(refused.value)


def test_no_error_shows_a_password(cluster: Cluster) -> None:
    """Neither the message nor the local variables of the frames contain a password."""
    cluster.execute("CREATE ROLE {} SUPERUSER LOGIN", cluster.application.username)

    with pytest.raises(BootstrapRefused) as refused:
        cluster.bootstrap()

    shown = "".join(traceback.TracebackException.from_exception(refused.value, capture_locals=True).format())
    ours = shown[shown.index("_bootstrap(") :]
    for password in (cluster.application.password, cluster.monitoring.password, cluster.admin.password):
        assert password not in ours


def test_secrets_are_read_and_checked(cluster: Cluster, secrets_manager: LocalSecretsManager) -> None:
    """`bootstrap_from_secrets` reads both secrets; an invalid ARN, a missing login or a duplicate raises one error."""
    arn = secrets_manager.create(f"app/{secrets.token_hex(4)}", {"username": "registration_app", "password": "right"})
    empty = secrets_manager.create(f"empty/{secrets.token_hex(4)}", {"password": "right"})

    with pytest.raises(ConfigurationError, match="APP_DATABASE_APPLICATION_SECRET_ARN is not set"):
        schema.bootstrap_from_secrets(cluster.database)
    with pytest.raises(ConfigurationError, match="APP_DATABASE_MONITORING_SECRET_ARN is 'nonsense': expected arn:"):
        schema.bootstrap_from_secrets(cluster.database, arn, monitoring="nonsense")
    with pytest.raises(ConfigurationError, match="are not all different"):
        schema.bootstrap_from_secrets(cluster.database, arn, monitoring=arn)
    with pytest.raises(SecretMalformed, match="has no key 'username'"):
        schema.bootstrap_from_secrets(cluster.database, empty)
