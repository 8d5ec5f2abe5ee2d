"""`import`: people who registered elsewhere, a thousand in one statement, with a bar, a report and a summary."""

import csv
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.orm import Session

from registration_persistence.cli.import_formats import FORMATS, Line, read_lines
from registration_persistence.database import session_scope
from registration_persistence.errors import UnreadableFile
from registration_persistence.repositories.bulk_import import bulk_import

_BATCH = 1000

_REASONS_SHOWN = 12


@dataclass(slots=True)
class _Tally:
    inserted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def run_import(
    file: Path, *, file_format: str | None, rejected: Path, dry_run: bool, announce: bool, ttl: timedelta
) -> int:
    """Import the people of *file*, print a summary, and return how many rows were rejected.

    Each thousand rows are kept by themselves, and the same file can be imported again: what is there is a duplicate.
    With *dry_run* everything is done in one transaction, which is rolled back.

    Args:
        file: CSV or JSON Lines, in UTF-8, of any length.
        file_format: `csv` or `jsonl`; by default what the name of the file says.
        rejected: Where line and reason of each row go that was not stored.
        dry_run: Whether to keep nothing.
        announce: Whether to put a message for each row into the outbox.
        ttl: How long pending and verified rows stay open.

    Raises:
        UnreadableFile: *file* cannot be read, or *rejected* not written.
        RegistrationPersistenceError: The database failed.
    """
    file_format = file_format or FORMATS.get(file.suffix.lower())
    if file_format is None:
        raise UnreadableFile(f"{file}: neither .csv nor .jsonl: say which with --format")
    started, tally = time.monotonic(), _Tally()
    with ExitStack() as stack:
        try:
            source = stack.enter_context(file.open("rb"))
        except OSError as error:
            raise UnreadableFile(f"cannot read {file}: {error.strerror}") from error
        if rejected.exists() and os.path.samestat(rejected.stat(), os.fstat(source.fileno())):
            raise UnreadableFile(f"{rejected} is the file to import: name another one for the rejected rows")
        chunks = _chunks(stack.enter_context(closing(read_lines(file, source, file_format))))
        first = next(chunks, [])  # a wrong header shows before the report is begun
        report = stack.enter_context(_report(rejected))
        # Called when the bar is gone, which takes the standard output over.
        stack.callback(lambda: _print_summary(tally, time.monotonic() - started, rejected, dry_run=dry_run))
        advance = stack.enter_context(_bar(os.fstat(source.fileno()).st_size if source.seekable() else None))
        whole = stack.enter_context(_rolled_back()) if dry_run else None
        for chunk in chain([first], chunks):
            _import(chunk, tally, whole, report, announce=announce, ttl=ttl)
            if source.seekable():  # a pipe does not know how far it is
                advance(source.tell())
    return tally.rejected.total()


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Return *lines*, many at once; where the file cannot be read any further, what came before is taken first."""
    problem = None
    while problem is None:
        chunk: list[Line] = []
        try:
            for line in islice(lines, _BATCH):
                chunk.append(line)  # noqa: PERF402 what came before an error is kept
        except UnreadableFile as error:
            problem = error
        if chunk:
            yield chunk
        elif problem is None:
            return
    raise problem


@contextmanager
def _rolled_back() -> Iterator[Session]:
    with session_scope() as session:
        try:
            yield session
        finally:
            session.rollback()


def _import(
    chunk: list[Line],
    tally: _Tally,
    whole: Session | None,
    report: Callable[[int, str], None],
    *,
    announce: bool,
    ttl: timedelta,
) -> None:
    rows = [(line.number, line.row) for line in chunk if line.row is not None]
    skipped: dict[int, str] = {line.number: line.problem for line in chunk if line.row is None}
    tally.rejected.update(skipped.values())
    with ExitStack() as stack:
        session = whole or stack.enter_context(session_scope(autocommit=True))
        done = bulk_import(
            session,
            (row for _, row in rows),
            announce=announce,
            ttl=ttl,
            on_skipped=lambda number, reason: skipped.__setitem__(rows[number - 1][0], reason),
            batch=_BATCH,
        )
    tally.inserted += done.inserted
    tally.duplicates += done.duplicates
    tally.rejected.update(done.reasons)
    for number in sorted(skipped):
        report(number, skipped[number])


@contextmanager
def _report(file: Path) -> Iterator[Callable[[int, str], None]]:
    """Open the report of the rows that were not stored; give the function that adds one."""
    with _writing(file):
        handle = file.open("w", encoding="utf-8", newline="")
    lines = csv.writer(handle)

    def add(number: int | str, reason: str) -> None:
        with _writing(file):
            lines.writerow([number, reason])

    try:
        add("line", "reason")
        yield add
    finally:
        with _writing(file):
            handle.close()


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile(f"cannot write {file}: {error.strerror}") from error


@contextmanager
def _bar(octets: int | None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("Importing"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=octets)
        yield lambda done: progress.update(task, completed=done)


def _print_summary(tally: _Tally, seconds: float, rejected: Path, *, dry_run: bool) -> None:
    total = tally.inserted + tally.duplicates + tally.rejected.total()
    print(f"{total:,} rows in {seconds:.1f} s" + (", none of them kept: this was a dry run" if dry_run else ""))
    print(f"{tally.inserted:>10,}  imported")
    print(f"{tally.duplicates:>10,}  duplicates: the mailbox is proven already, or the row was imported before")
    print(f"{tally.rejected.total():>10,}  rejected")
    for reason, number in tally.rejected.most_common(_REASONS_SHOWN):
        print(f"{number:>14,}  {reason}")
    if tally.rejected or tally.duplicates:
        print(f"line and reason of each row that was not stored are in {rejected}")
