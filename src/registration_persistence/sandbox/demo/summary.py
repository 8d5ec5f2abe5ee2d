"""`print_summary`: the table at the end of the demo."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from registration_persistence.quantities import counted

_MAX_REASONS_SHOWN = 12

Line = tuple[str, str, int | str]


@dataclass(slots=True)
class Tally:
    """The outcomes of one run.

    Attributes:
        rows: The number of rows of the file.
        counts: The number of people for each outcome.
        rejected: The number of rejected rows for each reason.
        failed: The number of sign-ups that failed although nothing was wrong with them, for each class of error.
        secret_reads: The number of calls to Secrets Manager for each operation.
        logins_rejected: The number of logins that the server refused.
        seconds: The time that the sign-ups took.
    """

    rows: int
    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    secret_reads: Counter[str] = field(default_factory=Counter)
    logins_rejected: int = 0
    seconds: float = 0.0

    def as_json(self, rejected: Path) -> dict[str, Any]:
        """Return the outcomes as a JSON object; *rejected* is the file with the rows that were not registered."""
        return {
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "counts": dict(self.counts),
            "rejected": dict(self.rejected),
            "failed": dict(self.failed),
            "report": str(rejected) if self.rejected or self.failed else None,
        }


def print_summary(console: Console, tally: Tally, rejected: Path) -> None:
    """Print the outcomes as a table; *rejected* is the file with the rows that were not registered."""
    table = Table("outcome", "meaning", Column("number", justify="right"), box=SIMPLE_HEAD)
    for section in _sections(tally):
        for line in section:
            table.add_row(*map(str, line))
        table.add_section()
    console.print(f"{counted(tally.rows, 'sign-up')} in {tally.seconds:.1f} s", table)
    if written := tally.rejected.total() + tally.failed.total():
        rows = "1 row, with line and reason, is" if written == 1 else f"{written} rows, with line and reason, are"
        console.print(f"{rows} in {rejected}", soft_wrap=True)


def _sections(tally: Tally) -> tuple[list[Line], ...]:
    counts, calls = tally.counts, tally.secret_reads
    return (
        [
            ("registered", "new registrations, one statement each", counts["registered"]),
            ("replayed", "the same form was sent again: nothing changed", counts["replayed"]),
            ("verified", "the mailbox was verified by the link or by a code", counts["verified"]),
            ("mailbox taken", "another registration had verified the mailbox", counts["mailbox taken"]),
            ("activated", "the registration became active", counts["activated"]),
            ("erased", "the person left, and no personal data is stored any more", counts["erased"]),
        ],
        [
            ("resend throttled", "another mail was asked for within a minute", counts["resend throttled"]),
            ("wrong code", "a wrong code was counted, then the right one was accepted", counts["wrong code"]),
            ("delivered", "messages of the outbox were delivered and removed", counts["delivered"]),
        ],
        [("rejected", reason, number) for reason, number in tally.rejected.most_common(_MAX_REASONS_SHOWN)],
        [
            ("password changed", "the password and its secret changed halfway", counts["password changed"]),
            ("login rejected", "logins were repeated with the new password", tally.logins_rejected),
            ("Secrets Manager", "calls: " + ", ".join(sorted(calls)), calls.total()),
            ("failed", ", ".join(tally.failed) or "no sign-up failed", tally.failed.total()),
            ("throughput", "sign-ups per second", f"{tally.rows / max(tally.seconds, 0.001):.0f}"),
        ],
    )
