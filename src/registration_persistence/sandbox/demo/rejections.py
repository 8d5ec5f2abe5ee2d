"""`Rejections`: the file with the rows that could not be registered."""

import csv
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path

from registration_persistence import private_file
from registration_persistence.errors import UnreadableFile
from registration_persistence.sandbox.demo.signups import HEADER, REJECTION_COLUMNS, Row
from registration_persistence.spreadsheet_cell import escaped


class Rejections:
    """Writes rejected rows, each with its line and the reason; the file has a header as soon as it has a row.

    Cells that a spreadsheet would run as formulas are escaped.

    Args:
        file: The name of the file.
        descriptor: The descriptor of the open and empty file.
    """

    def __init__(self, file: Path, descriptor: int) -> None:
        self.is_empty: bool = True
        self._file, self._descriptor = file, descriptor

    def add(self, row: Row, reason: str) -> None:
        """Write one row, with the line on which it begins and the reason.

        Raises:
            UnreadableFile: The file cannot be written; it has the rows before this one.
        """
        header = [[*REJECTION_COLUMNS, *HEADER]] if self.is_empty else []
        text = StringIO(newline="")
        csv.writer(text).writerows([*header, [row.line, *map(escaped, (reason, *row.values))]])
        with _clear_write_error(self._file):
            private_file.append(self._descriptor, text.getvalue())
        self.is_empty = False


@contextmanager
def open_rejections(file: Path, *, signups: Path) -> Iterator[Rejections]:
    """Open *file* for the rejected rows of *signups*; a file without rows is removed at the end of the block.

    The rows contain mailboxes, so only this user can read the file, which replaces an earlier one.

    Raises:
        UnreadableFile: *file* is *signups* itself or has other content, or cannot be written.
    """
    if file.exists() and file.samefile(signups):
        raise UnreadableFile(f"{file} is the file with the sign-ups: name another one for the rejected rows")
    with _clear_write_error(file):
        private_file.check_start(file, ",".join(REJECTION_COLUMNS))
        descriptor = private_file.replace(file)
    rejections = Rejections(file, descriptor)
    try:
        yield rejections
    finally:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode) and private_file.is_at(file, descriptor)
        with suppress(OSError):  # reported by the write
            os.close(descriptor)
        if rejections.is_empty and is_file:
            with suppress(OSError):
                file.unlink()


@contextmanager
def _clear_write_error(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile(f"cannot write {file}: {error.strerror}") from error
