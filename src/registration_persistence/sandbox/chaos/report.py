"""The report of `chaos`: the failed sign-ups, and whether the database holds what the clients were told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from registration_persistence.quantities import counted
from registration_persistence.sandbox.chaos.evaluation import Line, Phase

_COLUMNS = (
    "requests",
    "failed",
    "retried",
    "slowest (s)",
    "longest outage (s)",
    "lost",
    "duplicated",
    "kept despite error",
)

_MIN_COLUMN_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run.

    Args:
        lines: One line for each fault; the first one is the time without a fault.
        total: The sum of the lines.
        phases: The periods of the lines, in the same order.
        skipped: Why a fault was skipped, by its name.
        seconds: Planned duration of the run in seconds.
        processes: The number of load processes.
        seed: Seed of the random number generators.
    """

    lines: Sequence[Line]
    total: Line
    phases: Sequence[Phase]
    skipped: Mapping[str, str]
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
        """The result in one sentence."""
        total = self.total
        acknowledged = total.requests - total.failed
        if total.wrong:
            return (
                f"Of {counted(acknowledged, 'acknowledged sign-up')}, {total.lost:,} lost; {total.duplicated:,} "
                f"stored more than once; {total.kept_despite_error:,} kept although an error denied it "
                f"(seed {self.seed})."
            )
        if not acknowledged:
            return "No sign-up was acknowledged, so this run proves nothing."
        if not self.lines[1:]:
            return "No fault happened, so this run proves nothing."
        stored = "was acknowledged and is stored once" if acknowledged == 1 else "were acknowledged and are stored once"
        return f"Nothing was lost or duplicated: {counted(acknowledged, 'sign-up')} {stored}, {total.failed:,} failed."

    def text(self) -> str:
        """Return the table, the errors, and the verdict."""
        width = max(len(name) for name in ("fault", *self.skipped, *(line.fault for line in self.lines)))
        table = [f"{'fault':{width}}" + "".join(f"  {column:>{_width(column)}}" for column in _COLUMNS)]
        table += [_row(line, width) for line in self.lines]
        table += [f"{name:{width}}  skipped: {reason}" for name, reason in self.skipped.items()]
        table += ["-" * len(table[0]), _row(self.total, width), ""]
        errors = [
            f"{line.fault}: {each.count} x {each.error}: {each.message}"
            for line in self.lines
            for each in line.failures.values()
        ]
        if errors:
            errors.append("")
        return "\n".join([*table, *errors, self.verdict])

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON object; its moments are in seconds since the start of the run."""
        started_at = self.phases[0].started_at
        return {
            "started_at": datetime.fromtimestamp(started_at, UTC).isoformat(timespec="milliseconds"),
            "seconds": self.seconds,
            "processes": self.processes,
            "seed": self.seed,
            "sound": self.sound,
            "verdict": self.verdict,
            "faults": [
                line.as_json()
                | {
                    "started_at": round(phase.started_at - started_at, 3),
                    "fault_ended_at": round(phase.fault_ended_at - started_at, 3),
                    "ended_at": round(phase.ended_at - started_at, 3),
                    "longest_outage_started_at": round(line.outage.started_at - started_at, 3),
                }
                for line, phase in zip(self.lines, self.phases, strict=True)
            ],
            "total": self.total.as_json(),
            "skipped": [{"fault": name, "reason": reason} for name, reason in self.skipped.items()],
        }


def _row(line: Line, width: int) -> str:
    numbers = [f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in line.numbers.values()]
    cells = zip(_COLUMNS, numbers, strict=True)
    return f"{line.fault:{width}}" + "".join(f"  {cell:>{_width(column)}}" for column, cell in cells)


def _width(column: str) -> int:
    return max(_MIN_COLUMN_WIDTH, len(column))
