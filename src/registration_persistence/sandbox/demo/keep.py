"""`keep_running`: prints how to use the database of the demo in another terminal, and waits for Enter."""

import os
import shlex
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from registration_persistence.sandbox.postgres import LocalPostgres
from registration_persistence.sandbox.watchdog import WATCHDOG

_QUERY = "SELECT status, count(*) FROM registrations GROUP BY status"


def keep_running(
    console: Console, postgres: LocalPostgres, database: str, variables: Mapping[str, str], foreign: list[str]
) -> None:
    """Print the commands, and return when Enter is pressed.

    Args:
        console: Prints the text.
        postgres: The running server.
        database: Name of the database.
        variables: The environment variables with which the package uses the database.
        foreign: Names of variables of the shell that would interfere.
    """
    with tempfile.TemporaryDirectory(prefix="registration-psql-") as temporary:
        folder = Path(temporary)
        WATCHDOG.watch_folder(folder)
        passfile = folder / "pgpass"
        server = postgres.server
        passfile.touch(mode=0o600)
        passfile.write_text(f"{server.host}:{server.port}:*:{server.user}:{server.password}\n")
        console.print("Look at the rows in another terminal, for example:")
        login = f"-h {server.host} -p {server.port} -U {server.user} -d {database}"
        print(f"  PGPASSFILE={shlex.quote(str(passfile))} {shlex.quote(str(postgres.psql))} {login} -c '{_QUERY}'")
        console.print("Try the package and its commands on this database, with the cluster's login:")
        if foreign:
            print(f"  unset {' '.join(foreign)}")
        for name, value in variables.items():
            print(f"  export {name}={shlex.quote(value)}")
        print(f"  {_program()} check")
        console.print("Press Enter to stop the server.")
        if not sys.stdin.readline():
            threading.Event().wait()
        WATCHDOG.forget_folder(folder)


def _program() -> str:
    """Return the command line of this package's program."""
    script = Path(sys.executable).with_name("registration-persistence")
    return (
        shlex.quote(str(script))
        if os.access(script, os.X_OK)
        else f"{shlex.quote(sys.executable)} -P -m registration_persistence"
    )
