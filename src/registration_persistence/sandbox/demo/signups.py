"""`read_signups`: the sign-ups of a CSV file, each row parsed once."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path

from registration_persistence.domain.records import Consent
from registration_persistence.errors import UnreadableFile

HEADER = ("email", "display_name", "locale", "source", "terms_version", "newsletter")

_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
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


def read_signups(file: Path) -> Sequence[Signup | RejectedRow]:
    """Return the rows of *file*, a CSV file in UTF-8 whose first line is `HEADER`.

    Raises:
        UnreadableFile: The file is missing, is not UTF-8, is not CSV, or has another header.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"cannot read {file}: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"{file}, line {line}: not UTF-8: save the file as UTF-8") from None
    return [_parse(row) for row in _rows(file, text)]


def _rows(file: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for values in reader:
            if line == 1:
                _check_header(file, values)
            elif values:
                yield Row(line, tuple(values))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFile(f"{file}, line {line}: not CSV: {error}") from error
    if line == 1:
        _check_header(file, [])


def _check_header(file: Path, values: list[str]) -> None:
    if tuple(value.strip() for value in values) != HEADER:
        raise UnreadableFile(f"{file}, line 1: not the header that is expected: {','.join(HEADER)}")


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
