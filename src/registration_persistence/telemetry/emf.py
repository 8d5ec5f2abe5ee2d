"""`EmbeddedMetrics`: metrics as lines on standard output, in the embedded metric format of CloudWatch."""

import json
import select
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from registration_persistence.database.lifecycle import reset_in_forked_children

NAMESPACE = "RegistrationPersistence"
"""The namespace of the metrics in CloudWatch."""

# CloudWatch accepts 100 values of a metric in a line. A line of these has less than 4 KiB, which a pipe with room takes
# at once.
_MAX_WAITING = 50

# The metrics of one tag, with the values of each.
_Group = dict[str, list[float]]


class _Sample(NamedTuple):
    metric: str
    value: float
    tag: str
    is_counter: bool


class EmbeddedMetrics:
    """Collects metrics, and writes them as lines that CloudWatch Logs turns into metrics.

    It has those methods of `DogStatsd` that this package uses. A dimension has one value in a line, so `flush` writes
    one line, and one more for each further cause of the events. No lock is held, because a forked child could inherit
    it locked; a child forgets what waits, because its parent writes it. If standard output is full, because nobody
    reads it, lines are dropped as UDP packets would be, so that no request waits.

    Args:
        environment: The value of the dimension `environment` of each metric.
    """

    def __init__(self, environment: str) -> None:
        self._environment = environment
        self._waiting: deque[_Sample] = deque()
        reset_in_forked_children(self)

    def after_fork_in_child(self) -> None:
        """Forget the metrics of the parent."""
        self._waiting.clear()

    def increment(self, metric: str, value: float = 1, tags: list[str] | None = None) -> None:
        """Add *value* to the counter *metric*; *tags* is empty or one `name:value`."""
        self._add(_Sample(metric, value, "".join(tags or ()), is_counter=True))

    def distribution(self, metric: str, value: float, tags: list[str] | None = None) -> None:
        """Record one *value* of *metric*; *tags* is empty or one `name:value`."""
        self._add(_Sample(metric, value, "".join(tags or ()), is_counter=False))

    def flush(self) -> None:
        """Write the metrics since the last call."""
        groups: dict[str, _Group] = {}
        for _ in range(len(self._waiting)):
            try:
                sample = self._waiting.popleft()
            except IndexError:  # another thread writes the rest
                break
            values = groups.setdefault(sample.tag, {}).setdefault(sample.metric, [])
            if sample.is_counter and values:
                values[0] += sample.value
            else:
                values.append(sample.value)
        for line in _lines(groups):
            # In one call, so that the lines of threads do not mix.
            text = f"{self._line(line)}\n"
            if _has_room_for_a_line():
                sys.stdout.write(text)
                sys.stdout.flush()

    def _add(self, sample: _Sample) -> None:
        self._waiting.append(sample)
        if len(self._waiting) >= _MAX_WAITING:
            self.flush()

    def _line(self, groups: Mapping[str, _Group]) -> str:
        directives = []
        members: dict[str, Any] = {"environment": self._environment}
        for tag, metrics in groups.items():
            name, _, value = tag.partition(":")
            members |= {name: value} if name else {}
            members |= {metric: values[0] if len(values) == 1 else values for metric, values in metrics.items()}
            dimensions = [["environment"], ["environment", name]] if name else [["environment"]]
            units = {metric: "Seconds" if metric.endswith(".seconds") else "Count" for metric in metrics}
            definitions = [{"Name": metric, "Unit": unit} for metric, unit in units.items()]
            directives.append({"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": definitions})
        metadata = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": directives}
        return json.dumps({"_aws": metadata, **members}, allow_nan=False)


def _has_room_for_a_line() -> bool:
    """Return whether standard output takes a line at once; a pipe is full if its reader is slow."""
    try:
        return bool(select.select([], [sys.stdout], [], 0)[1])
    except (OSError, ValueError, TypeError):  # it is no file of the system
        return True


def _lines(groups: Mapping[str, _Group]) -> list[dict[str, _Group]]:
    """Return the groups of each line; the tags of a line have different names."""
    lines: list[dict[str, _Group]] = []
    for tag, metrics in groups.items():
        name = tag.partition(":")[0]
        free = (line for line in lines if all(other.partition(":")[0] != name for other in line))
        line = next(free, None)
        if line is None:
            lines.append(line := {})
        line[tag] = metrics
    return lines
