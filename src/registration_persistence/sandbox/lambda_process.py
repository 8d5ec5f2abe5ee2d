"""A handler in a process of its own, which is invoked, frozen and ended as Lambda does it."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from uuid import uuid4

from registration_persistence.sandbox.binaries import LocalServerError

_CHILD = "registration_persistence.sandbox.lambda_runtime"

# Seconds for imports, with other processes starting at the same time.
_START = 60.0

# Seconds that Lambda gives a process after SIGTERM.
_GRACE = 2.0

_TAIL = 4_000


class InvocationFailed(Exception):
    """The handler raised, ran out of time, or took its process with it.

    Args:
        error_type: The name of the exception's class, or Lambda's: `Sandbox.Timedout`, `Runtime.ExitError`.
        message: The exception's text.
        retryable: The exception's attribute of that name; false where it has none.
        seconds: How long the invocation took.
    """

    def __init__(self, error_type: str, message: str, *, retryable: bool, seconds: float) -> None:
        self.error_type, self.message, self.retryable, self.seconds = error_type, message, retryable, seconds
        super().__init__(f"{error_type}: {message}")


class LambdaProcess:
    """Runs a Lambda handler in a Python process of its own; use it as a context manager.

    The process starts at once and loads the handler by itself; whoever invokes it first waits for that. It ends with
    its parent.

    Args:
        handler: `path/to/file.py:function` or `module:function`, which is called with an event and a context.
        environment: Variables that the process has beside those of this one.
        timeout: Seconds that an invocation may take until the process is killed, as the function's timeout does.

    Attributes:
        name: The function's name, `AWS_LAMBDA_FUNCTION_NAME`, and by default `AWS_SDK_UA_APP_ID`, by which
            `LocalSecretsManager.calls_of` knows the process.
        seconds: How long the last invocation took in the process.
    """

    def __init__(self, handler: str, *, environment: Mapping[str, str] | None = None, timeout: float = 29.0) -> None:
        place = handler.rpartition(":")[0]
        if not place:
            raise ValueError(f"{handler!r} names no handler: expected path/to/file.py:function or module:function")
        self._handler = handler
        self._timeout = timeout
        self.name = f"{Path(place).stem.rpartition('.')[2]}-{secrets.token_hex(4)}"
        self._environment = {
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_SDK_UA_APP_ID": self.name,
            **(environment or {}),
        }
        self.seconds = 0.0
        self._deadline: float | None = None
        self._ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._conversation: Connection | None = None
        self._output: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the process printed, on stdout and stderr."""
        assert self._output is not None
        descriptor = self._output.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        self._conversation, theirs = Pipe()
        self._output = tempfile.TemporaryFile()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _CHILD, self._handler, self.name, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[theirs.fileno()],
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.terminate()
        assert self._conversation is not None
        assert self._output is not None
        self._conversation.close()
        self._output.close()

    def wait_ready(self, timeout: float = _START) -> None:
        """Wait until the handler is loaded; returns at once when it is.

        Args:
            timeout: Seconds until that counts as failed.

        Raises:
            LocalServerError: It could not be loaded; the message has what the process printed.
        """
        if self._ready:
            return
        assert self._conversation is not None
        try:
            self._ready = self._conversation.poll(timeout) and self._conversation.recv_bytes() == b"ready"
        except (EOFError, ConnectionError):
            code = self._exit_code()
            raise LocalServerError(f"{self._handler} ended with {code} before it was ready:{self._tail()}") from None
        if not self._ready:
            raise LocalServerError(f"{self._handler} was not ready within {timeout:g} s:{self._tail()}")

    def invoke(self, event: object = None) -> Any:
        """Call the handler with *event*, which must be JSON, and return what it returns.

        Raises:
            InvocationFailed: It raised, took longer than the timeout, or its process ended.
            LocalServerError: It could not be loaded.
        """
        self.start(event)
        return self.result()

    def start(self, event: object = None) -> None:
        """Begin an invocation; `result` ends it. A process has one at a time.

        Raises:
            LocalServerError: It could not be loaded, or its process has ended.
        """
        if self._deadline is not None:
            raise RuntimeError(f"{self.name} has an invocation already: call result() first")
        self.wait_ready()
        assert self._conversation is not None
        request = {"id": str(uuid4()), "timeout": self._timeout, "event": event}
        try:
            self._conversation.send_bytes(json.dumps(request).encode())
        except OSError as error:
            raise LocalServerError(f"{self.name} has ended with {self._exit_code()}:{self._tail()}") from error
        self._deadline = time.monotonic() + self._timeout

    def result(self, timeout: float | None = None) -> Any:
        """Return what the handler returns for the event of `start`.

        Args:
            timeout: Seconds to wait; by default until the invocation's own timeout.

        Raises:
            InvocationFailed: As for `invoke`.
            TimeoutError: There is no answer yet; the invocation goes on.
        """
        assert self._conversation is not None
        if self._deadline is None:
            raise RuntimeError(f"{self.name} has no invocation: call start() first")
        left = max(0.0, self._deadline - time.monotonic())
        if not self._conversation.poll(left if timeout is None else min(left, timeout)):
            if time.monotonic() < self._deadline:
                raise TimeoutError(f"{self.name} has not answered yet")
            self.terminate(grace=0.0)
            raise self._ended("Sandbox.Timedout", f"Task timed out after {self._timeout:.2f} seconds")
        try:
            answer = json.loads(self._conversation.recv_bytes())
        except (EOFError, ConnectionError):
            raise self._ended("Runtime.ExitError", f"the process ended with {self._exit_code()}") from None
        self._deadline = None
        self.seconds = answer["seconds"]
        if "type" in answer:
            raise InvocationFailed(
                answer["type"], answer["message"], retryable=answer["retryable"], seconds=self.seconds
            )
        return answer["value"]

    def pause(self) -> None:
        """Freeze the process, as Lambda does between invocations; its clocks go on."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw the process."""
        self._signal(signal.SIGCONT)

    def freeze(self, seconds: float) -> None:
        """Freeze the process for *seconds*."""
        self.pause()
        try:
            time.sleep(seconds)
        finally:
            self.resume()

    def terminate(self, grace: float = _GRACE) -> int:
        """End the process with SIGTERM, as Lambda does, and return its exit code; one that has ended stays so.

        Args:
            grace: Seconds until SIGKILL follows.
        """
        assert self._process is not None
        self._process.terminate()
        self.resume()  # a frozen process hears nothing else
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(grace)
        self._process.kill()
        return self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _exit_code(self) -> int:
        """Return how a process ended that has hung up, which it does shortly before."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(_GRACE)
        return self.terminate()

    def _ended(self, error_type: str, message: str) -> InvocationFailed:
        assert self._deadline is not None
        self.seconds = time.monotonic() - self._deadline + self._timeout
        self._deadline = None
        return InvocationFailed(error_type, message + self._tail(), retryable=False, seconds=self.seconds)

    def _tail(self) -> str:
        return f"\n{self.log[-_TAIL:].strip() or 'It printed nothing.'}"
