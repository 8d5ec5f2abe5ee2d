"""`import_people`: store people who registered elsewhere, in batches, with a bar, a summary and a report."""

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path

from sqlalchemy.orm import Session

from registration_persistence.cli.console import ExitCode
from registration_persistence.cli.import_formats import FORMAT_OF_SUFFIX, ImportFormat, Line, read_lines
from registration_persistence.cli.import_report import Counts, Report, open_report, summary
from registration_persistence.cli.import_source import open_source, size
from registration_persistence.cli.progress import percentage_bar
from registration_persistence.database import get_db, session_scope
from registration_persistence.errors import UnreadableFile
from registration_persistence.repositories.bulk_import import bulk_import, count_reasons

_BATCH = 1000

# Long rows that cannot be stored, such as those with a large profile, make a batch smaller.
_MAX_BATCH_LENGTH = 1_000_000


def import_people(options: argparse.Namespace) -> int:
    """Import a file. Every batch is committed in its own transaction; rows of an earlier import are duplicates.

    Args:
        options: The options of `import`.

    Returns:
        The exit code.

    Raises:
        UnreadableFile: The file or the report cannot be used.
    """
    file, counts = options.file, Counts()
    with ExitStack() as stack:
        source = stack.enter_context(open_source(file))
        lines = read_lines(file, source, options.format or _format_of(file))
        batches = _batches(stack.enter_context(closing(lines)))
        first = next(batches, [])  # a wrong header is an error before the report is overwritten
        get_db()  # and so is a wrong environment
        report = stack.enter_context(open_report(file, source.fileno(), options.rejected))
        # Printed after the bar has ended, because the bar redirects standard output.
        stack.enter_context(summary(options, counts, report))
        show = stack.enter_context(percentage_bar("Importing", size(source), hidden=options.json))
        session = stack.enter_context(_rolled_back_session()) if options.dry_run else None
        importer = _Importer(counts, report, session, options.announce, timedelta(options.open_days))
        for batch in chain([first], batches):
            importer.store(batch)
            if source.seekable():  # a pipe has no position
                show(source.tell())
    return ExitCode.FAILED if counts.rejected else ExitCode.DONE


def _format_of(file: Path) -> ImportFormat:
    try:
        return FORMAT_OF_SUFFIX[file.suffix.lower()]
    except KeyError:
        raise UnreadableFile(f"{file}: neither .csv nor .jsonl: name the format with --format") from None


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Group *lines*. If the file becomes unreadable, yield the lines before that first, then raise the error."""
    problem = None
    while problem is None:
        batch: list[Line] = []
        length = 0
        try:
            for line in islice(lines, _BATCH):
                batch.append(line)
                length += line.length
                if length >= _MAX_BATCH_LENGTH:
                    break
        except UnreadableFile as error:
            problem = error
        if batch:
            yield batch
        elif problem is None:
            return
    raise problem


@contextmanager
def _rolled_back_session() -> Iterator[Session]:
    with session_scope() as session:
        try:
            yield session
        finally:
            session.rollback()


@dataclass(frozen=True, slots=True)
class _Importer:
    """Stores batches of rows.

    Args:
        counts: Updated with the results.
        report: The file for the rows that were not stored.
        session: The session of a dry run; by default each batch has its own.
        announce: Whether each row puts a message into the outbox.
        ttl: The time until pending and verified rows expire.
    """

    counts: Counts
    report: Report
    session: Session | None
    announce: bool
    ttl: timedelta

    def store(self, batch: list[Line]) -> None:
        """Store the readable lines of *batch*, and report the others together with the rows that were not stored."""
        rows = [(line.number, line.row) for line in batch if line.row is not None]
        skipped = {line.number: line.problem for line in batch if line.row is None}
        unreadable = list(skipped.values())
        with ExitStack() as stack:
            done = bulk_import(
                self.session or stack.enter_context(session_scope(autocommit=True)),
                (row for _, row in rows),
                announce=self.announce,
                ttl=self.ttl,
                on_skipped=lambda number, reason: skipped.__setitem__(rows[number - 1][0], reason),
                batch=_BATCH,
            )
        self.counts.inserted += done.inserted
        self.counts.duplicates += done.duplicates
        count_reasons(self.counts.rejected, done.reasons)
        count_reasons(self.counts.rejected, Counter(unreadable))
        self.counts.last_line = batch[-1].number if batch else 0
        for line_number in sorted(skipped):
            self.report.add(line_number, skipped[line_number])
