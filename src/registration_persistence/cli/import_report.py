"""The results of an import: counts for the summary, and a file with the rows that were not stored."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from registration_persistence.cli.console import counted
from registration_persistence.errors import UnreadableFile

AddRow: TypeAlias = Callable[[int, str], None]
"""Adds the line and the reason of a row that was not stored."""

_MAX_REASONS_SHOWN = 12


@dataclass(slots=True)
class Counts:
    """The number of rows by result.

    Args:
        inserted: Rows that were stored.
        duplicates: Rows whose mailbox or idempotency key exists already.
        rejected: Rows that cannot be stored, by reason.
    """

    inserted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def print_summary(counts: Counts, seconds: float, report: Path, *, dry_run: bool) -> None:
    """Print the number of rows by result, and the most frequent reasons for rejection."""
    rejected = counts.rejected.total()
    total = counts.inserted + counts.duplicates + rejected
    print(
        f"{counted(total, 'row')} in {seconds:.1f} s" + (", none of them kept: this was a dry run" if dry_run else "")
    )
    print(f"{counts.inserted:>10,}  imported")
    print(f"{counts.duplicates:>10,}  duplicates: the mailbox is verified already, or the row was imported before")
    print(f"{rejected:>10,}  rejected")
    for reason, number in counts.rejected.most_common(_MAX_REASONS_SHOWN):
        print(f"{number:>14,}  {reason}")
    if rejected or counts.duplicates:
        print(f"line and reason of each row that was not stored are in {report}")


@contextmanager
def open_report(file: Path) -> Iterator[AddRow]:
    """Write a CSV file with the line and the reason of each row that was not stored.

    Raises:
        UnreadableFile: The file cannot be written.
    """
    with _clear_write_error(file):
        handle = file.open("w", encoding="utf-8", newline="")
    writer = csv.writer(handle)

    def add(line: int | str, reason: str) -> None:
        with _clear_write_error(file):
            writer.writerow([line, reason])

    try:
        add("line", "reason")
        yield add
    finally:
        with _clear_write_error(file):
            handle.close()


@contextmanager
def _clear_write_error(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile(f"cannot write {file}: {error.strerror}") from error
