"""The function that tests a restored cluster, loaded like in Lambda, with a real PostgreSQL and Secrets Manager."""

import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres.migrate_environment import Cluster, Handle

from registration_persistence import Database, DatabaseSettings, RegistrationRepository, models, schema
from registration_persistence.errors import CredentialsRejected
from registration_persistence.sandbox import FakeLambdaContext, LocalSecretsManager

FUNCTION = Path(__file__).parents[2] / "migrate_function" / "restored.py"

Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(
    cluster: Cluster, handle: Handle, monkeypatch: pytest.MonkeyPatch, secrets_manager: LocalSecretsManager
) -> Check:
    """A migrated database, and the function, called with the secret of its administrator."""
    handle({"action": "bootstrap"})
    handle({"action": "upgrade"})
    admin = login_of(cluster, "admin")
    arn = secrets_manager.create(f"restored-{admin}", {"username": admin, "password": cluster.passwords[admin]})
    for variable in ("SECRET_ARN", "APPLICATION_SECRET_ARN", "MONITORING_SECRET_ARN"):
        monkeypatch.delenv(f"APP_DATABASE_{variable}")
    monkeypatch.setenv("RESTORED_HOST_START", cluster.server.host[:5])
    monkeypatch.setenv("RESTORE_TEST_MIN_REGISTRATIONS", "2")
    function = runpy.run_path(str(FUNCTION))["handle"]

    def invoke(secret_arn: str = arn, seconds: float = 60) -> dict[str, Any]:
        event = {"host": cluster.server.host, "secret_arn": secret_arn}
        answer = function(event, FakeLambdaContext(timeout=seconds))
        assert isinstance(answer, dict)
        return answer

    return invoke


def login_of(cluster: Cluster, purpose: str) -> str:
    """Return the login of a purpose: `admin` or `application`."""
    return next(user for user in cluster.passwords if user.startswith(purpose))


@contextmanager
def logged_in(cluster: Cluster, purpose: str) -> Iterator[Database]:
    """Return the database with the login of a purpose."""
    user = login_of(cluster, purpose)
    settings = DatabaseSettings(
        host=cluster.server.host,
        port=cluster.server.port,
        name=cluster.name,
        user=user,
        password=cluster.passwords[user],
        environment="test",
        sslmode="prefer",
    )
    database = Database(settings)
    try:
        yield database
    finally:
        database.dispose()


def test_a_restored_cluster_is_migrated_checked_and_counted(
    check: Check, cluster: Cluster, secrets_manager: LocalSecretsManager
) -> None:
    """A backup of the revision before is healthy once it is migrated, and not without its rows or its triggers."""
    with logged_in(cluster, "application") as database, database.session() as session:
        RegistrationRepository(session).register("ada@example.com", idempotency_key="first")
    answer = check()
    assert (answer["healthy"], answer["rows"]["registrations"]) == (False, 1)
    assert answer["message"].startswith("expected 2 registrations or more: ")

    with logged_in(cluster, "application") as database, database.session() as session:
        RegistrationRepository(session).register("grace@example.com", idempotency_key="second")
    with logged_in(cluster, "admin") as database:
        schema.downgrade(database, "-1")
    answer = check()
    assert answer["healthy"], answer["message"]
    assert answer["before"] != answer["after"] == schema.newest()
    assert answer["rows"].keys() == models.Base.metadata.tables.keys()
    assert "2 registrations" in answer["message"]
    assert "@" not in str(answer)

    with cluster.connect() as connection:
        connection.execute("ALTER TABLE registrations DISABLE TRIGGER ALL")
    answer = check()
    assert not answer["healthy"]
    assert answer["message"].startswith("the schema differs")

    # The password that production has by now opens no restored cluster.
    admin = login_of(cluster, "admin")
    other = secrets_manager.create(f"other-{admin}", {"username": admin, "password": "rotated since"})
    with pytest.raises(CredentialsRejected):
        check(other, seconds=3)


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (
            {"host": "registration-prod.cluster-x.example", "secret_arn": "arn"},
            "not that of a restored cluster",
        ),
        ({"host": "awsbackup-restore-test-1", "secret_arn": "arn", "name": "registrations"}, "other keys"),
        ({"host": 5, "secret_arn": "arn"}, "not text"),
        ([], "other keys"),
    ],
)
def test_another_host_is_refused(event: Any, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function opens no connection to a host that is not a restored cluster, and takes no other keys."""
    monkeypatch.setenv("RESTORED_HOST_START", "awsbackup-restore-test-")

    with pytest.raises(ValueError, match=problem):
        runpy.run_path(str(FUNCTION))["handle"](event, FakeLambdaContext())
