"""A paused cluster: requests wait for it if their deadline allows that, and otherwise end in time."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from resilience.outcomes import handler, rows_by_key

from registration_persistence.sandbox import EarlyAttempts, InvocationFailed, LambdaProcess
from registration_persistence.testing import Pause, RegistrationEnvironment, StartLambda

# From the end of the wake-up to the end of a request that waited for it: the rest of a back-off, the login, the work.
_MAX_SECONDS_AFTER_WAKE_UP = 3.0

_ERRORS: Mapping[EarlyAttempts, str] = {
    "held": "the server accepted the connection and has not answered. If it is a paused Aurora cluster",
    "closed": "server closed the connection unexpectedly",
}

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"


def start(lambda_process: StartLambda, timeouts: Mapping[str, float], variables: dict[str, str]) -> dict[str, Any]:
    """Start a cold and a warm process for each timeout; the key of each is its name."""
    processes = {}
    for name, timeout in timeouts.items():
        for kind in ("cold", "warm"):
            process = lambda_process(handler("sign_up"), timeout=timeout, environment=variables)
            processes[f"{kind}-{name}"] = process
            if kind == "warm":
                process.invoke({"key": f"earlier-{name}"})
            else:
                process.wait_ready()
    return processes


def failure_of(process: LambdaProcess) -> InvocationFailed | None:
    """Return the failure of the invocation that is running, or `None` if it succeeds."""
    try:
        process.result()
    except InvocationFailed as error:
        return error
    return None


def assert_requests_wait(
    env: RegistrationEnvironment,
    lambda_process: StartLambda,
    pause: Pause,
    *,
    wake_after: float,
    hasty: float,
    patient: float,
    variables: dict[str, str],
    early: EarlyAttempts,
) -> None:
    """Pause the cluster, and invoke cold and warm processes with both timeouts at once."""
    processes = start(lambda_process, {"hasty": hasty, "patient": patient}, variables)
    before = rows_by_key(env)
    with pause(wake_after=wake_after, early=early):
        for name, process in processes.items():
            process.start({"key": name})
        failures = {name: failure_of(process) for name, process in processes.items()}
        for name, failure in failures.items():
            if name.endswith("patient"):
                assert failure is None
                assert wake_after - 0.5 < processes[name].seconds < wake_after + _MAX_SECONDS_AFTER_WAKE_UP
            else:
                assert failure is not None
                assert (failure.error_type, failure.retryable) == ("DatabaseUnavailable", True)
                assert _ERRORS[early] in failure.message
                assert processes[name].seconds < hasty
        # Attempts that were given up leave no session.
        with env.connect() as connection:
            assert connection.execute(_SESSIONS, [env.username]).fetchone() == (2,)
        assert rows_by_key(env) == before + Counter({"cold-patient": 1, "warm-patient": 1})
        for name in ("cold-hasty", "warm-hasty"):  # the wake-up went on without them
            processes[name].invoke({"key": name})
    events = processes["warm-patient"].invoke({"key": "later"})["events"]
    assert events["connection_opened: failover"] == 1, "the server was not ready"
    assert not [name for name in events if name.startswith("retry")]


@pytest.mark.parametrize("early", ["held", "closed"])
def test_a_request_waits_for_a_paused_cluster(
    registration_environment: RegistrationEnvironment, lambda_process: StartLambda, pause: Pause, early: EarlyAttempts
) -> None:
    """The wake-up takes longer than the limit of one attempt, and than the shorter one of two deadlines."""
    assert_requests_wait(
        registration_environment,
        lambda_process,
        pause,
        wake_after=6.0,
        hasty=5.0,
        patient=15.0,
        variables={"APP_DATABASE_CONNECT_TIMEOUT": "2", "APP_DATABASE_IDLE_SESSION_TIMEOUT": "60"},
        early=early,
    )


@pytest.mark.nightly
@pytest.mark.parametrize("early", ["held", "closed"])
@pytest.mark.parametrize("wake_after", [15.0, 35.0])
def test_a_request_waits_as_long_as_aurora_needs(
    registration_environment: RegistrationEnvironment,
    lambda_process: StartLambda,
    pause: Pause,
    wake_after: float,
    early: EarlyAttempts,
) -> None:
    """With the default settings and a timeout of 40 s, requests succeed; with 10 s, they end in time."""
    assert_requests_wait(
        registration_environment,
        lambda_process,
        pause,
        wake_after=wake_after,
        hasty=10.0,
        patient=40.0,
        variables={},
        early=early,
    )
