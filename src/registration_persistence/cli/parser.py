"""The subcommands and their arguments."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias, TypeVar
from uuid import UUID

from registration_persistence.cli import commands as run

T = TypeVar("T", int, float)
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 it has no other name


def _number(least: float, greatest: float, kind: type[T]) -> Callable[[str], T]:
    def parse(given: str) -> T:
        number = kind(given)
        if not least <= number <= greatest:
            raise argparse.ArgumentTypeError(f"expected {least:g} to {greatest:g}")
        return number

    parse.__name__ = "number"  # argparse says: invalid number value
    return parse


def _month(given: str) -> datetime:
    return datetime.strptime(given, "%Y-%m").replace(tzinfo=UTC)


_month.__name__ = "month"  # argparse says: invalid month value


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


_batch = _number(1, 10_000, int)
_days = _number(0, 36_500, int)
_seconds = _number(0.1, 86_400, float)


def build_parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(
        prog="registration-persistence", description="The database is named by APP_DATABASE_*; see the README."
    )
    parser.add_argument("--version", action="version", version=version("registration-persistence"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    migrate = commands.add_parser("migrate", help="bring the schema up to date")
    migrate.add_argument("revision", nargs="?", default="head", help="how far (default: head)")
    migrate.add_argument("--sql", action="store_true", help="print the SQL instead; needs no database")
    migrate.set_defaults(run=run.migrate)

    bootstrap = commands.add_parser(
        "bootstrap",
        help="make the roles and logins of a cluster, with its own secret",
        epilog="It can be repeated at any time; see docs/howto/roles.md.",
    )
    bootstrap.add_argument(
        "--application-secret", metavar="ARN", help="of the service (default: APP_DATABASE_APPLICATION_SECRET_ARN)"
    )
    bootstrap.add_argument(
        "--monitoring-secret", metavar="ARN", help="of Datadog (default: APP_DATABASE_MONITORING_SECRET_ARN, or none)"
    )
    bootstrap.set_defaults(run=run.bootstrap)

    current = commands.add_parser("current", help="print the revision that the database is at")
    current.set_defaults(run=run.current)

    check = commands.add_parser("check", help="compare the database with the newest revision and the models")
    check.set_defaults(run=run.check)

    ping = commands.add_parser("ping", help="connect, and say what was found")
    ping.set_defaults(run=run.ping)

    _add_retention(commands)
    _add_people(commands)
    _add_import(commands)
    _add_outbox(commands)

    demo = commands.add_parser("demo", help="register the people of a CSV file in a PostgreSQL on this machine")
    demo.add_argument("signups", type=Path, help="a CSV file with the header of examples/signups.csv")
    demo.add_argument("--keep", action="store_true", help="leave the database running until Enter is pressed")
    demo.add_argument("--rejected", type=Path, help="where to write rejected rows (default: NAME.rejected.csv here)")
    demo.set_defaults(run=run.demo)

    _add_chaos(commands)
    return parser


def _add_chaos(commands: Commands) -> None:
    chaos = commands.add_parser(
        "chaos",
        help="sign people up on this machine while one fault after the other happens",
        epilog="The exit code is 1 where an acknowledged sign-up was lost, one is there twice, or an error lied.",
    )
    chaos.add_argument("--seconds", type=_number(2, 600, float), default=60, help="2 to 600 (default: 60)")
    chaos.add_argument("--processes", type=_number(1, 16, int), default=4, help="1 to 16 (default: 4)")
    chaos.add_argument(
        "--faults", type=_names, metavar="NAME,NAME", help="these, in this order (default: all; a wrong one lists them)"
    )
    chaos.add_argument("--seed", type=_number(0, 2**32, int), help="for what is left to chance (default: any)")
    chaos.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE.svg",
        help="draw the requests over time",
    )
    chaos.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    chaos.set_defaults(run=run.chaos)


def _add_retention(commands: Commands) -> None:
    expire = commands.add_parser("expire", help="expire registrations whose time is over")
    expire.add_argument("--batch", type=_batch, default=1000, help="registrations in one statement (default: 1000)")
    expire.set_defaults(run=run.expire)

    purge = commands.add_parser("purge", help="delete what expired or was cancelled, and old tokens")
    purge.add_argument("--closed-days", type=_days, default=30, help="how long ago it was closed (default: 30)")
    purge.add_argument("--token-days", type=_days, default=30, help="how long ago a token's time ended (default: 30)")
    purge.add_argument("--batch", type=_batch, default=1000, help="rows in one statement (default: 1000)")
    purge.set_defaults(run=run.purge)

    partitions = commands.add_parser("partitions", help="make the partitions of the event trail, as its owner")
    partitions.add_argument(
        "--months", type=_number(0, 120, int), default=12, help="so many months ahead (default: 12)"
    )
    partitions.add_argument("--drop-before", type=_month, metavar="YYYY-MM", help="drop those of the months before")
    partitions.set_defaults(run=run.partitions)


def _add_people(commands: Commands) -> None:
    erase = commands.add_parser("erase", help="erase a person")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    erase.add_argument("--actor", default="system", help="for the trail: user, system or admin:<id> (default: system)")
    erase.set_defaults(run=run.erase)
    export = commands.add_parser("export", help="print everything that is held about a person, as JSON")
    export.set_defaults(run=run.export)
    for command in (erase, export):
        command.add_argument("ids", nargs="*", type=UUID, metavar="ID", help="registrations")
        command.add_argument(
            "--email", action="store_true", help="read a mailbox from standard input, and take all that holds it"
        )


def _add_import(commands: Commands) -> None:
    importing = commands.add_parser(
        "import", help="import people from CSV or JSON Lines", epilog="The exit code is 1 where a row was rejected."
    )
    importing.add_argument("file", type=Path, help="see docs/howto/import.md")
    importing.add_argument("--format", choices=("csv", "jsonl"), help="by default what the file's name says")
    importing.add_argument("--dry-run", action="store_true", help="do everything in one transaction, keep nothing")
    importing.add_argument("--announce", action="store_true", help="put a message for each row into the outbox")
    importing.add_argument(
        "--open-days", type=_number(1, 3650, int), default=30, help="for pending and verified rows (default: 30)"
    )
    importing.add_argument("--rejected", type=Path, help="where line and reason go (default: NAME.rejected.csv here)")
    importing.set_defaults(run=run.import_file)


def _add_outbox(commands: Commands) -> None:
    outbox = commands.add_parser("outbox", help="deliver messages, look at those that were given up").add_subparsers(
        required=True, metavar="COMMAND"
    )
    worker = outbox.add_parser("run", help="deliver until SIGTERM")
    worker.add_argument("--deliver", required=True, metavar="MODULE:FUNCTION", help="called with each message")
    worker.add_argument("--once", action="store_true", help="end when nothing is due")
    worker.add_argument(
        "--batch", type=_number(1, 1000, int), default=10, help="messages that are claimed at once (default: 10)"
    )
    worker.add_argument(
        "--lease", type=_seconds, default=60, help="seconds for a batch, then others get it (default: 60)"
    )
    worker.add_argument(
        "--max-attempts", type=_number(1, 1000, int), default=10, help="then a message is given up (default: 10)"
    )
    worker.add_argument("--poll", type=_seconds, default=1, help="seconds to wait when nothing is due (default: 1)")
    worker.set_defaults(run=run.outbox_run)
    dead = outbox.add_parser("dead", help="print the messages that were given up")
    dead.add_argument("--limit", type=_number(1, 1000, int), default=100, help="1 to 1000 (default: 100)")
    dead.set_defaults(run=run.outbox_dead)
    revive = outbox.add_parser("revive", help="make messages due that were given up")
    revive.add_argument("ids", nargs="*", type=UUID, metavar="EVENT_ID")
    revive.add_argument("--all", action="store_true", help="all of them")
    revive.set_defaults(run=run.outbox_revive)
