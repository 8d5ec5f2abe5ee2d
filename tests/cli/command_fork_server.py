"""Runs commands in children of one process that has imported the package: a start takes 0.05 s instead of 1.4 s.

Reads one command per line as JSON, and answers each with a line: the exit code.
"""

import json
import os
import signal
import sys
from typing import Any, NoReturn

from registration_persistence.cli import main
from registration_persistence.schema import alembic_commands  # noqa: F401 every `migrate` and `check` imports Alembic


def _run(command: dict[str, Any]) -> NoReturn:
    """Become the command: its variables, folder and streams are those of a process that was started with them."""
    os.environ.clear()
    os.environ.update(command["environ"])
    os.chdir(command["folder"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        file = os.open(command[name], os.O_RDWR)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 they last as long as the process
    signal.alarm(command["timeout"])
    sys.exit(main(command["arguments"]))


def _serve() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
