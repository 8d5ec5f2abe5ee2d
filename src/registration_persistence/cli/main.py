"""The program: each error is one clear line and an exit code, never a traceback."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.cli.commands import FAILED, WRONG_USE
from registration_persistence.cli.parser import build_parser
from registration_persistence.errors import ConfigurationError, InvalidInput, RegistrationPersistenceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code: 0 done, 1 failed, 2 wrong arguments, environment or file."""
    options = build_parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        code: int = options.run(options)
        sys.stdout.flush()  # here, where a reader that has gone away is caught
    except (ConfigurationError, InvalidInput) as error:
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


def _complain(error: Exception, code: int) -> int:
    print("registration-persistence:", str(error).strip(), file=sys.stderr)
    return code


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
