"""The retry rule of `Database.run`: which failures may be repeated."""

from typing import get_args

import pytest

from registration_persistence import errors
from registration_persistence.database.events import RetryCause
from registration_persistence.database.retry import retry_cause

REPEATABLE: dict[type[errors.RegistrationPersistenceError], RetryCause] = {
    errors.ConnectionLost: "connection_lost",
    errors.WriterMoved: "writer_moved",
    errors.TransactionConflict: "transaction_conflict",
    errors.LockTimeout: "lock_timeout",
    errors.AttemptNotCounted: "attempt_not_counted",
    errors.DatabaseUnavailable: "not_connected",
    errors.TooManyConnections: "not_connected",
    errors.SecretUnavailable: "not_connected",
    errors.PoolExhausted: "not_connected",
}
PERMANENT = [
    errors.ConnectionRejected,
    errors.CredentialsRejected,
    errors.SchemaOutdated,
    errors.SecretMalformed,
    errors.SecretRefused,
    errors.StatementTimeout,
    errors.TransactionAborted,
]


@pytest.mark.parametrize(("failure", "cause"), REPEATABLE.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_failure_that_kept_nothing_is_repeated(
    failure: type[errors.RegistrationPersistenceError], cause: RetryCause
) -> None:
    """It is repeated unless the work committed something and is not idempotent."""
    assert cause == retry_cause(failure(), kept=False, idempotent=False)
    assert cause == retry_cause(failure(), kept=False, idempotent=True)
    assert cause == retry_cause(failure(), kept=True, idempotent=True)
    assert retry_cause(failure(), kept=True, idempotent=False) is None


@pytest.mark.parametrize("kept", [False, True])
def test_an_unknown_commit_is_repeated_only_if_that_changes_nothing(kept: bool) -> None:  # noqa: FBT001 parametrized
    """Only idempotent work is repeated after a COMMIT whose reply was lost."""
    assert retry_cause(errors.CommitOutcomeUnknown(), kept=kept, idempotent=True) == "commit_outcome_unknown"
    assert retry_cause(errors.CommitOutcomeUnknown(), kept=kept, idempotent=False) is None


@pytest.mark.parametrize("failure", PERMANENT, ids=lambda kind: kind.__name__)
def test_another_failure_is_never_repeated(failure: type[errors.RegistrationPersistenceError]) -> None:
    """The same would happen again."""
    assert retry_cause(failure("x"), kept=False, idempotent=True) is None


def test_a_thread_that_holds_the_only_connection_does_not_wait_for_itself() -> None:
    """Its error is permanent, unlike that of a thread that waits for another one."""
    assert retry_cause(errors.PoolExhausted("nested", retryable=False), kept=False, idempotent=True) is None


def test_every_retryable_error_is_repeated() -> None:
    """An error that tells the caller to repeat the work has a cause, also if it is added later."""
    retryable = {each for each in vars(errors).values() if isinstance(each, type) and getattr(each, "retryable", False)}

    assert retryable == set(REPEATABLE)


def test_every_cause_is_used() -> None:
    """The documented causes are those that the rule returns."""
    assert set(get_args(RetryCause)) == {*REPEATABLE.values(), "commit_outcome_unknown"}
