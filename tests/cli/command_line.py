"""Starting `registration-persistence` as people and pipelines do, with nothing in its environment but what it needs."""

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


@contextmanager
def open_command_server() -> Iterator[PostgresServer]:
    """Start the embedded server, one is enough for what the command adds, with a login for the command."""
    with open_server("embedded") as address:
        address.create_login(LOGIN, PASSWORD)
        yield address


def variables(port: int, name: str = "registration") -> dict[str, str]:
    """The variables that name a database on this machine."""
    return {
        "APP_ENVIRONMENT": "test",
        "APP_DATABASE_HOST": "127.0.0.1",
        "APP_DATABASE_PORT": str(port),
        "APP_DATABASE_NAME": name,
        "APP_DATABASE_USER": LOGIN,
        "APP_DATABASE_PASSWORD": PASSWORD,
        "APP_DATABASE_SSLMODE": "disable",
    }


def run(
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    code: int = 0,
    folder: Path | None = None,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing in its environment but *environ*; it must end with *code* and tell no secret."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={"COLUMNS": "120", **(environ or {})},
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
    """Return the one line that *output* has."""
    (line,) = output.splitlines()
    return line
