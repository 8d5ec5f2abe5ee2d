"""`ping`: connect to the database, and print the state of the server."""

import argparse

from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, report
from registration_persistence.database import get_db


def add_commands(commands: Subcommands) -> None:
    """Add `ping`."""
    commands.add(
        "ping",
        _ping,
        "connect, and print the version and state of the server",
        examples=["ping"],
        json_fields={
            "database": "name of the database",
            "host": "host name of the endpoint",
            "port": "port of the endpoint",
            "server_version": "version of PostgreSQL",
            "writable": "whether the server accepts writes",
            "encrypted": "whether the connection uses TLS",
            "seconds": "duration, including the opening of the connection",
        },
    )


def _ping(options: argparse.Namespace) -> int:
    database = get_db()
    health = database.ping()
    writable = "writable" if health.writable else "read-only"
    encrypted = "over TLS" if health.encrypted else "without TLS"
    report(
        options,
        f"{database!r}: PostgreSQL {health.server_version}, {writable}, {encrypted}, {health.seconds * 1000:.0f} ms",
        {
            "database": database.settings.name,
            "host": database.settings.host,
            "port": database.settings.port,
            "server_version": health.server_version,
            "writable": health.writable,
            "encrypted": health.encrypted,
            "seconds": round(health.seconds, 3),
        },
    )
    return ExitCode.DONE
