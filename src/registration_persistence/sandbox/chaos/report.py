"""What `chaos` found: which sign-ups failed, and whether the database holds what the clients were told."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registration_persistence.sandbox.chaos.load import Record

_COLUMNS = ("requests", "failed", "retried", "slowest (s)", "lost", "doubled", "unacknowledged")


@dataclass(frozen=True, slots=True)
class Phase:
    """The time of one fault, on the clock of `time.time`.

    Args:
        fault: Its name.
        began: When it began.
        over: When it was over; the load recovers from it until `ended`.
        ended: When the next one began.
    """

    fault: str
    began: float
    over: float
    ended: float


@dataclass(slots=True)
class Failure:
    """An error of one kind that clients were answered with: how often, and what one of them said."""

    error: str
    count: int
    said: str


@dataclass(slots=True)
class Line:
    """What became of the requests that began while one fault, or its aftermath, was there.

    Args:
        fault: Its name, or `total`.
        requests: How many there were.
        failed: Those whose client was left with an error.
        retried: Those that took more than one attempt.
        slowest: The seconds of the slowest.
        lost: Those that were acknowledged and are not there.
        doubled: Those that are there more than once.
        unacknowledged: Those that are there although their error said that nothing was kept.
        failures: The errors, by kind.
    """

    fault: str
    requests: int = 0
    failed: int = 0
    retried: int = 0
    slowest: float = 0.0
    lost: int = 0
    doubled: int = 0
    unacknowledged: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)

    def add(self, record: Record, held: Sequence[int]) -> None:
        """Count a request of which each table holds so many rows."""
        self.requests += 1
        self.failed += record.outcome != "ok"
        self.retried += record.attempts > 1
        self.slowest = max(self.slowest, record.seconds)
        self.lost += record.outcome == "ok" and min(held) == 0
        self.doubled += max(held) > 1
        self.unacknowledged += record.outcome == "failed" and max(held) > 0
        if record.outcome != "ok":
            self.failures.setdefault(record.error, Failure(record.error, 0, record.said)).count += 1

    @property
    def wrong(self) -> int:
        """How many are not as their client was told."""
        return self.lost + self.doubled + self.unacknowledged

    @property
    def numbers(self) -> dict[str, int | float]:
        """The columns of the table, by name."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "retried": self.retried,
            "slowest": round(self.slowest, 3),
            "lost": self.lost,
            "doubled": self.doubled,
            "unacknowledged": self.unacknowledged,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A run and what it came to.

    Args:
        lines: One for each fault.
        total: Their sum.
        left_out: Why a fault did not happen, by name.
        seconds: How long the run was meant to be.
        processes: How many there were.
        seed: With which it was left to chance what was.
    """

    lines: Sequence[Line]
    total: Line
    left_out: Mapping[str, str]
    seconds: float
    processes: int
    seed: int

    @property
    def sound(self) -> bool:
        """Whether faults happened, sign-ups were acknowledged, and the database holds what clients were told."""
        total = self.total
        return total.requests > total.failed and not total.wrong and len(self.lines) > 1

    @property
    def verdict(self) -> str:
        """One sentence."""
        total = self.total
        acknowledged = total.requests - total.failed
        if total.wrong:
            return (
                f"{total.lost:,} of {acknowledged:,} acknowledged sign-ups were lost, {total.doubled:,} are there more "
                f"than once, {total.unacknowledged:,} were kept although an error denied it (seed {self.seed})."
            )
        if not acknowledged:
            return "Not one sign-up was acknowledged, so this shows nothing."
        if not self.lines[1:]:
            return "Not one fault happened, so this shows nothing."
        return (
            f"Nothing was lost or doubled: {acknowledged:,} sign-ups were acknowledged and are there once, "
            f"{total.failed:,} failed."
        )

    def text(self) -> str:
        """Return the table, the errors, and the verdict."""
        width = max(len(name) for name in ("fault", *self.left_out, *(line.fault for line in self.lines)))
        rows = [f"{'fault':{width}}" + "".join(f"  {column:>{max(8, len(column))}}" for column in _COLUMNS)]
        rows += [_row(line, width) for line in self.lines]
        rows += [f"{name:{width}}  left out: {reason}" for name, reason in self.left_out.items()]
        rows += ["-" * len(rows[0]), _row(self.total, width), ""]
        for line in self.lines:
            rows += [f"{line.fault}: {each.count} x {each.error}: {each.said}" for each in line.failures.values()]
        rows += [""] * bool(self.total.failures)
        return "\n".join([*rows, self.verdict])

    def as_json(self) -> dict[str, Any]:
        """Return the same for machines."""
        return {
            "seconds": self.seconds,
            "processes": self.processes,
            "seed": self.seed,
            "sound": self.sound,
            "faults": [_as_json(line) for line in self.lines],
            "total": _as_json(self.total),
            "left_out": [{"fault": name, "reason": reason} for name, reason in self.left_out.items()],
        }


def evaluate(records: Iterable[Record], tables: Sequence[Mapping[str, int]], phases: Sequence[Phase]) -> list[Line]:
    """Compare what clients were told with what is there, and return a line for each of *phases*, then the total.

    Args:
        records: What the clients were told.
        tables: How many rows each table holds, by key.
        phases: In the order in which they were; a request belongs to the one in which it began.
    """
    lines, total = [Line(phase.fault) for phase in phases], Line("total")
    starts = [phase.began for phase in phases]
    for record in records:
        held = [rows.get(record.key, 0) for rows in tables]
        for line in (lines[max(0, bisect_right(starts, record.began) - 1)], total):
            line.add(record, held)
    return [*lines, total]


def _row(line: Line, width: int) -> str:
    shown = [f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in line.numbers.values()]
    cells = zip(_COLUMNS, shown, strict=True)
    return f"{line.fault:{width}}" + "".join(f"  {cell:>{max(8, len(column))}}" for column, cell in cells)


def _as_json(line: Line) -> dict[str, Any]:
    failures = [{"error": each.error, "count": each.count, "said": each.said} for each in line.failures.values()]
    return {"fault": line.fault, **line.numbers, "errors": failures}
