"""`ping`: connect to the database, and print the state of the server."""

import argparse

from registration_persistence.cli.arguments import Subcommands
from registration_persistence.cli.console import ExitCode
from registration_persistence.database import get_db


def add_commands(commands: Subcommands) -> None:
    """Add `ping`."""
    commands.add("ping", _ping, "connect, and print the version and state of the server")


def _ping(_: argparse.Namespace) -> int:
    database = get_db()
    health = database.ping()
    writable = "writable" if health.writable else "read-only"
    encrypted = "over TLS" if health.encrypted else "without TLS"
    print(f"{database!r}: PostgreSQL {health.server_version}, {writable}, {encrypted}, {health.seconds * 1000:.0f} ms")
    return ExitCode.DONE
