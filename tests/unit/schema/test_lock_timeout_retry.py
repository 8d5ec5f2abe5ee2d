"""`retry_on_lock_timeout`: the attempts, the pauses between them, and the deadline."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from registration_persistence import deadline
from registration_persistence.errors import LockTimeout, StatementTimeout, TransactionConflict
from registration_persistence.schema.lock_timeout_retry import retry_on_lock_timeout


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each pause; no time passes in them."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def failing(*errors: Exception) -> Callable[[], str]:
    """Return a function that raises one of *errors* in each call, and then returns `done`."""
    left: Iterator[Exception] = iter(errors)

    def work() -> str:
        for error in left:
            raise error
        return "done"

    return work


def test_a_success_needs_no_pause(pauses: list[float]) -> None:
    """The first result is returned at once."""
    assert retry_on_lock_timeout(failing(), 10, lambda failures: failures) == "done"
    assert pauses == []


def test_each_failure_is_followed_by_its_pause(pauses: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """The pause depends on the number of failures, may be a timedelta, and is logged."""
    caplog.set_level(logging.INFO, "registration_persistence.migrations")
    work = failing(*[LockTimeout()] * 3)

    assert retry_on_lock_timeout(work, 10, lambda failures: timedelta(seconds=failures / 2)) == "done"

    assert [0.5, 1.0, 1.5] == pauses
    assert [
        "a table is locked: attempt 1 of 10 failed, trying again in 0.5 s",
        "a table is locked: attempt 2 of 10 failed, trying again in 1 s",
        "a table is locked: attempt 3 of 10 failed, trying again in 1.5 s",
    ] == [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_last_failure_is_raised(pauses: list[float], attempts: int) -> None:
    """After the last attempt there is no pause, and its error is raised."""
    failures = [LockTimeout(f"{number}") for number in range(1, 5)]

    with pytest.raises(LockTimeout, match=f"^{attempts}$"):
        retry_on_lock_timeout(failing(*failures), attempts, lambda _failures: 1)

    assert [1.0] * (attempts - 1) == pauses


def test_a_pause_does_not_outlast_the_deadline(pauses: list[float]) -> None:
    """If the deadline comes before the next attempt, the error is raised without a pause."""
    with deadline(30, reserve=0), pytest.raises(LockTimeout, match=r"^second$"):
        retry_on_lock_timeout(failing(LockTimeout("first"), LockTimeout("second")), 10, lambda failures: 20 * failures)

    assert pauses == [20.0]


def test_a_deadlock_is_retried(pauses: list[float]) -> None:
    """Another transaction had locked the tables in another order."""
    assert retry_on_lock_timeout(failing(TransactionConflict(), LockTimeout()), 10, lambda _failures: 1) == "done"
    assert pauses == [1.0, 1.0]


def test_other_errors_are_not_retried(pauses: list[float]) -> None:
    """Only a lock timeout and a deadlock are worth another attempt."""
    with pytest.raises(StatementTimeout):
        retry_on_lock_timeout(failing(StatementTimeout()), 10, lambda _failures: 1)

    assert pauses == []
