"""The exit codes, errors and questions that all commands have in common."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from registration_persistence.errors import InvalidInput, RegistrationPersistenceError

_MAX_QUOTED_CHARACTERS = 60

_MAX_ANSWER_CHARACTERS = 1024


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2


class WrongUse(RegistrationPersistenceError):
    """The arguments of a command cannot be used; the message says what was expected."""


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Name the extra to install if an import inside the block fails.

    Args:
        name: The extra of this package that brings the missing module.

    Raises:
        WrongUse: An import failed.
    """
    try:
        yield
    except ImportError as error:
        raise WrongUse(f"this needs {error.name}: pip install 'registration-persistence[{name}]'") from None


def prompt(question: str) -> str:
    """Read a line of at most 1024 characters from standard input; print *question* only if it is a terminal.

    Raises:
        InvalidInput: The line is longer, or is not in the encoding of standard input.
    """
    if sys.stdin.isatty():
        print(question, end="", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline(_MAX_ANSWER_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise InvalidInput(f"standard input is not {sys.stdin.encoding}") from None
    if len(answer) > _MAX_ANSWER_CHARACTERS:
        raise InvalidInput(f"standard input has a line of more than {_MAX_ANSWER_CHARACTERS} characters: expected less")
    return answer.strip()


def shortened(quoted: str) -> str:
    """Return a value for an error message, without the end of a long one."""
    return quoted if len(quoted) <= _MAX_QUOTED_CHARACTERS else f"{quoted[:_MAX_QUOTED_CHARACTERS]}..."
