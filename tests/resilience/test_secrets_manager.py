"""Secrets Manager is down, throttled or slow, or the secret is permanently wrong."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, get_args

import pytest
from resilience.outcomes import handler

from registration_persistence import Database, RegistrationPersistenceError, deadline
from registration_persistence.database.credentials.rotation_bridge import RotationBridge
from registration_persistence.errors import CredentialsRejected, SecretMalformed, SecretRefused, SecretUnavailable
from registration_persistence.sandbox import InvocationFailed, OutageKind
from registration_persistence.testing import RegistrationEnvironment, Rotate, SecretsManagerDown, StartLambda

KINDS: tuple[OutageKind, ...] = get_args(OutageKind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_does_not_affect_a_warm_process(
    registration_environment: RegistrationEnvironment, secrets_manager_down: SecretsManagerDown, kind: OutageKind
) -> None:
    """New connections use the cached secret, without a call."""
    database = Database(registration_environment.settings())
    database.ping()
    registration_environment.secrets_manager.forget_calls()
    with secrets_manager_down(kind):
        started = time.monotonic()
        for _ in range(20):
            database.dispose()
            assert database.ping().writable
        assert time.monotonic() - started < 5

    assert registration_environment.secrets_manager.calls.total() == 0
    database.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cold_process_gets_an_error_before_its_timeout(
    lambda_process: StartLambda, secrets_manager_down: SecretsManagerDown, kind: OutageKind
) -> None:
    """The error names the secret and is retryable, and the next request succeeds."""
    process = lambda_process(handler("sign_up"), timeout=3)
    process.wait_ready()
    with secrets_manager_down(kind), pytest.raises(InvocationFailed) as raised:
        process.invoke({"key": "ada"})

    assert raised.value.error_type == "SecretUnavailable"
    assert "cannot read the secret arn:aws:secretsmanager" in raised.value.message
    assert raised.value.retryable
    assert raised.value.seconds < 3
    process.invoke({"key": "ada"})


def test_a_short_outage_delays_a_cold_process(
    registration_environment: RegistrationEnvironment, secrets_manager_down: SecretsManagerDown
) -> None:
    """A cold process whose first calls are throttled succeeds before its deadline, with few calls."""
    database = Database(registration_environment.settings())
    with secrets_manager_down("throttled"), suppress(SecretUnavailable), deadline(0.8, reserve=0):
        database.ping()

    assert database.ping().writable
    assert database.events.count("wait", "no_secret") > 0
    assert registration_environment.secrets_manager.calls.total() <= 4
    database.dispose()


def test_the_end_of_an_outage_is_noticed_at_once(
    registration_environment: RegistrationEnvironment, secrets_manager_down: SecretsManagerDown
) -> None:
    """Every attempt of a cold process calls, the pauses stay short, and many threads call no more than one."""
    manager = registration_environment.secrets_manager
    database = Database(registration_environment.settings())
    waits: list[float] = []
    database.events.subscribe(lambda event: waits.append(event.seconds) if event.cause == "no_secret" else None)
    manager.forget_calls()
    with secrets_manager_down("down"):
        with pytest.raises(SecretUnavailable), deadline(2, reserve=0):
            database.ping()
        calls = manager.calls.total()
        assert calls > 1
        assert len(waits) + 1 - calls in {0, 1}, "an attempt did not call; only the last one may not"
        assert all(wait <= 0.28 for wait in waits)

        manager.forget_calls()
        started = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            for running in [threads.submit(deadline(2, reserve=0)(database.ping)) for _ in range(8)]:
                assert isinstance(running.exception(), SecretUnavailable)
        assert manager.calls.total() <= (time.monotonic() - started) / 0.25 + 2, "the threads caused a storm"
    assert database.ping().writable
    database.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_the_cached_value_stays_in_use_with_one_warning(
    registration_environment: RegistrationEnvironment,
    secrets_manager_down: SecretsManagerDown,
    caplog: pytest.LogCaptureFixture,
    kind: OutageKind,
) -> None:
    """If the cache cannot refresh its value, it keeps the value, logs one warning and hardly waits."""
    env = registration_environment
    events: list[tuple[str, str]] = []
    credentials = RotationBridge(
        env.arn, region="eu-west-1", on_event=lambda name, cause, _seconds: events.append((name, cause)), max_age=1
    )
    before = credentials.current()
    with secrets_manager_down(kind), caplog.at_level(logging.WARNING):
        time.sleep(1.1)
        started = time.monotonic()
        assert {before} == {credentials.current() for _ in range(50)}
        assert time.monotonic() - started < 5
        time.sleep(1.1)
        assert before == credentials.current()

    assert caplog.text.count("the last good value of the secret stays in use") == 1
    assert before.password not in caplog.text
    assert events == [("secret_read", "cold"), ("secret_stale", "unavailable")]
    assert env.secrets_manager.calls.total() <= 8


def test_the_cache_refreshes_its_value(registration_environment: RegistrationEnvironment, rotate: Rotate) -> None:
    """With alternating users, the new user is used although the server still accepts the previous one."""
    env = registration_environment
    events: list[tuple[str, str]] = []
    credentials = RotationBridge(
        env.arn, region="eu-west-1", on_event=lambda name, cause, _seconds: events.append((name, cause)), max_age=1
    )
    database = Database(env.settings(), credentials)
    database.ping()
    rotated = rotate(style="alternating")
    time.sleep(1.1)
    database.dispose()

    with database.engine.connect() as connection:
        assert rotated.username == connection.exec_driver_sql("SELECT current_user").scalar()
    database.dispose()
    assert {("secret_read", "cold"), ("secret_read", "refresh")} == set(events)


def delete(environment: RegistrationEnvironment) -> None:
    """Delete the secret at once."""
    environment.secrets_manager.delete(environment.arn)


def malform(environment: RegistrationEnvironment) -> None:
    """Store a value that is not JSON."""
    environment.secrets_manager.put(environment.arn, "hunter2")


def misspell(environment: RegistrationEnvironment) -> None:
    """Store a password that the server rejects."""
    environment.secrets_manager.put(environment.arn, {"username": environment.username, "password": "hunter2"})


@pytest.mark.parametrize(
    ("damage", "error", "message", "max_calls"),
    [
        (delete, SecretRefused, "ResourceNotFoundException", 4),
        (malform, SecretMalformed, "is not a JSON object", 4),
        (misspell, CredentialsRejected, "AWSCURRENT of arn:", 14),
    ],
)
def test_a_wrong_secret_is_one_error_with_few_calls(
    registration_environment: RegistrationEnvironment,
    damage: Any,
    error: type[RegistrationPersistenceError],
    message: str,
    max_calls: int,
) -> None:
    """Every request fails with the same error, while calls and logins are rare."""
    env = registration_environment
    damage(env)
    database = Database(env.settings())
    started = time.monotonic()
    for _ in range(8):
        with pytest.raises(error, match=message) as raised, deadline(3):
            database.ping()
        assert not raised.value.retryable
        assert env.arn in str(raised.value) or "refused the login of" in str(raised.value)
        assert "hunter2" not in str(raised.value)

    seconds = time.monotonic() - started
    assert env.secrets_manager.calls.total() <= max_calls + 1.5 * seconds
    assert database.events.count("login_rejected") <= 60
