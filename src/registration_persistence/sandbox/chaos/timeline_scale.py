"""A recorded run of `chaos`, and the coordinates of its requests in the timeline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from registration_persistence.sandbox.chaos.evaluation import Outage, Phase
from registration_persistence.sandbox.chaos.load import REQUEST_TIMEOUT_SECONDS, Record

LEFT, RIGHT, TOP, BOTTOM = 86, 1206, 234, 574
"""The edges of the area of the requests."""

# The axis of durations is logarithmic, so it needs a minimum; it ends a little above the deadline or the data.
_MIN_DURATION_SECONDS = 0.0001
_HEADROOM = 1.3

Kind = Literal["ok", "retried", "failed"]
"""How a request is drawn."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A run, as far as its timeline needs it.

    Args:
        records: The requests.
        phases: The phases of the faults, in their order; at least one.
        outages: The longest outage of each phase, in the same order.
        caption: Description of the run, in one line.
    """

    records: Sequence[Record]
    phases: Sequence[Phase]
    outages: Sequence[Outage]
    caption: str


class Scale:
    """Converts moments and durations to coordinates.

    Args:
        recording: The run that the axes must fit.
    """

    def __init__(self, recording: Recording) -> None:
        records, phases = recording.records, recording.phases
        durations = [max(record.seconds, _MIN_DURATION_SECONDS) for record in records] or [0.001]
        self.start: float = phases[0].started_at
        self.end: float = max([phases[-1].ended_at, *map(end_of, records)])
        self.shortest: float = min(durations) / _HEADROOM
        self.longest: float = max(REQUEST_TIMEOUT_SECONDS, *durations) * _HEADROOM

    def x(self, moment: float) -> float:
        """Return the horizontal coordinate of a moment."""
        share = (moment - self.start) / (self.end - self.start)
        return LEFT + min(max(share, 0), 1) * (RIGHT - LEFT)

    def y(self, seconds: float) -> float:
        """Return the vertical coordinate of a duration."""
        share = math.log(max(seconds, self.shortest) / self.shortest) / math.log(self.longest / self.shortest)
        return BOTTOM - share * (BOTTOM - TOP)


def thinned(recording: Recording) -> list[Record]:
    """Return the requests that a drawing shows: of those at one place, the shortest and the longest; each failure."""
    scale = Scale(recording)
    ends: dict[tuple[str, int, int], tuple[Record, Record]] = {}
    failed = []
    for record in recording.records:
        if kind_of(record) == "failed":
            failed.append(record)
            continue
        place = (kind_of(record), int(scale.x(record.started_at)), int(scale.x(end_of(record))))
        shortest, longest = ends.get(place, (record, record))
        ends[place] = (
            record if record.seconds < shortest.seconds else shortest,
            record if record.seconds > longest.seconds else longest,
        )
    last = max(recording.records, key=end_of, default=None)  # the time axis ends with it
    if last is not None:
        ends["last", 0, 0] = (last, last)
    kept = {id(record): record for pair in ends.values() for record in pair}
    kept |= {id(record): record for record in failed}
    return sorted(kept.values(), key=lambda record: (record.started_at, record.seconds))


def end_of(record: Record) -> float:
    """Return the moment of the response."""
    return record.started_at + record.seconds


def kind_of(record: Record) -> Kind:
    """Return how a request is drawn."""
    match record.outcome:
        case "ok":
            return "retried" if record.attempts > 1 else "ok"
        case "failed" | "unknown":
            return "failed"
        case _:
            assert_never(record.outcome)
