"""A Lambda handler in its own process, which is invoked, frozen and ended as Lambda does it."""

import json
import secrets
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from registration_persistence.clock import monotonic
from registration_persistence.durations import Duration, bounded_seconds
from registration_persistence.sandbox.errors import InvocationFailed, LocalServerError
from registration_persistence.sandbox.handler_process import TERMINATION_GRACE_SECONDS, HandlerProcess

# Enough for the imports while other processes start, too.
_READY_TIMEOUT_SECONDS = 60.0

_REGION = "eu-west-1"


class LambdaProcess:
    """Runs a Lambda handler in its own Python process; use it as a context manager.

    The process starts when the block is entered, and loads the handler in the background; the first invocation waits
    for that. The process ends with the block, and also if its parent process dies.

    Args:
        handler: `path/to/file.py:function` or `module:function`; it is called with an event and a context.
        environment: Environment variables of the function; none by default. The variables of this process are not
            inherited, except PATH and a few that programs need; there is no home folder, and AWS credentials are only
            those of *environment*.
        timeout: Timeout of the function, as a `timedelta` or in seconds, 0 to a day; 29 s by default. An invocation
            that exceeds it is killed with its process.

    Attributes:
        name: Name of the function, the value of `AWS_LAMBDA_FUNCTION_NAME`. It is also the default of
            `AWS_SDK_UA_APP_ID`, by which `LocalSecretsManager.calls_of` finds the calls of the process.
        seconds: Duration of the last invocation in seconds, measured in the process.

    Raises:
        ValueError: *handler* does not name a module and a function.
    """

    def __init__(self, handler: str, *, environment: Mapping[str, str] | None = None, timeout: Duration = 29.0) -> None:
        module = handler.rpartition(":")[0]
        if not module:
            raise ValueError(f"handler is {handler!r}: expected path/to/file.py:function or module:function")
        self._handler = handler
        self._timeout_seconds = bounded_seconds(timeout, "timeout")
        self.name: str = f"{Path(module).stem.rpartition('.')[2]}-{secrets.token_hex(4)}"
        self._environment = {
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_SDK_UA_APP_ID": self.name,
            "AWS_REGION": _REGION,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",  # the SDK would ask it for the credentials of this machine
            **(environment or {}),
        }
        self.seconds: float = 0.0
        # The moment at which the current invocation times out, on the clock of `monotonic`; `None` between two.
        self._deadline: float | None = None
        self._is_ready = False
        self._started: HandlerProcess | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """The output of the process on stdout and stderr so far."""
        return self._process.log

    def __enter__(self) -> Self:
        self._started = HandlerProcess(self._handler, self.name, self._environment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.close()

    def wait_ready(self, timeout: Duration = _READY_TIMEOUT_SECONDS) -> None:
        """Wait until the handler is loaded; return at once if it is loaded already.

        Args:
            timeout: Limit of the wait, as a `timedelta` or in seconds, 0 to a day; 60 s by default.

        Raises:
            LocalServerError: The handler could not be loaded in time; the message has the output of the process.
        """
        if self._is_ready:
            return
        pipe, seconds = self._process.pipe, bounded_seconds(timeout, "timeout")
        try:
            self._is_ready = pipe.poll(seconds) and pipe.recv_bytes() == b"ready"
        except (EOFError, ConnectionError):
            code = self._process.exit_code()
            message = f"{self._handler} ended with {code} before it was ready:{self._process.log_tail}"
            raise LocalServerError(message) from None
        if not self._is_ready:
            raise LocalServerError(f"{self._handler} was not ready within {seconds:g} s:{self._process.log_tail}")

    def invoke(self, event: object = None) -> Any:
        """Call the handler and return its result.

        Args:
            event: The event, a value that JSON can represent; `None` by default.

        Raises:
            InvocationFailed: The handler raised an exception, exceeded the timeout, or its process ended.
            LocalServerError: The handler could not be loaded.
        """
        self.start(event)
        return self.result()

    def start(self, event: object = None) -> None:
        """Begin an invocation, whose result `result` returns. A process runs one invocation at a time.

        Args:
            event: The event, a value that JSON can represent; `None` by default.

        Raises:
            LocalServerError: The handler could not be loaded, or its process has ended.
            RuntimeError: The previous invocation has not ended.
        """
        if self._deadline is not None:
            raise RuntimeError(f"{self.name} has an invocation already: call result() first")
        self.wait_ready()
        request = {"id": str(uuid4()), "timeout": self._timeout_seconds, "event": event}
        try:
            self._process.pipe.send_bytes(json.dumps(request).encode())
        except OSError as error:
            code = self._process.exit_code()
            raise LocalServerError(f"{self.name} has ended with {code}:{self._process.log_tail}") from error
        self._deadline = monotonic() + self._timeout_seconds

    def result(self, timeout: Duration | None = None) -> Any:
        """Return what the handler returns for the event of `start`.

        Args:
            timeout: Limit of the wait, as a `timedelta` or in seconds, 0 to a day; `None`, the default, waits until the
                function's timeout.

        Raises:
            InvocationFailed: The handler raised an exception, exceeded the function's timeout, or its process ended.
            RuntimeError: There is no invocation.
            TimeoutError: There is no answer within *timeout*; the invocation continues.
        """
        if self._deadline is None:
            raise RuntimeError(f"{self.name} has no invocation: call start() first")
        self._wait_for_answer(self._deadline, timeout)
        try:
            answer = json.loads(self._process.pipe.recv_bytes())
        except (EOFError, ConnectionError):
            message = f"the process ended with {self._process.exit_code()}"
            raise self._failure("Runtime.ExitError", message, self._deadline) from None
        self._deadline = None
        self.seconds = answer["seconds"]
        if "type" in answer:
            raise InvocationFailed(
                answer["type"], answer["message"], retryable=answer["retryable"], seconds=self.seconds
            )
        return answer["value"]

    def pause(self) -> None:
        """Freeze the process as Lambda does between invocations; its clocks continue to run."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw the process."""
        self._process.send_signal(signal.SIGCONT)

    def freeze(self, duration: Duration) -> None:
        """Freeze the process, and thaw it after *duration*.

        Args:
            duration: Length of the freeze, as a `timedelta` or in seconds, 0 to a day.
        """
        seconds = bounded_seconds(duration, "duration")
        self.pause()
        try:
            time.sleep(seconds)
        finally:
            self.resume()

    def send_sigterm(self) -> None:
        """Send SIGTERM to the process, without waiting for its end."""
        self._process.send_signal(signal.SIGTERM)

    def terminate(self, grace: Duration = TERMINATION_GRACE_SECONDS) -> int:
        """End the process with SIGTERM as Lambda does, and return its exit code; also if it has ended already.

        Args:
            grace: Time until SIGKILL follows, as a `timedelta` or in seconds, 0 to a day; 2 s by default.
        """
        return self._process.terminate(bounded_seconds(grace, "grace"))

    @property
    def _process(self) -> HandlerProcess:
        if self._started is None:
            raise RuntimeError(f"{self.name} is not running: use it in a with block")
        return self._started

    def _wait_for_answer(self, deadline: float, timeout: Duration | None) -> None:
        remaining = max(0.0, deadline - monotonic())
        if self._process.pipe.poll(
            remaining if timeout is None else min(remaining, bounded_seconds(timeout, "timeout"))
        ):
            return
        if monotonic() < deadline:
            raise TimeoutError(f"{self.name} has not answered yet")
        self._process.terminate(grace_seconds=0.0)
        message = f"Task timed out after {self._timeout_seconds:.2f} seconds"
        raise self._failure("Sandbox.Timedout", message, deadline)

    def _failure(self, error_type: str, message: str, deadline: float) -> InvocationFailed:
        """End the invocation, and return the error for it."""
        self.seconds = monotonic() - deadline + self._timeout_seconds
        self._deadline = None
        return InvocationFailed(error_type, message + self._process.log_tail, retryable=False, seconds=self.seconds)
