"""The types of the arguments of commands."""

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from registration_persistence.cli.console import WrongUse, quoted, shortened

N = TypeVar("N", int, float)


def number(kind: type[N], minimum: N, maximum: N) -> Callable[[str], N]:
    """Return the type of an argument that is a number in a range.

    Args:
        kind: `int` or `float`.
        minimum: The smallest number that is accepted.
        maximum: The largest number that is accepted.
    """
    expected = f"expected {'a whole' if kind is int else 'a'} number from {minimum} to {maximum}"

    def parse(given: str) -> N:
        try:
            parsed = kind(given)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{quoted(given)} is not a number: {expected}") from None
        if not minimum <= parsed <= maximum:
            raise argparse.ArgumentTypeError(f"{shortened(given)} is out of range: {expected}")
        return parsed

    return parse


seconds: Callable[[str], float] = number(float, 0.1, 86_400)
"""The type of an argument that is a number of seconds, up to a day."""


def month(given: str) -> datetime:
    """Parse an argument of the form `YYYY-MM`; return the start of that month in UTC."""
    try:
        return datetime.strptime(given, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{quoted(given)} is not a month: expected YYYY-MM") from None


def file_name(given: str) -> Path:
    """Parse an argument that is the name of a file."""
    if not given:
        raise argparse.ArgumentTypeError("the name is empty: expected that of a file")
    return Path(given)


def revision_name(given: str) -> str:
    """Parse an argument that names a revision of Alembic; `branch@head` is one, but an e-mail address is not."""
    if "@" in given and "." in given:
        raise argparse.ArgumentTypeError(f"{quoted(given)} is not a revision: expected head, or the id of a revision")
    return given


def uuid(given: str) -> UUID:
    """Parse an argument that is the id of a registration or of an event; no error shows an address."""
    try:
        return UUID(given)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{quoted(given)} is not an id: expected a UUID like 01890a5d-ac96-774b-bcce-b302099a8057"
        ) from None


def names(given: str) -> list[str]:
    """Parse an argument that is a list of names, separated by commas."""
    return [name.strip() for name in given.split(",") if name.strip()]


def check_chosen(ids: Sequence[UUID], *, others: bool, option: str) -> None:
    """Check that the arguments name something to work on.

    Args:
        ids: The ids among the arguments.
        others: Whether the option is set that selects more than *ids*.
        option: The name of that option.

    Raises:
        WrongUse: There are no *ids*, and the option is not set.
    """
    if not ids and not others:
        raise WrongUse(f"nothing is chosen: expected ids, or {option}")
