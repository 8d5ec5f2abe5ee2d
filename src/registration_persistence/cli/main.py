"""The subcommands and their arguments; each error is one clear line and an exit code, never a traceback."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.database import get_db
from registration_persistence.errors import ConfigurationError, RegistrationPersistenceError

FAILED = 1
WRONG_USE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code: 0 done, 1 failed, 2 wrong arguments, environment or file."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        code: int = options.run(options)
    except ConfigurationError as error:
        return _complain(error, WRONG_USE)
    except RegistrationPersistenceError as error:
        return _complain(error, getattr(error, "exit_code", FAILED))
    except SQLAlchemyError as error:
        return _complain(getattr(error, "orig", None) or error, FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains as it exits
        return 128 + signal.SIGPIPE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="registration-persistence", description="The database is named by APP_DATABASE_*; see the README."
    )
    parser.add_argument("--version", action="version", version=version("registration-persistence"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    migrate = commands.add_parser("migrate", help="bring the schema up to date")
    migrate.add_argument("revision", nargs="?", default="head", help="how far (default: head)")
    migrate.add_argument("--sql", action="store_true", help="print the SQL instead; needs no database")
    migrate.set_defaults(run=_migrate)

    current = commands.add_parser("current", help="print the revision that the database is at")
    current.set_defaults(run=_current)

    check = commands.add_parser("check", help="compare the database with the newest revision and the models")
    check.set_defaults(run=_check)

    ping = commands.add_parser("ping", help="connect, and say what was found")
    ping.set_defaults(run=_ping)

    demo = commands.add_parser("demo", help="register the people of a CSV file in a PostgreSQL on this machine")
    demo.add_argument("signups", type=Path, help="a CSV file with the header of examples/signups.csv")
    demo.add_argument("--keep", action="store_true", help="leave the database running until Enter is pressed")
    demo.add_argument("--rejected", type=Path, help="where to write rejected rows (default: NAME.rejected.csv here)")
    demo.set_defaults(run=_demo)
    return parser


def _migrate(options: argparse.Namespace) -> int:
    from registration_persistence import schema

    if options.sql:
        print(schema.upgrade_sql(options.revision), end="", flush=True)
        return 0
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for name in ("alembic", "registration_persistence.migrations"):
        logging.getLogger(name).setLevel(logging.INFO)
    print(f"the database is at revision {schema.upgrade(get_db(), options.revision)}")
    return 0


def _current(_: argparse.Namespace) -> int:
    from registration_persistence import schema

    print(schema.current(get_db()) or "no revision")
    return 0


def _check(_: argparse.Namespace) -> int:
    from registration_persistence import schema

    schema.check(get_db())
    print("the database is at the newest revision and like the models")
    return 0


def _ping(_: argparse.Namespace) -> int:
    database = get_db()
    health = database.ping()
    writable = "writable" if health.writable else "read-only"
    encrypted = "over TLS" if health.encrypted else "without TLS"
    print(f"{database!r}: PostgreSQL {health.server_version}, {writable}, {encrypted}, {health.seconds * 1000:.0f} ms")
    return 0


def _demo(options: argparse.Namespace) -> int:
    try:
        from registration_persistence.cli.demo import run_demo
    except ImportError as error:
        print(f"the demo needs {error.name}: pip install 'registration-persistence[local]'", file=sys.stderr)
        return WRONG_USE
    rejected = options.rejected or Path(f"{options.signups.stem}.rejected.csv")
    return FAILED if run_demo(options.signups, rejected, keep=options.keep) else 0


def _complain(error: Exception, code: int) -> int:
    print("registration-persistence:", str(error).strip(), file=sys.stderr)
    return code


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
