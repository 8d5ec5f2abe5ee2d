"""The program: parses the arguments, runs one command, and turns each error into a message and an exit code."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType
from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.cli import imports, outbox, ping, privacy, retention, sandbox, schema
from registration_persistence.cli.arguments import Subcommands
from registration_persistence.cli.console import ExitCode, WrongUse
from registration_persistence.errors import (
    ConfigurationError,
    InvalidInput,
    RegistrationPersistenceError,
    UnreadableFile,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The name of the command and its arguments. Defaults to those of the process.

    Returns:
        0 if it is done, 1 if it failed, 2 if the arguments, the environment or a file are wrong, and 128 plus the
        number of the signal that ended it.
    """
    options = build_parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        code = int(options.run(options))
        sys.stdout.flush()  # raises BrokenPipeError here instead of at the interpreter's exit
    except (ConfigurationError, InvalidInput, UnreadableFile, WrongUse) as error:
        return _print_error(error, ExitCode.WRONG_USE)
    except RegistrationPersistenceError as error:
        return _print_error(error, ExitCode.FAILED)
    except SQLAlchemyError as error:
        return _print_error(getattr(error, "orig", None) or error, ExitCode.FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The interpreter flushes standard output again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with all commands."""
    parser = argparse.ArgumentParser(
        prog="registration-persistence",
        description="The variables APP_DATABASE_* name the database; see docs/configuration.md",
    )
    parser.add_argument("--version", action="version", version=version("registration-persistence"))
    commands = Subcommands(parser)
    for group in (schema, ping, retention, privacy, imports, outbox, sandbox):
        group.add_commands(commands)
    return parser


def _print_error(error: Exception, code: ExitCode) -> int:
    print("registration-persistence:", str(error).strip(), file=sys.stderr)
    return int(code)


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
