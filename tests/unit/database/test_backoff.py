"""`backoff`: the wait before the next attempt."""

import random

import pytest

from registration_persistence.database import backoff as module
from registration_persistence.database.backoff import backoff


@pytest.mark.parametrize(("attempts", "limit"), [(0, 0.1), (1, 0.2), (3, 0.8), (6, 5.0), (29, 5.0), (5_000, 5.0)])
def test_the_wait_doubles_up_to_its_limit_and_is_reduced_by_up_to_half(attempts: int, limit: float) -> None:
    """A hundred waits are between half of the doubled wait and all of it, and differ."""
    waits = [backoff(attempts, 0.1, 5.0) for _ in range(100)]

    assert all(limit / 2 <= wait <= limit * (1 + 1e-9) for wait in waits)
    assert len(set(waits)) > 50


def test_the_jitter_comes_from_the_kernel() -> None:
    """Processes that are restored from one snapshot share the state of every other generator."""
    assert isinstance(module._random, random.SystemRandom)
