"""`EmbeddedMetrics`: metrics as lines on standard output, in the embedded metric format of CloudWatch."""

import json
import select
import sys
from collections import deque
from typing import NamedTuple

from registration_persistence.database.lifecycle import reset_in_forked_children
from registration_persistence.telemetry.emf_documents import MetricGroup, documents

# CloudWatch accepts 100 values of a metric in a line. A line of these has less than 4 KiB, which a pipe with room takes
# at once.
_MAX_WAITING = 50


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
        groups: dict[str, MetricGroup] = {}
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
        for document in documents(groups, environment=self._environment):
            if _has_room_for_a_line():
                # In one call, so that the lines of threads do not mix.
                sys.stdout.write(f"{json.dumps(document, allow_nan=False)}\n")
                sys.stdout.flush()

    def _add(self, sample: _Sample) -> None:
        self._waiting.append(sample)
        if len(self._waiting) >= _MAX_WAITING:
            self.flush()


def _has_room_for_a_line() -> bool:
    """Return whether standard output takes a line at once; a pipe is full if its reader is slow."""
    try:
        return bool(select.select([], [sys.stdout], [], 0)[1])
    except (OSError, ValueError, TypeError):  # it is no file of the system
        return True
