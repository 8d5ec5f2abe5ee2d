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
}
PERMANENT = [
    errors.ConnectionRejected,
    errors.CredentialsRejected,
    errors.DatabaseUnavailable,
    errors.PoolExhausted,
    errors.SchemaOutdated,
    errors.SecretUnavailable,
    errors.StatementTimeout,
    errors.TooManyConnections,
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
    """The connector has waited already, or the same would happen again."""
    assert retry_cause(failure("x"), kept=False, idempotent=True) is None


def test_every_cause_is_used() -> None:
    """The documented causes are those that the rule returns."""
    assert set(get_args(RetryCause)) == {*REPEATABLE.values(), "commit_outcome_unknown"}
