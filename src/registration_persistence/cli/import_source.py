"""The file of an import: opens it, limits its rows, and explains why it cannot be text in UTF-8."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path

from registration_persistence.errors import UnreadableFile

MAX_ROW_LENGTH = 1_000_000
"""In characters of CSV or bytes of JSON; a longer row means another format, or a missing quote."""

_EXPECTED = "expected CSV or JSON Lines in UTF-8"

_EXPORT = "export the people as CSV"
_CONVERT = "convert it with iconv -f UTF-16 -t UTF-8"

# The first bytes of files that spreadsheets and databases export, with their meaning and the fix.
_SIGNATURES = {
    b"\x1f\x8b": ("compressed with gzip", "unpack it with gunzip"),
    b"BZh": ("compressed with bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("compressed with xz", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it with unzstd"),
    b"PK\x03\x04": ("a ZIP archive, as XLSX and ODS files are", _EXPORT),
    b"\xd0\xcf\x11\xe0": ("an old Office document, as XLS files are", _EXPORT),
    b"\xff\xfe": ("UTF-16 or UTF-32", _CONVERT),
    b"\xfe\xff": ("UTF-16", _CONVERT),
    b"%PDF": ("a PDF document", _EXPORT),
    b"SQLite format 3": ("an SQLite database", _EXPORT),
    b"PAR1": ("a Parquet file", _EXPORT),
}

# The first two characters in UTF-16 without a byte order mark contain NUL; text in UTF-8 does not.
_TESTED_BYTES = 4


@contextmanager
def open_source(file: Path) -> Iterator[BufferedReader]:
    """Open *file*, which may be a pipe, without reading anything of it.

    Raises:
        UnreadableFile: The file cannot be opened, or its first bytes show that it is not text in UTF-8.
    """
    try:
        source = file.open("rb")
    except OSError as error:
        raise UnreadableFile(f"cannot read {file}: {error.strerror}") from error
    with source:
        try:
            first_bytes = source.peek()
        except OSError as error:
            raise UnreadableFile(f"cannot read {file}: {error.strerror}") from error
        _check_first_bytes(file, first_bytes)
        yield source


def size(source: BufferedReader) -> int | None:
    """Return the number of bytes of a file; `None` for a pipe or a device."""
    return os.fstat(source.fileno()).st_size or None if source.seekable() else None


def _check_first_bytes(file: Path, first_bytes: bytes) -> None:
    for signature, (found, fix) in _SIGNATURES.items():
        if first_bytes.startswith(signature):
            raise UnreadableFile(f"{file} is {found}: {_EXPECTED}; {fix}")
    if b"\0" in first_bytes[:_TESTED_BYTES]:
        raise UnreadableFile(f"{file} is UTF-16, UTF-32 or not text: {_EXPECTED}; {_CONVERT}")


class BoundedRows(Iterator[str]):
    """The lines of a CSV file, of which a row may have several, up to a limit for the row.

    Args:
        text: The open file.

    Attributes:
        length: The number of characters of the row so far; the reader of the rows sets it to 0 after each row.
    """

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self.length: int = 0

    def __next__(self) -> str:
        line = self._text.readline(MAX_ROW_LENGTH + 1 - self.length)
        if not line:
            raise StopIteration
        self.length += len(line)
        if self.length > MAX_ROW_LENGTH:
            raise csv.Error(f"the row is longer than {MAX_ROW_LENGTH} characters: a quote may be missing")
        return line
