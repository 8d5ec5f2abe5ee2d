"""The stand-in for the context object of Lambda."""

from datetime import timedelta

import pytest

from registration_persistence import LambdaContext
from registration_persistence.durations import Duration
from registration_persistence.sandbox import FakeLambdaContext


def test_it_is_a_lambda_context() -> None:
    """`deadline` recognises it, and it has the attributes that Lambda sets."""
    context = FakeLambdaContext(function_name="sign-up", aws_request_id="1")

    assert isinstance(context, LambdaContext)
    assert (context.function_name, context.aws_request_id) == ("sign-up", "1")
    assert FakeLambdaContext().aws_request_id != FakeLambdaContext().aws_request_id


@pytest.mark.parametrize("timeout", [3, timedelta(seconds=3)])
def test_its_time_runs_down_to_zero(timeout: Duration) -> None:
    """The remaining milliseconds follow the clock, and are never negative."""
    now = 100.0
    context = FakeLambdaContext(timeout, clock=lambda: now)
    assert context.get_remaining_time_in_millis() == 3000

    now = 102.5
    assert context.get_remaining_time_in_millis() == 500
    now = 200.0
    assert context.get_remaining_time_in_millis() == 0
