"""The comparison of what clients were told with the rows of the database, for each phase of a run of `chaos`."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, assert_never

from registration_persistence.sandbox.chaos.load import Record


@dataclass(frozen=True, slots=True)
class Phase:
    """The period of one fault; its moments are on the clock of `time.time`.

    Args:
        fault: Name of the fault.
        started_at: Start of the fault.
        fault_ended_at: End of the fault; the load recovers from it until `ended_at`.
        ended_at: End of the phase, at which the next one starts.
    """

    fault: str
    started_at: float
    fault_ended_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A period in which no sign-up of any process was acknowledged; its moments are on the clock of `time.time`.

    Args:
        started_at: The last acknowledgement before the outage.
        ended_at: The first acknowledgement after it.
    """

    started_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.ended_at - self.started_at


@dataclass(slots=True)
class Failure:
    """The errors of one class: how often clients got one, and the message of the first."""

    error: str
    count: int
    message: str


@dataclass(slots=True)
class Line:
    """The requests that started in the phase of one fault.

    Args:
        fault: Name of the fault, or `total`.
        requests: The number of requests.
        failed: The number of requests whose client got an error.
        retried: The number of requests with more than one attempt.
        slowest: Duration of the slowest request in seconds.
        outage: The longest period without an acknowledged sign-up.
        lost: The number of acknowledged sign-ups that the database does not hold.
        duplicated: The number of sign-ups that the database holds more than once.
        kept_despite_error: The number of sign-ups that the database holds although an error said that nothing was kept.
        failures: The errors by class name.
    """

    fault: str
    outage: Outage
    requests: int = 0
    failed: int = 0
    retried: int = 0
    slowest: float = 0.0
    lost: int = 0
    duplicated: int = 0
    kept_despite_error: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)

    def add(self, record: Record, rows: Sequence[int]) -> None:
        """Count a request.

        Args:
            record: The request.
            rows: The number of rows that each table holds for it.
        """
        self.requests += 1
        self.retried += record.attempts > 1
        self.slowest = max(self.slowest, record.seconds)
        self.duplicated += max(rows) > 1
        match record.outcome:
            case "ok":
                self.lost += min(rows) == 0
                return
            case "failed":
                self.kept_despite_error += max(rows) > 0
            case "unknown":
                pass
            case _:
                assert_never(record.outcome)
        self.failed += 1
        self.failures.setdefault(record.error, Failure(record.error, 0, record.message)).count += 1

    @property
    def wrong(self) -> int:
        """The number of requests whose client was told something wrong."""
        return self.lost + self.duplicated + self.kept_despite_error

    @property
    def numbers(self) -> dict[str, int | float]:
        """The columns of the table, by name."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "retried": self.retried,
            "slowest": round(self.slowest, 3),
            "longest_outage": round(self.outage.seconds, 3),
            "lost": self.lost,
            "duplicated": self.duplicated,
            "kept_despite_error": self.kept_despite_error,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the line as a JSON object."""
        errors = [
            {"error": each.error, "count": each.count, "message": each.message} for each in self.failures.values()
        ]
        return {"fault": self.fault, **self.numbers, "errors": errors}


def evaluate(records: Sequence[Record], tables: Sequence[Mapping[str, int]], phases: Sequence[Phase]) -> list[Line]:
    """Compare what clients were told with the rows, and return a line for each of *phases*, then the total.

    Args:
        records: The requests.
        tables: The number of rows of each table, by key.
        phases: The phases in their order; a request belongs to the phase in which it started.
    """
    found = longest_outages(records, phases)
    lines = [Line(phase.fault, outage) for phase, outage in zip(phases, found, strict=True)]
    total = Line("total", max(found, key=lambda outage: outage.seconds))
    starts = [phase.started_at for phase in phases]
    for record in records:
        rows = [table.get(record.key, 0) for table in tables]
        for line in (lines[max(0, bisect_right(starts, record.started_at) - 1)], total):
            line.add(record, rows)
    return [*lines, total]


def longest_outages(records: Sequence[Record], phases: Sequence[Phase]) -> list[Outage]:
    """Return the longest period without an acknowledged sign-up for each of *phases*, to the end of the run.

    An outage that crosses the end of a phase belongs to the phase that contains most of it.
    """
    answers = sorted(record.started_at + record.seconds for record in records if record.outcome == "ok")
    longest = [Outage(phase.started_at, phase.started_at) for phase in phases]
    for started_at, ended_at in pairwise([phases[0].started_at, *answers, phases[-1].ended_at]):
        outage = Outage(started_at, ended_at)
        overlaps = [min(ended_at, phase.ended_at) - max(started_at, phase.started_at) for phase in phases]
        number = overlaps.index(max(overlaps))
        longest[number] = max(longest[number], outage, key=lambda each: each.seconds)
    return longest
