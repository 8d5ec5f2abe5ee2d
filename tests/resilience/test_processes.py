"""The life of a process: forks, a SnapStart snapshot that is restored, and SIGTERM."""

import time
from pathlib import Path

import pytest

from registration_persistence.sandbox import LambdaProcess, wait_until
from registration_persistence.testing import RegistrationEnvironment, Rotate, SecretsManagerDown, StartLambda

LIVE = f"{Path(__file__).with_name('lives.py')}:live"


def sessions(environment: RegistrationEnvironment) -> int:
    """Return the number of sessions that the service has on the server."""
    with environment.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [environment.username]
        ).fetchone()
    return int(row[0]) if row else -1


def wait_until_disconnected(environment: RegistrationEnvironment, timeout: float) -> None:
    """Wait until the service has no session on the server."""
    wait_until(lambda: sessions(environment) == 0, "the service has no session", timeout=timeout)


def test_no_backend_is_shared_after_a_fork(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """Four children open their own connections with the secret that their parent has read; the parent keeps its own."""
    process = lambda_process(LIVE)

    seen = process.invoke("fork")

    assert seen["before"] == seen["after"]
    assert len({seen["before"], *seen["children"]}) == 5
    assert min(seen["children"]) > 0
    assert registration_environment.secrets_manager.calls_of(process.name).total() == 1


@pytest.fixture
def restored(registration_environment: RegistrationEnvironment, lambda_process: StartLambda) -> LambdaProcess:
    """A process after the hooks before a snapshot."""
    process = lambda_process(LIVE)
    process.wait_ready()
    assert sessions(registration_environment) == 1
    # The hooks close the connection before, and seed the ids and check the secret after.
    assert process.invoke("before")["hooks"] == {"before": 1, "after": 2}
    wait_until_disconnected(registration_environment, 5)
    return process


def test_a_restored_process_has_a_fresh_secret(
    registration_environment: RegistrationEnvironment, restored: LambdaProcess, rotate: Rotate
) -> None:
    """The first login uses the password that was changed after the snapshot."""
    rotate()
    rotate()

    restored.invoke("after")
    seen = restored.invoke("use")

    assert seen["opened"] == {"cold": 1, "recycled": 1, "rotation": 0, "thaw": 0, "rejected": 0, "stale": 0}
    assert registration_environment.secrets_manager.calls_of(restored.name).total() == 2


def test_a_restored_process_works_without_secrets_manager(
    registration_environment: RegistrationEnvironment, restored: LambdaProcess, secrets_manager_down: SecretsManagerDown
) -> None:
    """If Secrets Manager does not answer, the secret of the snapshot is used, and a warning is logged."""
    with secrets_manager_down():
        restored.invoke("after")
        seen = restored.invoke("use")

    assert seen["user"] == registration_environment.username
    assert seen["opened"]["stale"] == 1
    assert restored.log.count("the last good value of the secret stays in use") == 1


def test_sigterm_closes_the_session(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """The session is closed in the time that Lambda grants, and SIGTERM still ends the process."""
    process = lambda_process(LIVE)
    process.wait_ready()
    assert sessions(registration_environment) == 1

    started = time.monotonic()
    assert process.terminate(grace=10) == -15
    assert time.monotonic() - started < 5
    wait_until_disconnected(registration_environment, 1.5)


def test_sigterm_reaches_the_handler_of_the_service(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """The package closes the session although the process continues, and calls the handler that the service had set."""
    process = lambda_process(LIVE, environment={"SURVIVE": "1"})
    process.wait_ready()
    assert sessions(registration_environment) == 1

    process.send_sigterm()
    wait_until_disconnected(registration_environment, 1.5)

    seen = process.invoke("use")
    assert seen["received_signals"] == [15]
    assert seen["backend"] > 0
