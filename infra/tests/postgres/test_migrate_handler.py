"""The handler of the migration function, loaded like in Lambda, with a real PostgreSQL and Secrets Manager."""

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from postgres.migrate_environment import Cluster, Handle
from psycopg import sql

from registration_persistence import RegistrationPersistenceError
from registration_persistence.errors import ConfigurationError, InvalidInput, SecretMalformed, StatementTimeout
from registration_persistence.sandbox import LocalSecretsManager
from registration_persistence.schema import (
    LOCK_STATEMENT,
    OWNER_ROLE,
    READ_WRITE_ROLE,
    VERSION_TABLE,
    DeploymentInProgress,
    newest,
)


def test_new_cluster(handle: Handle, cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """`bootstrap`, `upgrade`, `check` and `current` return the revisions before and after."""
    head = newest()

    assert handle({"action": "current"}) == {"action": "current", "before": None, "after": None, "newest": head}
    result = handle({"action": "bootstrap"})
    assert (None, None) == (result["before"], result["after"])
    assert f"{result['application']} is a member of {READ_WRITE_ROLE}" in result["changes"]
    assert {result["application"], result["monitoring"]} < set(cluster.passwords)
    assert result["alternate"] == f"{result['application']}_clone"
    differs = handle({"action": "check"})
    assert (differs["in_step"], differs["differs"][:28]) == (False, "the database has no revision")

    upgraded = handle({"action": "upgrade"})

    assert {"action": "upgrade", "before": None, "after": head} == upgraded
    assert "Running upgrade" in caplog.text
    assert handle({"action": "upgrade", "revision": "head"}) == {"action": "upgrade", "before": head, "after": head}
    assert handle({"action": "check"}) == {"action": "check", "before": head, "after": head, "in_step": True}
    assert handle({"action": "bootstrap"})["changes"] == []
    with cluster.connect() as connection:
        owners = connection.execute(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchall()
    assert owners == [(OWNER_ROLE,)]


def test_no_session_stays_open(handle: Handle, cluster: Cluster) -> None:
    """Lambda freezes the function after its answer, and an open session would keep the cluster from pausing."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    handle({"action": "current"})
    with pytest.raises(InvalidInput):
        handle({"action": "upgrade", "revision": "0123456789ab"})

    with cluster.connect() as connection:
        for _ in range(40):
            if connection.execute(sessions, [cluster.name]).fetchone() == (0,):
                return
            time.sleep(0.05)  # a backend needs a moment to end after its client has closed the connection
    pytest.fail("a session stayed open")


def test_bootstrap_creates_a_login_for_iam(handle: Handle, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a login instead of a secret, the login gets `rds_iam` and has neither a password nor a clone.

    The variable of a cluster that pauses limits the idle sessions of the login.
    """
    login = next(user for user in cluster.passwords if user.startswith("application"))
    monkeypatch.delenv("APP_DATABASE_APPLICATION_SECRET_ARN")
    monkeypatch.setenv("APP_DATABASE_APPLICATION_USER", login)
    monkeypatch.setenv("APP_DATABASE_IDLE_SESSION_TIMEOUT", "60")
    with rds_iam(cluster):
        result = handle({"action": "bootstrap"})

        assert (result["application"], result["alternate"]) == (login, None)
        with cluster.connect() as connection:
            assert connection.execute(
                "SELECT pg_has_role(rolname, 'rds_iam', 'MEMBER'), rolpassword FROM pg_authid WHERE rolname ~ %s",
                [f"^{login}"],
            ).fetchall() == [(True, None)]
            settings = connection.execute("SELECT rolconfig FROM pg_roles WHERE rolname = %s", [login]).fetchone()
            assert settings is not None
            assert "idle_session_timeout=60000ms" in settings[0]


@contextmanager
def rds_iam(cluster: Cluster) -> Iterator[None]:
    """Create the role of RDS, which the administrator may grant, until the block ends."""
    (admin,) = (user for user in cluster.passwords if user.startswith("admin"))
    with cluster.connect() as connection:
        connection.execute("CREATE ROLE rds_iam")
        connection.execute(sql.SQL("GRANT rds_iam TO {} WITH ADMIN OPTION").format(sql.Identifier(admin)))
        try:
            yield
        finally:
            connection.execute("DROP ROLE rds_iam")


def test_upgrade_to_a_revision(handle: Handle) -> None:
    """A revision has the form of Alembic; an unknown one is an error that names it."""
    initial, head = "2dcca3bc26eb", newest()
    handle({"action": "bootstrap"})

    first = handle({"action": "upgrade", "revision": "+1"})
    second = handle({"action": "upgrade", "revision": head})

    assert (first["before"], first["after"], second["before"], second["after"]) == (None, initial, initial, head)
    with pytest.raises(InvalidInput, match="0123456789ab"):
        handle({"action": "upgrade", "revision": "0123456789ab"})


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "upgrade",
        {},
        {"action": "downgrade"},
        {"action": ["upgrade"]},
        {"action": None},
        {"action": "upgrade", "revision": 7},
        {"action": "upgrade", "revision": ""},
        {"action": "upgrade", "force": True},
        {"action": "check", "revision": "head"},
        {"action": "doctor", "revision": "head"},
    ],
)
def test_invalid_event_is_an_error(handle: Handle, event: Any) -> None:
    """The error names the valid actions, and nothing is executed."""
    with pytest.raises(
        ValueError, match=r"expected .* one of bootstrap, upgrade, current, check, doctor\}, and for upgrade"
    ):
        handle(event)


def states(result: dict[str, Any]) -> dict[str, str]:
    """Return the state of each check of `doctor`."""
    assert result.keys() == {"action", "checks"}
    return {check["name"]: check["state"] for check in result["checks"]}


def test_doctor_checks_the_way_to_the_database(handle: Handle) -> None:
    """`doctor` logs in with the secret of the function, and looks at the schema."""
    handle({"action": "bootstrap"})
    handle({"action": "upgrade"})

    found = states(handle({"action": "doctor"}))

    assert (found["secret"], found["login"], found["schema"]) == ("ok", "ok", "ok")


def test_doctor_has_a_result_if_the_database_is_down(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused port and a wrong environment are results, not errors."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("APP_DATABASE_PORT", str(port))
    down = states(handle({"action": "doctor"}))
    monkeypatch.setenv("APP_DATABASE_HOST", "")
    wrong = states(handle({"action": "doctor"}))

    assert (down["port"], down["secret"], down["login"]) == ("failed", "ok", "skipped")
    assert wrong["environment"] == "failed"


def test_doctor_ends_before_the_lambda_timeout(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server is silent, the results come while there is time to answer; if they cannot, the error names it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("APP_DATABASE_PORT", str(silent.getsockname()[1]))
        monkeypatch.setenv("APP_DATABASE_SSLMODE", "disable")
        monkeypatch.setenv("APP_DATABASE_CONNECT_TIMEOUT", "60")
        started = time.monotonic()
        result = states(handle({"action": "doctor"}, seconds=30))

        assert time.monotonic() - started < 30
        assert result["login"] == "failed"
        with pytest.raises(RegistrationPersistenceError, match="longer timeout"):
            handle({"action": "doctor"}, seconds=1.1)


@pytest.mark.parametrize("action", ["bootstrap", "upgrade"])
def test_second_deployment_fails_at_once(handle: Handle, cluster: Cluster, action: str) -> None:
    """During another deployment, the function fails without waiting; only a check needs no lock."""
    handle({"action": "bootstrap"})
    handle({"action": "upgrade"})
    with cluster.connect() as other, other.transaction():
        other.execute(LOCK_STATEMENT)

        with pytest.raises(DeploymentInProgress, match="another deployment is migrating: wait until it is done"):
            handle({"action": action})
        assert handle({"action": "check"})["in_step"]

    assert handle({"action": action})["action"] == action


def test_locked_table_is_an_error_before_the_lambda_timeout(handle: Handle, cluster: Cluster) -> None:
    """A table that stays locked is an error while there is time to answer."""
    handle({"action": "bootstrap"})
    with cluster.connect() as other, other.transaction():
        other.execute(f"CREATE TABLE {VERSION_TABLE} (version_num varchar(32) PRIMARY KEY)")
        other.execute(f"ALTER TABLE {VERSION_TABLE} OWNER TO {OWNER_ROLE}")
    with cluster.connect() as other, other.transaction():
        other.execute(f"LOCK TABLE {VERSION_TABLE} IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StatementTimeout):
            handle({"action": "current"}, seconds=1.5)


def test_missing_variable_is_an_error(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the secret of the application, the error names the variable."""
    monkeypatch.setenv("APP_DATABASE_APPLICATION_SECRET_ARN", "")
    with pytest.raises(ConfigurationError, match="APP_DATABASE_APPLICATION_SECRET_ARN is not set"):
        handle({"action": "bootstrap"})


def test_malformed_secret_is_an_error(
    handle: Handle, secrets_manager: LocalSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret without a user name creates no role."""
    arn = secrets_manager.create(f"empty-{secrets.token_hex(3)}", {"password": "not-shown"})
    monkeypatch.setenv("APP_DATABASE_APPLICATION_SECRET_ARN", arn)
    with pytest.raises(SecretMalformed, match="has no key 'username'"):
        handle({"action": "bootstrap"})


def test_server_error_is_short(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the owner role does not exist, `upgrade` reports the error of the server without the SQL."""
    monkeypatch.setenv("APP_DATABASE_OWNER_ROLE", "nobody_knows")
    with pytest.raises(RegistrationPersistenceError, match=r'^upgrade failed: role "nobody_knows" does not exist$'):
        handle({"action": "upgrade"})
