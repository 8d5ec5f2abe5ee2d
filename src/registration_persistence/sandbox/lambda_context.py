"""A stand-in for the context object that AWS Lambda passes to a handler."""

from collections.abc import Callable
from uuid import uuid4

from registration_persistence.clock import monotonic
from registration_persistence.durations import Duration, bounded_seconds


class FakeLambdaContext:
    """The part of Lambda's context object that handlers use; its time starts to run when it is created.

    Args:
        timeout: Timeout of the invocation, as a `timedelta` or in seconds, 0 to a day; 30 s by default.
        function_name: Name of the Lambda function; `function` by default.
        aws_request_id: Id of the invocation; a random UUID by default.
        clock: Returns the current time in seconds; the monotonic clock by default.
    """

    def __init__(
        self,
        timeout: Duration = 30.0,
        *,
        function_name: str = "function",
        aws_request_id: str | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.function_name = function_name
        self.aws_request_id: str = aws_request_id or str(uuid4())
        self._clock = clock
        self._end = clock() + bounded_seconds(timeout, "timeout")

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation, 0 or more."""
        return max(0, int(1000 * (self._end - self._clock())))
