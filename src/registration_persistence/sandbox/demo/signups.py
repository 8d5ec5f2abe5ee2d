"""Reading the people of a CSV file; what cannot be read is an error, what cannot be registered is a rejected row."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path

from registration_persistence.domain.records import Consent
from registration_persistence.errors import InvalidInput, UnreadableFile

HEADER = ("email", "display_name", "locale", "source", "terms_version", "newsletter")

_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")

_YES_OR_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class SignupRow:
    """One row of the file.

    Args:
        line: Where the row begins; the header is line 1.
        values: The fields as they were written.
    """

    line: int
    values: tuple[str, ...] = field(repr=False)

    def signup(self) -> "Signup":
        """Return what the row says.

        Raises:
            InvalidInput: The row has not the fields of the header, or a field is not of its form.
        """
        if len(self.values) != len(HEADER):
            raise InvalidInput(f"the row has {len(self.values)} fields: expected {len(HEADER)}")
        row = dict(zip(HEADER, (value.strip() for value in self.values), strict=True))
        if not _LOCALE.fullmatch(row["locale"]):
            raise InvalidInput("the locale is not a language tag, like en-GB")
        newsletter = _YES_OR_NO.get(row["newsletter"].lower())
        if newsletter is None:
            raise InvalidInput("newsletter is neither yes nor no")
        return Signup(
            email=row["email"],
            profile={"display_name": row["display_name"], "locale": row["locale"]},
            consents=(
                Consent("terms", row["terms_version"], source=row["source"]),
                Consent("newsletter", row["terms_version"], granted=newsletter, source=row["source"]),
            ),
            idempotency_key=sha256("\0".join(self.values).encode()).hexdigest(),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Signup:
    """What one person sent; the same row sent twice has the same idempotency key, as with a form that is sent twice."""

    email: str
    profile: dict[str, str]
    consents: tuple[Consent, ...]
    idempotency_key: str


def read_signups(file: Path) -> list[SignupRow]:
    """Return the rows of a CSV file in UTF-8 whose first line is `HEADER`.

    Raises:
        UnreadableFile: It is missing, not UTF-8, not CSV, or has another header.
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
    return list(_rows(file, text))


def _rows(file: Path, text: str) -> Iterator[SignupRow]:
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for values in reader:
            if line == 1:
                _check_header(file, values)
            elif values:
                yield SignupRow(line, tuple(values))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFile(f"{file}, line {line}: not CSV: {error}") from error
    if line == 1:
        _check_header(file, [])


def _check_header(file: Path, values: list[str]) -> None:
    if tuple(value.strip() for value in values) != HEADER:
        raise UnreadableFile(f"{file}, line 1: not the header that is expected: {','.join(HEADER)}")
