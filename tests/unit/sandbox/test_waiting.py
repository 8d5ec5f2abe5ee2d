"""Waiting for a condition."""

from datetime import timedelta

import pytest

from registration_persistence.sandbox import LocalServerError, wait_until


def test_a_true_condition_is_checked_once() -> None:
    """If the condition is true at the beginning, the wait ends at once, also with a timeout of 0."""
    values = [True, "not needed"]

    wait_until(lambda: values.pop(0), "it is true", timeout=0)

    assert values == ["not needed"]


def test_a_condition_is_checked_until_it_is_true() -> None:
    """The condition is called repeatedly, and any true value ends the wait."""
    values = [0, None, "", "done", "not needed"]

    wait_until(lambda: values.pop(0), "a value is true", interval=0)

    assert values == ["not needed"]


@pytest.mark.parametrize("timeout", [0.02, timedelta(milliseconds=20)])
def test_a_condition_that_stays_false_is_an_error(timeout: float | timedelta) -> None:
    """The error names the timeout and the condition."""
    with pytest.raises(LocalServerError, match=r"^timed out after 0.02 s waiting until it is true$"):
        wait_until(lambda: False, "it is true", timeout=timeout, interval=timedelta(milliseconds=1))
