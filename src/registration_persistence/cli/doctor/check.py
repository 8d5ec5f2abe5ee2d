"""`Check`: the result of one check, with the fix if it is not ok."""

from collections.abc import Iterable
from typing import Literal, TypeAlias

from registration_persistence.light_dataclass import dataclass

State: TypeAlias = Literal["ok", "warning", "failed", "skipped"]
"""`ok`; `warning` if the service works; `failed` if it does not, or soon will not; `skipped` if nothing was checked."""

_MAX_SHOWN_PROBLEMS = 4

# Longer than each text of this package; a text of a server could fill the log.
_MAX_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Args:
        name: The subject of the check, such as `host name`.
        state: The result.
        detail: The thing and its state, on one line.
        fix: The remedy if the result is `warning` or `failed`. Defaults to none.
    """

    name: str
    state: State
    detail: str
    fix: str = ""


def ok(name: str, detail: str) -> Check:
    """Return the result of a check that found nothing wrong."""
    return Check(name, "ok", _on_one_line(detail))


def warning(name: str, detail: str, fix: str) -> Check:
    """Return the result of a check that found a risk."""
    return Check(name, "warning", _on_one_line(detail), _on_one_line(fix))


def failed(name: str, detail: str, fix: str) -> Check:
    """Return the result of a check that found a failure."""
    return Check(name, "failed", _on_one_line(detail), _on_one_line(fix))


def skipped(name: str, reason: str) -> Check:
    """Return the result of a check that was not made."""
    return Check(name, "skipped", _on_one_line(reason))


def listed(problems: Iterable[str]) -> str:
    """Return the first problems or statements on one line, and the number of the others."""
    found = list(problems)
    shown, others = found[:_MAX_SHOWN_PROBLEMS], len(found) - _MAX_SHOWN_PROBLEMS
    joined = "; ".join([*shown, f"and {others} more"] if others > 0 else shown)
    return joined.replace(";; ", "; ")  # a statement ends with one already


def _on_one_line(text: str) -> str:
    # A name from the network may hold a control character, which a terminal would obey.
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}..."
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
