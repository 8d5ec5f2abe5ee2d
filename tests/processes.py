"""The processes of this machine, as tests see those that a program has started."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:ddtrace")
"""Arguments of Python for the suite of a service, without plugins that take seconds to import."""


def python_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a Python process that finds the same modules as this one, with more *variables*."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}


def is_running(pid: int) -> bool:
    """Return whether the process exists and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")
    # If no process reaps orphans, as in a bare container, an ended process stays as a zombie.
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def command_lines() -> dict[int, str]:
    """Return the command line of each process, by its id."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    lines = (line.strip().partition(" ") for line in listed.stdout.splitlines())
    return {int(pid): arguments for pid, _, arguments in lines}


@contextmanager
def running(program: str, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a Python program with *arguments* and *variables*, and kill it at the end."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, env=python_environment(**variables)) as process:
        try:
            yield process
        finally:
            process.kill()
