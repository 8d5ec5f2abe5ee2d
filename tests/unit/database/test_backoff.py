"""`backoff`: the wait before the next attempt."""

import math
import random

import pytest

from registration_persistence.database import backoff as module
from registration_persistence.database.backoff import MIN_ATTEMPT_SECONDS, RecoveryBackoff, backoff, fitting_wait


@pytest.mark.parametrize(("attempts", "limit"), [(0, 0.1), (1, 0.2), (3, 0.8), (6, 5.0), (29, 5.0), (5_000, 5.0)])
def test_the_wait_doubles_up_to_its_limit_and_is_reduced_by_up_to_half(attempts: int, limit: float) -> None:
    """A hundred waits are between half of the doubled wait and all of it, and differ."""
    waits = [backoff(attempts, 0.1, 5.0) for _ in range(100)]

    assert all(limit / 2 <= wait <= limit * (1 + 1e-9) for wait in waits)
    assert len(set(waits)) > 50


def test_the_jitter_comes_from_the_kernel() -> None:
    """Processes that are restored from one snapshot share the state of every other generator."""
    assert isinstance(module._random, random.SystemRandom)


@pytest.mark.parametrize(
    ("attempts", "lasting", "limit"),
    [(0, 0.0, 0.05), (2, 0.3, 0.2), (9, 2.9, 0.25), (99, 3.0, 0.25), (99, 6.0, 0.5), (99, 12.0, 1.0), (99, 600.0, 1.0)],
)
def test_the_wait_for_a_recovery_grows_with_the_duration_of_the_failure(
    attempts: int, lasting: float, limit: float
) -> None:
    """It stays short while a failover usually lasts, and then is at most a twelfth of the failure's duration."""
    waits = [
        RecoveryBackoff(0.05, 0.25, short_for=3.0, jitter=(0.8, 1.0)).seconds(attempts, lasting) for _ in range(100)
    ]

    assert all(0.8 * limit <= wait <= limit * (1 + 1e-9) for wait in waits)
    assert len(set(waits)) > 50


@pytest.mark.parametrize(
    ("wait", "left", "expected"),
    [(0.2, math.inf, 0.2), (0.2, 9.0, 0.2), (0.2, 0.2, 0.2 - MIN_ATTEMPT_SECONDS), (0.2, MIN_ATTEMPT_SECONDS, 0.0)],
)
def test_the_last_wait_leaves_time_for_an_attempt(wait: float, left: float, expected: float) -> None:
    """No time that could be used is given away."""
    assert expected == pytest.approx(fitting_wait(wait, left))


@pytest.mark.parametrize("left", [MIN_ATTEMPT_SECONDS - 0.001, 0.0, -1.0])
def test_without_time_for_an_attempt_there_is_no_wait(left: float) -> None:
    """The failure is raised at once."""
    assert fitting_wait(0.0, left) is None
