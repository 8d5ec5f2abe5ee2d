"""Runs `registration-persistence` as people and pipelines do, with no variable that it does not need."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing import open_server

PASSWORD = "correct-horse-battery-staple"
LOGIN = "command_line"
COMMAND = (sys.executable, "-m", "registration_persistence")
COVERAGE_VARIABLE = "COVERAGE_PROCESS_CONFIG"


@contextmanager
def open_command_server() -> Iterator[PostgresServer]:
    """Start the embedded server, with a login for the command."""
    with open_server("embedded") as server:
        server.create_login(LOGIN, PASSWORD)
        yield server


def variables(port: int, name: str = "registration") -> dict[str, str]:
    """Return the variables of a database on this machine."""
    return {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": "127.0.0.1",
        "APP_DATABASE_PORT": str(port),
        "APP_DATABASE_NAME": name,
        "APP_DATABASE_USER": LOGIN,
        "APP_DATABASE_PASSWORD": PASSWORD,
        "APP_DATABASE_SSLMODE": "disable",
    }


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment of a command that needs *environ*."""
    # Set by `coverage run`; without it, the lines that a command executes would count as never executed.
    measured = {name: os.environ[name] for name in [COVERAGE_VARIABLE] if name in os.environ}
    return {**measured, **(environ or {})}


def run(
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    code: int = 0,
    folder: Path | None = None,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment of *environ* alone; it must end with *code* and print no password."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment({"COLUMNS": "120", **(environ or {})}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert code == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done


def one_line(output: str) -> str:
    """Return the only line of *output*."""
    (line,) = output.splitlines()
    return line
