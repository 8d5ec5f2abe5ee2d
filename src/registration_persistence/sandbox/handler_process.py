"""A Python process that runs the Lambda runtime: its start, its pipe, its output, its signals and its end."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from registration_persistence.sandbox.isolation import sandbox_environment
from registration_persistence.sandbox.watchdog import WATCHDOG

_RUNTIME = "registration_persistence.sandbox.lambda_runtime"

# Lambda sends SIGKILL this long after SIGTERM.
TERMINATION_GRACE_SECONDS = 2.0
_MAX_QUOTED_CHARACTERS = 4_000


class HandlerProcess:
    """A process of the Lambda runtime, started at once; `close` ends it.

    Args:
        handler: `path/to/file.py:function` or `module:function`.
        name: Name of the Lambda function.
        environment: Environment variables of the function.

    Attributes:
        pipe: The connection through which requests are sent and answers are received.
    """

    def __init__(self, handler: str, name: str, environment: Mapping[str, str]) -> None:
        pipe, child_end = Pipe()
        self.pipe: Connection[Any, Any] = pipe
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 `close` closes it
        with child_end:
            self._process = subprocess.Popen(
                # -P, because -m would put the current folder first in the path of the modules.
                [sys.executable, "-u", "-P", "-m", _RUNTIME, handler, name, str(child_end.fileno())],
                env={**sandbox_environment(), "PYTHONPATH": _module_path(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[child_end.fileno()],
                start_new_session=True,
            )
        WATCHDOG.watch_process(self.pid)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """The output of the process on stdout and stderr."""
        descriptor = self._output.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    @property
    def log_tail(self) -> str:
        """The end of the output, for an error message."""
        return f"\n{self.log[-_MAX_QUOTED_CHARACTERS:].strip() or 'The process printed nothing.'}"

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def terminate(self, grace_seconds: float = TERMINATION_GRACE_SECONDS) -> int:
        """End the process with SIGTERM, and with SIGKILL after *grace_seconds*; return its exit code."""
        self._process.terminate()
        self.send_signal(signal.SIGCONT)  # a stopped process handles SIGTERM only after it continues
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(grace_seconds)
        self._process.kill()
        return self._process.wait()

    def exit_code(self) -> int:
        """Return the exit code of a process that has closed its end of the pipe, which it does shortly before."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(TERMINATION_GRACE_SECONDS)
        return self.terminate()

    def close(self) -> None:
        """End the process, and release its pipe and its output."""
        self.terminate()
        WATCHDOG.forget_process(self.pid)
        self.pipe.close()
        self._output.close()


def _module_path() -> str:
    """Return the folders in which this process finds modules, in its order."""
    return os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
