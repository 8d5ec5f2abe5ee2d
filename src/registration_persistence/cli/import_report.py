"""The results of an import: counts for the summary, and a file with the rows that were not stored."""

import argparse
import csv
import itertools
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from registration_persistence import private_file
from registration_persistence.cli import console
from registration_persistence.errors import UnreadableFile
from registration_persistence.quantities import counted
from registration_persistence.spreadsheet_cell import escaped

_MAX_REASONS_SHOWN = 12
_COLUMNS = ("line", "reason")


@dataclass(slots=True)
class Counts:
    """The number of rows by result.

    Args:
        inserted: Rows that were stored.
        duplicates: Rows whose mailbox or idempotency key exists already.
        rejected: Rows that cannot be stored, by reason.
        last_line: The line of the last row that has a result; 0 before the first batch.
    """

    inserted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    last_line: int = 0


class Report:
    """The file with the line and the reason of each row that was not stored; it has a header as soon as it has a row.

    Args:
        file: The name of the file.
        descriptor: The descriptor of the open and empty file.
    """

    def __init__(self, file: Path, descriptor: int) -> None:
        self.file = file
        self.is_empty: bool = True
        self._descriptor = descriptor

    def add(self, line: int, reason: str) -> None:
        """Write the line and the reason of a row.

        Raises:
            UnreadableFile: The file cannot be written; it has the rows before this one.
        """
        text = StringIO(newline="")
        csv.writer(text).writerows([*([_COLUMNS] if self.is_empty else []), (line, escaped(reason))])
        with _clear_write_error(self.file):
            private_file.append(self._descriptor, text.getvalue())
        self.is_empty = False


@contextmanager
def open_report(people: Path, source: int, chosen: Path | None) -> Iterator[Report]:
    """Open the report, which only this user can read; a report without rows is removed at the end of the block.

    Args:
        people: The file that is imported; a report is named after it unless one is chosen.
        source: The descriptor of that file, which the report must not overwrite.
        chosen: The name of the report, which replaces an earlier one. By default it is `NAME.rejected.csv`, or
            `NAME.rejected-2.csv` and so on, so that no earlier or simultaneous import loses its report.

    Raises:
        UnreadableFile: The file cannot be written, is no report, or another import is writing it.
    """
    if chosen is None:
        file, descriptor = _create_unused(people.stem)
    else:
        file, descriptor = chosen, _overwrite(chosen, source)
    report = Report(file, descriptor)
    try:
        yield report
    finally:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode) and private_file.is_at(file, descriptor)
        with _clear_write_error(file):
            os.close(descriptor)
        if report.is_empty and is_file:
            with suppress(OSError):
                file.unlink()


@contextmanager
def summary(options: argparse.Namespace, counts: Counts, report: Report) -> Iterator[None]:
    """Print the number of rows by result when the block ends, and whether it ended before the end of the file."""
    started, finished = time.monotonic(), False
    try:
        yield
        finished = True
    finally:
        seconds = time.monotonic() - started
        stopped = [] if finished else _stopped_lines(options.file, counts, dry_run=options.dry_run)
        lines = [*stopped, *_count_lines(counts, seconds, report, dry_run=options.dry_run)]
        data = {
            "imported": counts.inserted,
            "duplicates": counts.duplicates,
            "rejected": counts.rejected.total(),
            "reasons": dict(counts.rejected.most_common()),
            "seconds": round(seconds, 3),
            "dry_run": options.dry_run,
            "finished": finished,
            "last_line": counts.last_line,
            "report": None if report.is_empty else str(report.file),
        }
        console.report(options, "\n".join(lines), data)


def _stopped_lines(people: Path, counts: Counts, *, dry_run: bool) -> list[str]:
    at = f"after line {counts.last_line}" if counts.last_line else "at the beginning"
    if dry_run:
        return [f"the dry run stopped {at} of {people}; nothing is stored"]
    return [
        f"the import stopped {at} of {people}; some rows after that may be stored, too",
        "to continue, import the same file again: the rows that are stored count as duplicates",
    ]


def _count_lines(counts: Counts, seconds: float, report: Report, *, dry_run: bool) -> Iterator[str]:
    rejected = counts.rejected.total()
    total = counts.inserted + counts.duplicates + rejected
    duplicates = "duplicate" if counts.duplicates == 1 else "duplicates"
    yield f"{counted(total, 'row')} in {seconds:.1f} s" + (", none of them kept: this was a dry run" if dry_run else "")
    yield f"{counts.inserted:>10,}  imported"
    yield f"{counts.duplicates:>10,}  {duplicates}: the mailbox is verified already, or the row was imported before"
    yield f"{rejected:>10,}  rejected"
    for reason, number in counts.rejected.most_common(_MAX_REASONS_SHOWN):
        yield f"{number:>14,}  {reason}"
    if not report.is_empty:
        yield f"line and reason of each row that was not stored are in {report.file}"


def _create_unused(stem: str) -> tuple[Path, int]:
    """Create the first file of the default names that does not exist."""
    for number in itertools.count(1):
        file = Path(f"{stem}.rejected.csv" if number == 1 else f"{stem}.rejected-{number}.csv")
        with suppress(FileExistsError), _clear_write_error(file):
            return file, private_file.create(file)
    raise AssertionError("the loop has no end")


def _overwrite(file: Path, source: int) -> int:
    """Replace *file*, an earlier report, by an empty one, unless another import is writing it."""
    with _clear_write_error(file):
        if file.exists() and os.path.samestat(file.stat(), os.fstat(source)):
            raise UnreadableFile(f"{file} is the file to import: name another one for the rejected rows")
        private_file.check_start(file, ",".join(_COLUMNS))
        try:
            return private_file.replace(file)
        except (private_file.FileInUse, FileExistsError) as error:
            raise UnreadableFile(
                f"{file} is in use by another import: name another one for the rejected rows"
            ) from error


@contextmanager
def _clear_write_error(file: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise UnreadableFile(f"cannot write {file}: {error.strerror}") from error
