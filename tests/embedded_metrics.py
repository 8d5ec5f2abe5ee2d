"""A strict parser of CloudWatch's embedded metric format, written from its specification."""

import json
import math
import time
from dataclasses import dataclass
from typing import Any

# The units of `MetricDatum` that exist; those per second are left out.
UNITS = {"Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Percent", "Count", "None"}

MAX_EVENT_BYTES = 256 * 1024
MAX_METRICS, MAX_VALUES, MAX_DIMENSIONS, MAX_NAME = 100, 100, 30, 255


@dataclass(frozen=True, slots=True)
class Published:
    """The values of one metric of CloudWatch, from one line."""

    namespace: str
    name: str
    unit: str
    dimensions: dict[str, str]
    values: tuple[float, ...]


def parse_line(line: str) -> list[Published]:
    """Return what CloudWatch publishes from *line*, which must be a valid document without anything around it."""
    assert len(line.encode()) <= MAX_EVENT_BYTES
    assert "\n" not in line
    root = json.loads(line, object_pairs_hook=_without_repeated_members, parse_constant=_refuse_constant)
    assert type(root) is dict
    metadata = root["_aws"]
    assert set(metadata) == {"Timestamp", "CloudWatchMetrics"}
    assert type(metadata["Timestamp"]) is int
    assert abs(time.time() * 1000 - metadata["Timestamp"]) < 60_000, "in milliseconds since 1970"
    assert metadata["CloudWatchMetrics"]
    published = [each for directive in metadata["CloudWatchMetrics"] for each in _published(directive, root)]
    identities = [(each.namespace, each.name, tuple(sorted(each.dimensions.items()))) for each in published]
    assert len(set(identities)) == len(identities), "a metric is published twice"
    targets = {each.name for each in published} | {name for each in published for name in each.dimensions}
    assert set(root) == {"_aws", *targets}, "nothing but metrics and dimensions"
    return published


def _published(directive: dict[str, Any], root: dict[str, Any]) -> list[Published]:
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    namespace, dimension_sets, metrics = directive["Namespace"], directive["Dimensions"], directive["Metrics"]
    _require_name(namespace)
    assert dimension_sets
    assert 1 <= len(metrics) <= MAX_METRICS
    published = []
    for definition in metrics:
        assert set(definition) == {"Name", "Unit"}
        assert definition["Unit"] in UNITS
        for keys in dimension_sets:
            assert type(keys) is list
            assert len(keys) == len(set(keys)) <= MAX_DIMENSIONS
            dimensions = {key: root[key] for key in keys}
            for text in (*dimensions, *dimensions.values()):
                _require_name(text)
            values = _values(root[definition["Name"]])
            published.append(Published(namespace, definition["Name"], definition["Unit"], dimensions, values))
        _require_name(definition["Name"])
    return published


def _values(target: Any) -> tuple[float, ...]:
    values: list[Any] = target if type(target) is list else [target]
    assert 1 <= len(values) <= MAX_VALUES
    for value in values:
        assert type(value) in (int, float)
        assert math.isfinite(value)
    return tuple(values)


def _require_name(text: object) -> None:
    assert type(text) is str
    assert 1 <= len(text) <= MAX_NAME
    assert text.isascii()
    assert text.isprintable()
    assert not text.startswith(":")


def _without_repeated_members(members: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in members}) == len(members), "a member is repeated"
    return dict(members)


def _refuse_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
