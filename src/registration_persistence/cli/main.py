"""The program: parses the arguments, runs one command, and turns each error into a message and an exit code."""

import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType
from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.cli import (
    completion,
    events,
    imports,
    outbox,
    people,
    ping,
    privacy,
    retention,
    sandbox,
    schema,
    streams,
)
from registration_persistence.cli.command_parser import CommandParser, wants_json
from registration_persistence.cli.commands import Subcommands
from registration_persistence.cli.console import ExitCode, WrongUse, json_text, printable
from registration_persistence.cli.doctor import command as doctor
from registration_persistence.database import forget_db
from registration_persistence.errors import (
    ConfigurationError,
    InvalidInput,
    RegistrationPersistenceError,
    UnreadableFile,
)

# The SQLSTATE of `insufficient_privilege`.
_INSUFFICIENT_PRIVILEGE = "42501"

_WRONG_USE = (ConfigurationError, InvalidInput, UnreadableFile, WrongUse)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The name of the command and its arguments. Defaults to those of the process.

    Returns:
        0 if it is done, 1 if it failed, 2 if the arguments, the environment or a file are wrong, and 128 plus the
        number of the signal that ended it.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        streams.prepare()
        _exit_on_signals()
        code = _run(given)
        sys.stdout.flush()  # raises here instead of at the interpreter's exit
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 a traceback helps nobody who uses the command
        code = _report(error, as_json=wants_json(given))
    streams.discard_unwritten_output()
    return code


def build_parser() -> CommandParser:
    """Return the parser of the command line, with all commands."""
    parser = CommandParser(
        prog="registration-persistence",
        description="The variables APP_DATABASE_* name the database; see docs/configuration.md",
        epilog="Exit codes: 0 done; 1 failed; 2 the arguments, the environment or a file are wrong; 128 plus the "
        "number of the signal that ended the command. See docs/cli.md.",
    )
    parser.add_argument("--version", action="version", version=version("registration-persistence"))
    commands = Subcommands(parser)
    for group in (schema, ping, doctor, retention, people, events, privacy, imports, outbox, sandbox, completion):
        group.add_commands(commands)
    return parser


def _exit_on_signals() -> None:
    """Raise SystemExit on the signals that end a process, unless its parent ignores them, as nohup does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _run(arguments: Sequence[str]) -> int:
    """Run the command and close its connections; return the exit code, also that of `sys.exit`."""
    try:
        parser, options = build_parser().parse(arguments)
        assert parser.command is not None
        return int(parser.command.run(options))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.FAILED
    finally:
        forget_db()


def _report(error: Exception, *, as_json: bool) -> int:
    """Print *error*, as one line or as a JSON object, and return the exit code."""
    message, code = str(error).strip(), ExitCode.FAILED
    if isinstance(error, _WRONG_USE):
        code = ExitCode.WRONG_USE
    elif isinstance(error, SQLAlchemyError):
        # The first line, because the others quote values of the row.
        message = str(getattr(error, "orig", None) or error).strip().partition("\n")[0] + _advice(error)
    elif not isinstance(error, RegistrationPersistenceError):
        message = _unexpected(error)
    described = {"kind": _kind(error), "message": message, "retryable": getattr(error, "retryable", False)}
    shown = json_text({"error": described}) if as_json else f"registration-persistence: {printable(message)}"
    print(shown, file=sys.stderr)
    return int(code)


def _advice(error: SQLAlchemyError) -> str:
    """Return the fix of an error of the server, if there is one for every statement."""
    if getattr(getattr(error, "orig", None), "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
        return ": use a login that has the privilege; migrate and partitions need the one that owns the tables"
    return ""


def _kind(error: Exception) -> str:
    """Return the name of the error for programs."""
    if isinstance(error, RegistrationPersistenceError):
        return type(error).__name__
    return "DatabaseError" if isinstance(error, SQLAlchemyError) else "Unexpected"


def _unexpected(error: Exception) -> str:
    """Return one line that is enough for a bug report."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    described = " ".join(str(error).split()) or "no message"
    return f"unexpected {type(error).__name__} at {frame.filename}:{frame.lineno}: {described}"


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
