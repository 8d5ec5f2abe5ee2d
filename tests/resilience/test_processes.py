"""What a process goes through: forks, a SnapStart snapshot that is restored, and its end."""

import time
from pathlib import Path

import pytest

from registration_persistence.sandbox import LambdaProcess
from registration_persistence.testing import RegistrationEnvironment, Rotate, SecretsManagerDown, StartLambda

LIVE = f"{Path(__file__).with_name('lives.py')}:live"


def sessions(environment: RegistrationEnvironment) -> int:
    """How many sessions the service has on the server."""
    with environment.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [environment.username]
        ).fetchone()
    return int(row[0]) if row else -1


def wait_for_no_session(environment: RegistrationEnvironment, seconds: float) -> float:
    """Return how long it took until the service had no session left, at most so many seconds."""
    started = time.monotonic()
    while sessions(environment):
        assert time.monotonic() - started < seconds, "the session is still there"
    return time.monotonic() - started


def test_no_backend_is_shared_after_a_fork(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """Four children at once have connections of their own, with the secret that their parent read; it keeps its own."""
    process = lambda_process(LIVE)

    seen = process.invoke("fork")

    assert seen["before"] == seen["after"]
    assert len({seen["before"], *seen["children"]}) == 5
    assert min(seen["children"]) > 0
    assert registration_environment.secrets_manager.calls_of(process.name).total() == 1


@pytest.fixture
def restored(registration_environment: RegistrationEnvironment, lambda_process: StartLambda) -> LambdaProcess:
    """A process of which a snapshot was taken."""
    process = lambda_process(LIVE)
    process.wait_ready()
    assert sessions(registration_environment) == 1
    # Close the connection; give the ids another generator and check the secret.
    assert process.invoke("before")["hooks"] == {"before": 1, "after": 2}
    wait_for_no_session(registration_environment, 5)
    return process


def test_a_restored_process_has_a_fresh_secret(
    registration_environment: RegistrationEnvironment, restored: LambdaProcess, rotate: Rotate
) -> None:
    """The password that was changed since the snapshot is known before the first login."""
    rotate()
    rotate()

    restored.invoke("after")
    seen = restored.invoke("use")

    assert seen["opened"] == {"cold": 1, "recycled": 1, "rotation": 0, "thaw": 0, "rejected": 0, "stale": 0}
    assert registration_environment.secrets_manager.calls_of(restored.name).total() == 2


def test_a_restored_process_does_without_secrets_manager(
    registration_environment: RegistrationEnvironment, restored: LambdaProcess, secrets_manager_down: SecretsManagerDown
) -> None:
    """Where it does not answer, what the snapshot holds is used, and a warning says so."""
    with secrets_manager_down():
        restored.invoke("after")
        seen = restored.invoke("use")

    assert seen["user"] == registration_environment.username
    assert seen["opened"]["stale"] == 1
    assert restored.log.count("the last good value of the secret stays in use") == 1


def test_sigterm_closes_the_session(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """Within the 300 ms that Lambda gives, and the process ends as it would have without."""
    process = lambda_process(LIVE)
    process.wait_ready()
    assert sessions(registration_environment) == 1

    started = time.monotonic()
    assert process.terminate(grace=10) == -15
    assert time.monotonic() - started < 1.5
    wait_for_no_session(registration_environment, 1.5)


def test_sigterm_reaches_the_handler_of_before(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda
) -> None:
    """The session is closed by us, not by the end of the process, and what the service had set up is called."""
    process = lambda_process(LIVE, environment={"SURVIVE": "1"})
    process.wait_ready()
    assert sessions(registration_environment) == 1

    process._signal(15)  # type: ignore[arg-type]  # the number of SIGTERM
    wait_for_no_session(registration_environment, 1.5)

    seen = process.invoke("use")
    assert seen["heard"] == [15]
    assert seen["backend"] > 0
