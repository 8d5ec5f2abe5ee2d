"""Secrets Manager is away, throttled or slow, and secrets that are wrong for good."""

import logging
import time
from contextlib import suppress
from typing import Any

import pytest
from resilience.outcomes import handler

from registration_persistence import Database, RegistrationPersistenceError, deadline
from registration_persistence.database.credentials.secrets_manager import SecretsManagerCredentials
from registration_persistence.errors import CredentialsRejected, SecretMalformed, SecretRefused, SecretUnavailable
from registration_persistence.sandbox import InvocationFailed
from registration_persistence.sandbox.secrets_manager import OutageKind
from registration_persistence.testing import RegistrationEnvironment, Rotate, SecretsManagerDown, StartLambda

KINDS: tuple[OutageKind, ...] = ("down", "throttled", "slow")


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_process_does_not_notice(
    registration_environment: RegistrationEnvironment, secrets_manager_down: SecretsManagerDown, kind: OutageKind
) -> None:
    """What is cached opens new connections too, and nobody is asked."""
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
def test_a_cold_process_hears_of_it_before_its_time_is_over(
    lambda_process: StartLambda, secrets_manager_down: SecretsManagerDown, kind: OutageKind
) -> None:
    """The error names the secret and what was said, invites to try again, and the next request succeeds."""
    process = lambda_process(handler("sign_up"), timeout=3)
    process.wait_ready()
    with secrets_manager_down(kind), pytest.raises(InvocationFailed) as raised:
        process.invoke({"key": "ada"})

    assert raised.value.error_type == "SecretUnavailable"
    assert "cannot read the secret arn:aws:secretsmanager" in raised.value.message
    assert raised.value.retryable
    assert raised.value.seconds < 3
    process.invoke({"key": "ada"})


def test_a_short_outage_is_waited_out(
    registration_environment: RegistrationEnvironment, secrets_manager_down: SecretsManagerDown
) -> None:
    """A cold process whose first calls are throttled succeeds within its budget, with few calls."""
    database = Database(registration_environment.settings())
    with secrets_manager_down("throttled"), suppress(SecretUnavailable), deadline(0.8, reserve=0):
        database.ping()

    assert database.ping().writable
    assert database.events.count("wait", "no_secret") > 0
    assert registration_environment.secrets_manager.calls.total() <= 4
    database.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_value_is_used_on_with_one_warning(
    registration_environment: RegistrationEnvironment,
    secrets_manager_down: SecretsManagerDown,
    caplog: pytest.LogCaptureFixture,
    kind: OutageKind,
) -> None:
    """When the cache looks at its value again and cannot, the value stays, with one warning and hardly a wait."""
    at = registration_environment
    heard: list[tuple[str, str]] = []
    credentials = SecretsManagerCredentials(
        at.arn, region="eu-west-1", on_event=lambda name, cause, _seconds: heard.append((name, cause)), max_age=1
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
    assert heard == [("secret_read", "cold"), ("secret_stale", "unavailable")]
    assert at.secrets_manager.calls.total() <= 8


def test_the_cache_looks_again_after_a_while(registration_environment: RegistrationEnvironment, rotate: Rotate) -> None:
    """With alternating users, the other name is found although the one before is still accepted."""
    at = registration_environment
    heard: list[tuple[str, str]] = []
    credentials = SecretsManagerCredentials(
        at.arn, region="eu-west-1", on_event=lambda name, cause, _seconds: heard.append((name, cause)), max_age=1
    )
    database = Database(at.settings(), credentials)
    database.ping()
    made = rotate(style="alternating")
    time.sleep(1.1)
    database.dispose()

    with database.engine.connect() as connection:
        assert made.username == connection.exec_driver_sql("SELECT current_user").scalar()
    database.dispose()
    assert {("secret_read", "cold"), ("secret_read", "refresh")} == set(heard)


def delete(environment: RegistrationEnvironment) -> None:
    """Delete the secret at once."""
    environment.secrets_manager.delete(environment.arn)


def malform(environment: RegistrationEnvironment) -> None:
    """Store something that is no JSON."""
    environment.secrets_manager.put(environment.arn, "hunter2")


def misspell(environment: RegistrationEnvironment) -> None:
    """Store a password that the server does not know."""
    environment.secrets_manager.put(environment.arn, {"username": environment.username, "password": "hunter2"})


@pytest.mark.parametrize(
    ("damage", "error", "said", "most_calls"),
    [
        (delete, SecretRefused, "ResourceNotFoundException", 4),
        (malform, SecretMalformed, "is not a JSON object", 4),
        (misspell, CredentialsRejected, "AWSCURRENT of arn:", 14),
    ],
)
def test_what_is_wrong_for_good_is_one_error_and_no_storm(
    registration_environment: RegistrationEnvironment,
    damage: Any,
    error: type[RegistrationPersistenceError],
    said: str,
    most_calls: int,
) -> None:
    """Request after request fails in the same way, while Secrets Manager and server are asked now and then."""
    at = registration_environment
    damage(at)
    database = Database(at.settings())
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(error, match=said) as raised, deadline(1.5):
            database.ping()
        assert not raised.value.retryable
        assert at.arn in str(raised.value) or "refused the login of" in str(raised.value)
        assert "hunter2" not in str(raised.value)

    seconds = time.monotonic() - started
    assert at.secrets_manager.calls.total() <= most_calls + 1.5 * seconds
    assert database.events.count("login_rejected") <= 60
