"""The output of `doctor`: aligned lines for people, one line per check for programs, and JSON."""

import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TextIO, get_args

from registration_persistence.cli.console import json_text
from registration_persistence.cli.doctor.check import Check, State

_STATE_WIDTH, _NAME_WIDTH = 8, 17
_MIN_WIDTH = 60

_COLOURS: Mapping[State, str] = {"ok": "32", "warning": "33", "failed": "31;1", "skipped": "2"}


def text_of(check: Check, stream: TextIO) -> str:
    """Return the text of a check: wrapped on a terminal, and otherwise one line that `grep` can find.

    Args:
        check: The check.
        stream: The stream that the text is written to.
    """
    start = f"{check.state:<{_STATE_WIDTH}} {check.name:<{_NAME_WIDTH}} "
    if not stream.isatty():
        return f"{start}{check.detail}{f'; fix: {check.fix}' if check.fix else ''}"
    width = max(shutil.get_terminal_size().columns, _MIN_WIDTH)
    indent = " " * len(start)
    lines = _wrapped(check.detail, start, indent, width)
    if check.fix:
        lines += _wrapped(check.fix, f"{indent}fix: ", f"{indent}     ", width)
    text = "\n".join(lines)
    if "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[check.state]}m{check.state}\x1b[0m{text.removeprefix(check.state)}"


def summary_of(checks: Sequence[Check], seconds: float) -> str:
    """Return the last line: the number of checks in each state, and the duration."""
    counts = Counter(check.state for check in checks)
    words: dict[State, str] = {state: state for state in get_args(State)}
    words["warning"] = "warning" if counts["warning"] == 1 else "warnings"
    shown = ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state])
    return f"{shown} in {seconds:.1f} s"


def json_of(checks: Iterable[Check], seconds: float) -> str:
    """Return the checks as JSON on one line."""
    found = [asdict(check) for check in checks]
    return json_text({"checks": found, "seconds": round(seconds, 3)})


def _wrapped(text: str, start: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
