"""The files in `monitors/` and `dashboards/`: reading, checking and marking them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from datadog.event_queries import counting_metrics
from datadog.kinds import KINDS, Kind
from datadog.marks import marked_dashboard, marked_monitor
from datadog.monitor_rules import monitor_rule_problems
from datadog.placeholders import PlaceholderValues, render
from datadog.problems import InvalidInput, as_json
from datadog.schema_check import payload_problems

ONLY_WITH_READERS = frozenset({"replica-lag"})
"""Monitors that an environment without readers does not get."""

_FILE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Resource:
    """A monitor or dashboard that Datadog should have.

    Args:
        kind: `monitor` or `dashboard`.
        name: The name of its file without `.json`.
        body: The payload for the API, with the ownership mark.
    """

    kind: Kind
    name: str
    body: dict[str, Any]


def read_resources(folder: Path, values: PlaceholderValues) -> list[Resource]:
    """Return the monitors and dashboards that the files in *folder* describe.

    Args:
        folder: Contains `monitors/` and `dashboards/`.
        values: The value of each placeholder.

    Raises:
        InvalidInput: with all problems of all files.
    """
    resources: list[Resource] = []
    problems: list[str] = []
    for kind in KINDS:
        paths = sorted((folder / f"{kind}s").glob("*.json"))
        if not paths:
            # An empty folder is more likely a wrong path than the intention to delete everything.
            problems.append(f"{kind}s: *.json is missing: expected at least one file")
        for path in paths:
            if values["readers"] or path.stem not in ONLY_WITH_READERS:
                resources += _read_resource(kind, path, values, problems)
    if problems:
        raise InvalidInput(problems)
    return resources


def _read_resource(kind: Kind, path: Path, values: PlaceholderValues, problems: list[str]) -> Iterator[Resource]:
    """Yield the resource in the file *path*, or nothing if the file has *problems*."""
    found: list[str] = []
    if not _FILE_NAME.fullmatch(path.stem):
        expected = "expected a-z, 0-9 and single hyphens, because it becomes a tag"
        found.append(f"the name is {as_json(path.stem)}: {expected}")
    body: Any = None
    try:
        body = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates)
    except (OSError, ValueError) as error:
        found.append(f"it cannot be read as JSON: {error}")
    else:
        body = render(body, values, "", found)
        if values["event_metrics"]:
            body = counting_metrics(body)
        # A placeholder that is left in the place of a number would be reported twice.
        found = found or _body_problems(kind, body)
    problems += (f"{kind}s/{path.name}: {problem}" for problem in found)
    if not found:
        yield Resource(kind, path.stem, _marked(kind, path.stem, body, str(values["environment"])))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)} occurs twice")
    return values


def _marked(kind: Kind, name: str, body: Mapping[str, Any], environment: str) -> dict[str, Any]:
    match kind:
        case "monitor":
            return marked_monitor(name, body, environment)
        case "dashboard":
            return marked_dashboard(name, body, environment)
        case _:
            assert_never(kind)


def _body_problems(kind: Kind, body: Any) -> list[str]:
    problems = payload_problems(kind, body)
    if not problems and kind == "monitor":
        problems = list(monitor_rule_problems(body))
    return problems
