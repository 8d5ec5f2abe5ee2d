"""The two errors of the command, and the wording of a problem."""

import json
from collections.abc import Iterable


class InvalidInput(ValueError):
    """Something was wrong before the first change was sent.

    Args:
        problems: All problems that were found, one sentence each.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "nothing was changed:" + "".join(f"\n  - {problem}" for problem in self.problems)


class DatadogError(RuntimeError):
    """Datadog rejected a request, or its answer did not arrive or could not be read."""


def child_key(key: str, name: str) -> str:
    """Return the path of the key *name* inside *key*, which is empty for the whole file."""
    return f"{key}.{name}" if key else name


def as_json(value: object) -> str:
    """Return *value* as JSON, for a message."""
    return json.dumps(value, default=str, ensure_ascii=False)
