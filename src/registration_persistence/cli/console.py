"""The exit codes, results, errors and questions that all commands have in common."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from typing import Any

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


def quoted(given: str) -> str:
    """Return an argument for an error message; an address is not shown, because it could stay in a log."""
    return "an e-mail address" if "@" in given else shortened(repr(given))


def option_name(options: argparse.Namespace, name: str) -> str:
    """Return the name of an option for an error message, or that of the variable that has set it.

    Args:
        options: The options of the command.
        name: The name of the option, with its dashes.
    """
    shown: str = options.set_by.get(name.lstrip("-").replace("-", "_"), name)
    return shown


def report(options: argparse.Namespace, text: str, data: Mapping[str, Any], *, verbatim: bool = False) -> None:
    """Print a result: *text* or, with `--json`, *data* on one line.

    Args:
        options: The options of the command.
        text: The result for people, of one or more lines.
        data: The result for programs, ready for `json.dumps`, except for ids and times, which become text.
        verbatim: Whether *text* is a program that is printed as it is. By default, characters that could deceive the
            reader of a terminal are escaped.
    """
    shown = text if verbatim else printable(text)
    print(json_text(data) if options.json else shown, flush=True)


def note(options: argparse.Namespace, text: str, *, shown: bool = True) -> None:
    """Print a remark about a result to standard error, for people.

    Args:
        options: The options of the command; with `--json` there are no remarks.
        text: The remark.
        shown: Whether it applies. Defaults to true.
    """
    if shown and not options.json:
        print(text, file=sys.stderr)


def json_text(data: Any, *, indent: int | None = None) -> str:
    """Return *data* as JSON, in which control characters and marks of the direction of text are escaped.

    Args:
        data: An object, an array or a value.
        indent: The number of spaces of each level. Defaults to none, which is one line.
    """
    is_utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    text = json.dumps(data, ensure_ascii=not is_utf8, indent=indent, default=_json_value, sort_keys=indent is not None)
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char).strip('"') for char in text)


def quoted_value(value: Any) -> str:
    """Return a value of a person for one line of text: as JSON, in which a text has quotes and no line feed."""
    return json.dumps(value, ensure_ascii=False, default=_json_value)


def printable(text: str) -> str:
    """Return *text* with an escape sequence for each character that could change what a terminal shows around it.

    Line feeds stay. Escaped are other control characters, the marks and overrides of the direction of text, and
    characters without width.
    """
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


def _json_value(value: object) -> str:
    """Return the text of a value that JSON does not have: an id or a time."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
