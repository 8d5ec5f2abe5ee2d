"""`open_signups`: the sign-ups of a CSV file, which is read row by row, in constant memory."""

import csv
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from registration_persistence.domain.records import Consent
from registration_persistence.errors import UnreadableFile
from registration_persistence.spreadsheet_cell import unescaped

HEADER = ("email", "display_name", "locale", "source", "terms_version", "newsletter")

REJECTION_COLUMNS = ("line", "reason")
"""The columns that a file of rejected rows has before those of `HEADER`."""

_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_MAX_ROW_CHARACTERS = 1_000_000
_YES_OR_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file as it was written.

    Args:
        line: The line on which the row begins; the header is line 1.
        values: The fields.
    """

    line: int
    values: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signup:
    """A row that describes a sign-up.

    Args:
        row: The row itself.
        email: The address as the person typed it.
        profile: The display name and the locale.
        consents: The decisions about the terms and the newsletter.
        idempotency_key: The same for two equal rows, as if a form was sent twice.
    """

    row: Row
    email: str = field(repr=False)
    profile: dict[str, str] = field(repr=False)
    consents: tuple[Consent, ...]
    idempotency_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that does not describe a sign-up.

    Args:
        row: The row itself.
        reason: The problem; it does not quote the row.
    """

    row: Row
    reason: str


class SignupFile:
    """An open file, which has been checked to its end.

    Attributes:
        number_of_rows: The number of rows without the header.
    """

    def __init__(self, file: Path, source: BinaryIO) -> None:
        self._file, self._source = file, source
        self.number_of_rows: int = sum(1 for _ in self._rows())

    def __iter__(self) -> Iterator[Signup | RejectedRow]:
        """Yield the rows in their order."""
        return map(_parse, self._rows())

    def _rows(self) -> Iterator[Row]:
        self._source.seek(0)
        text = TextIOWrapper(self._source, "utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield from _rows(self._file, _BoundedLines(self._file, text))
        finally:
            if not self._source.closed:  # as it is if an error ended the reading
                text.detach()  # otherwise it closes the file, too


class _BoundedLines:
    """The lines of a text, whose rows are not arbitrarily long.

    Attributes:
        length: The number of characters of the current row, which the reader of the rows resets.
    """

    def __init__(self, file: Path, text: TextIOWrapper) -> None:
        self._file, self._text, self._number = file, text, 0
        self.length = 0

    def __iter__(self) -> "_BoundedLines":
        return self

    def __next__(self) -> str:
        try:
            line = self._text.readline(_MAX_ROW_CHARACTERS + 1)
        except OSError as error:
            raise UnreadableFile(f"cannot read {self._file}: {error.strerror}") from error
        if not line:
            raise StopIteration
        self._number += 1
        self.length += len(line)
        if self.length > _MAX_ROW_CHARACTERS:
            raise csv.Error(f"the row is longer than {_MAX_ROW_CHARACTERS} characters")
        try:
            line.encode()
        except UnicodeEncodeError:
            raise UnreadableFile(f"{self._file}, line {self._number}: not UTF-8: save the file as UTF-8") from None
        return line


@contextmanager
def open_signups(file: Path) -> Iterator[SignupFile]:
    """Open *file*, a CSV file in UTF-8 whose first line is `HEADER`; a pipe is copied first.

    A file of rejected rows, which has been corrected, can be opened too; its lines and reasons are ignored.

    Raises:
        UnreadableFile: The file is missing, is not UTF-8, is not CSV, or has another header.
    """
    with ExitStack() as stack:
        try:
            source: BinaryIO = stack.enter_context(file.open("rb"))
            if not source.seekable():
                copy = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(source, copy)
                source = copy
        except OSError as error:
            raise UnreadableFile(f"cannot read {file}: {error.strerror}") from error
        yield SignupFile(file, source)


def _rows(file: Path, lines: _BoundedLines) -> Iterator[Row]:
    reader = csv.reader(lines, strict=True)
    line, is_of_rejections = 1, False
    try:
        for values in reader:
            lines.length = 0
            if line == 1:
                is_of_rejections = _is_of_rejections(file, values)
            elif values:
                yield Row(line, _original(values) if is_of_rejections else tuple(values))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFile(f"{file}, line {line}: not CSV: {error}") from error
    if line == 1:
        _is_of_rejections(file, [])


def _is_of_rejections(file: Path, header: list[str]) -> bool:
    """Return whether a header is that of rejected rows, whose cells are escaped.

    Raises:
        UnreadableFile: It is not that of sign-ups either.
    """
    names = tuple(name.strip() for name in header)
    if names not in (HEADER, REJECTION_COLUMNS + HEADER):
        raise UnreadableFile(f"{file}, line 1: not the header that is expected: {','.join(HEADER)}")
    return names != HEADER


def _original(values: list[str]) -> tuple[str, ...]:
    """Return the fields of a rejected row as they were, without its line and the reason."""
    return tuple(map(unescaped, values[len(REJECTION_COLUMNS) :]))


def _parse(row: Row) -> Signup | RejectedRow:
    if len(row.values) != len(HEADER):
        return RejectedRow(row, f"the row has {len(row.values)} fields: expected {len(HEADER)}")
    fields = dict(zip(HEADER, (value.strip() for value in row.values), strict=True))
    if not _LOCALE.fullmatch(fields["locale"]):
        return RejectedRow(row, "the locale is not a language tag, like en-GB")
    newsletter = _YES_OR_NO.get(fields["newsletter"].lower())
    if newsletter is None:
        return RejectedRow(row, "newsletter is neither yes nor no")
    return Signup(
        row=row,
        email=fields["email"],
        profile={"display_name": fields["display_name"], "locale": fields["locale"]},
        consents=(
            Consent("terms", fields["terms_version"], source=fields["source"]),
            Consent("newsletter", fields["terms_version"], granted=newsletter, source=fields["source"]),
        ),
        idempotency_key=sha256("\0".join(row.values).encode()).hexdigest(),
    )
