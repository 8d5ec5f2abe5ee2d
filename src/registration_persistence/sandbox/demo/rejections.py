"""`Rejections`: the file with the rows that could not be registered."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from registration_persistence.errors import UnreadableFile
from registration_persistence.sandbox.demo.signups import HEADER, Row

if TYPE_CHECKING:
    import _csv


class Rejections:
    """Writes rejected rows, each with its line and the reason."""

    def __init__(self, lines: "_csv.Writer") -> None:
        self._lines = lines

    def add(self, row: Row, reason: str) -> None:
        """Write one row, with the line on which it begins and the reason."""
        self._lines.writerow([row.line, reason, *row.values])


@contextmanager
def open_rejections(file: Path, *, signups: Path) -> Iterator[Rejections]:
    """Open *file* for the rejected rows of *signups*.

    Raises:
        UnreadableFile: *file* is *signups* itself, or cannot be written.
    """
    if file.exists() and file.samefile(signups):
        raise UnreadableFile(f"{file} is the file with the sign-ups: name another one for the rejected rows")
    try:
        handle = file.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise UnreadableFile(f"cannot write {file}: {error.strerror}") from error
    with handle:
        lines = csv.writer(handle)
        lines.writerow(["line", "reason", *HEADER])
        yield Rejections(lines)
