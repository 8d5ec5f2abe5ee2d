"""Runs `registration-persistence` as people and pipelines do, with no variable that it does not need."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from server_versions import local_kind

from registration_persistence.sandbox import PostgresServer
from registration_persistence.testing import open_server

PASSWORD = "correct-horse-battery-staple"
LOGIN = "command_line"
COMMAND = (sys.executable, "-m", "registration_persistence")
COVERAGE_VARIABLE = "COVERAGE_PROCESS_CONFIG"
# Seconds after which a test fails instead of hanging.
TIMEOUT_SECONDS = 60
RUN_EACH_PROGRAM = """
import contextlib, io, json, sys, traceback
from registration_persistence.cli import main

for arguments in json.loads(sys.argv[1]):
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            code = main(arguments)
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
            code = 1
    print(json.dumps([code, stdout.getvalue(), stderr.getvalue()]))
"""


@dataclass(frozen=True)
class Answer:
    """The exit code and the output of one of several commands."""

    code: int
    stdout: str
    stderr: str


class _ForkServer:
    """The process of `command_fork_server`, which ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("command_fork_server.py"))],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._end)

    def run(self, command: Mapping[str, Any]) -> int:
        """Run *command* in a process of its own, and return its exit code."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def _end(self) -> None:
        self._process.communicate(timeout=TIMEOUT_SECONDS)


@cache
def _fork_server() -> _ForkServer:
    return _ForkServer()


@contextmanager
def open_command_server() -> Iterator[PostgresServer]:
    """Start a server, with a login for the command."""
    with open_server(local_kind()) as server:
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
    stdout: str | None = None,
    interrupted_after: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment of *environ* alone; it must end with *code* and print no password.

    *stdout* is a file for standard output, or "" for a pipe that nobody reads. *interrupted_after* is the number of
    seconds until the command receives SIGINT, as Ctrl-C sends it.
    """
    with tempfile.TemporaryDirectory() as streams:
        paths = {name: Path(streams, name) for name in ("stdin", "stdout", "stderr")}
        for path in paths.values():
            path.write_text(stdin if path.name == "stdin" else "")
        command = {
            "arguments": arguments,
            "environ": environment({"COLUMNS": "120", **(environ or {})}),
            "folder": str(folder or Path.cwd()),
            "timeout": TIMEOUT_SECONDS,
            "interrupted_after": interrupted_after,
            **{name: str(path) for name, path in paths.items()},
            **({} if stdout is None else {"stdout": stdout}),
        }
        returncode = _fork_server().run(command)
        done = subprocess.CompletedProcess(
            arguments, returncode, paths["stdout"].read_text(), paths["stderr"].read_text()
        )
    assert code == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done


def run_each(
    *commands: Sequence[str],
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    options: Sequence[str] = (),
    stdin: str = "",
) -> tuple[list[Answer], str]:
    """Run several commands one after the other in one process; return their answers, and what the interpreter says."""
    done = subprocess.run(
        [sys.executable, *options, "-c", RUN_EACH_PROGRAM, json.dumps(commands)],
        cwd=folder,
        env=environment(environ),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    assert PASSWORD not in done.stdout
    return [Answer(*json.loads(line)) for line in done.stdout.splitlines()], done.stderr


def one_line(output: str) -> str:
    """Return the only line of *output*."""
    (line,) = output.splitlines()
    return line
