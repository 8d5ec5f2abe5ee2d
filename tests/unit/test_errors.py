"""The errors: their base class, `retryable`, and pickling."""

import inspect
import pickle
from uuid import UUID

import pytest

from registration_persistence import RegistrationPersistenceError, errors
from registration_persistence.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    IllegalTransition,
    PoolExhausted,
    RegistrationNotFound,
    RegistrationReferenced,
    StaleVersion,
)

SOME_ID = UUID("01a20a8a-9603-733d-9a12-6297a9d994f0")

RETRYABLE = {
    "AttemptNotCounted",
    "ConnectionLost",
    "DatabaseUnavailable",
    "LockTimeout",
    "PoolExhausted",
    "SecretUnavailable",
    "TooManyConnections",
    "TransactionConflict",
    "WriterMoved",
}


def test_retryable_errors() -> None:
    """After exactly these errors the same work can be repeated, because it was not committed."""
    leaves = dict(inspect.getmembers(errors, inspect.isclass))

    assert RETRYABLE == {name for name, leaf in leaves.items() if getattr(leaf, "retryable", False)}
    assert all(
        issubclass(leaf, RegistrationPersistenceError) for leaf in leaves.values() if issubclass(leaf, Exception)
    )


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError(["one", "two"]),
        PoolExhausted("one connection", retryable=False),
        RegistrationNotFound(SOME_ID),
        RegistrationReferenced("orders", "fk_orders_registration_id"),
        StaleVersion(SOME_ID, 1, 2),
        IllegalTransition(SOME_ID, "pending", "active"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_pickled(error: RegistrationPersistenceError) -> None:
    """A process pool passes them on with all attributes."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 our own bytes

    assert (type(error), str(error), vars(error)) == (type(copy), str(copy), vars(copy))


def test_an_unknown_commit_can_be_pickled() -> None:
    """The copy cannot look for evidence, because the connections stay in the first process."""
    error = CommitOutcomeUnknown("lost", find=lambda: None)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 our own bytes

    assert (str(copy), copy.resolve()) == ("lost", None)
    assert error.find is not None
