"""Reading people who registered elsewhere: CSV or JSON Lines, line by line, in constant memory."""

import csv
import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

from registration_persistence.domain.records import Consent, ImportRow
from registration_persistence.domain.status import Status
from registration_persistence.errors import InvalidInput, UnreadableFile

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""What the name of a file says about its format."""

_FIELDS = ("email", "status", "registered_at", "idempotency_key")

_COLUMN = re.compile(r"profile\..+|(?:consent|declined)\.[a-z][a-z0-9_]{0,62}")

_OBJECT_FIELDS = (*_FIELDS, "profile", "consents")

_CONSENT_FIELDS = ("purpose", "document_version", "granted", "source")

_SOURCE = "import"

# A line that is longer is no person, but a file of another kind.
_LONGEST_LINE = 1_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: a row, or why it is none.

    Args:
        number: Where it begins, from 1.
        row: What it says.
        problem: Why it cannot be read, without quoting it.
    """

    number: int
    row: ImportRow | None = field(repr=False)
    problem: str = ""


def read_lines(file: Path, source: BinaryIO, file_format: str) -> Generator[Line, None, None]:
    """Return the lines of *source*, which is *file*, one at a time; empty ones are left out.

    Raises:
        UnreadableFile: It has another header than is expected, or is no CSV from some line on.
    """
    return _csv_lines(file, source) if file_format == "csv" else _json_lines(source)


def _csv_lines(file: Path, source: BinaryIO) -> Generator[Line, None, None]:
    text = TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(_LONGEST_LINE)
    reader = csv.reader(_bounded(text), strict=True)
    number = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(file, header)
        number = reader.line_num + 1
        for values in reader:
            if values:
                yield _line(number, _row_of_values, header, values)
            number = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFile(
            f"{file}, line {number}: not CSV: {error}; the rows before it were taken, "
            "and the file can be imported again when it is mended"
        ) from error
    finally:
        text.detach()  # or it would close the file with it


def _bounded(text: TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise csv.Error(f"it is longer than {_LONGEST_LINE} characters")
        yield line


def _check_header(file: Path, header: list[str]) -> None:
    known = [name for name in header if name in _FIELDS or _COLUMN.fullmatch(name)]
    if "email" not in header or known != header or len(set(header)) < len(header):
        raise UnreadableFile(
            f"{file}, line 1: not the header that is expected: email, and any of "
            f"{', '.join(_FIELDS[1:])}, profile.<field>, consent.<purpose>, declined.<purpose>, each once"
        )


def _row_of_values(header: list[str], values: list[str]) -> ImportRow:
    if len(values) != len(header):
        raise InvalidInput(f"the row has {len(values)} fields: expected {len(header)}")
    if any("\udc80" <= char <= "\udcff" for value in values for char in value):
        raise InvalidInput("the row is not UTF-8")
    cells = {name: value.strip() for name, value in zip(header, values, strict=True) if value.strip()}
    profile, consents = {}, []
    for name, value in cells.items():
        prefix, _, rest = name.partition(".")
        if prefix == "profile":
            profile[rest] = value
        elif prefix in ("consent", "declined"):
            consents.append(Consent(rest, value, granted=prefix == "consent", source=_SOURCE))
    return _row(cells, profile, tuple(consents))


def _json_lines(source: BinaryIO) -> Generator[Line, None, None]:
    number = 0
    while line := source.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = source.readline(_LONGEST_LINE)
            yield Line(number, None, f"the line is longer than {_LONGEST_LINE} octets")
        elif line.strip():
            yield _line(number, _row_of_object, line)


def _row_of_object(line: bytes) -> ImportRow:
    try:
        given = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        given, problem = None, "the line is not UTF-8"
    except (ValueError, RecursionError):
        given, problem = None, "the line is not JSON"
    else:
        problem = "" if isinstance(given, dict) else "the line is not a JSON object"
    if problem:  # outside the `except`: the decoder's error holds the line
        raise InvalidInput(problem)
    _check_names("the row", given, _OBJECT_FIELDS)
    given = {name: value for name, value in given.items() if value is not None}
    consents = given.get("consents", [])
    if not isinstance(consents, list):
        raise InvalidInput("the consents are not a list")
    return _row(given, given.get("profile", {}), tuple(map(_consent, consents)))


def _consent(given: Any) -> Consent:
    if not isinstance(given, dict):
        raise InvalidInput("a consent is not an object")
    _check_names("a consent", given, _CONSENT_FIELDS)
    return Consent(
        given.get("purpose", ""), given.get("document_version", ""), given.get("granted", True),
        given.get("source", _SOURCE),
    )  # fmt: skip


def _check_names(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if not set(given) <= set(known):
        raise InvalidInput(f"{what} has a field that is unknown: expected {', '.join(known)}")


def _line(number: int, read: Callable[..., ImportRow], *arguments: Any) -> Line:
    try:
        return Line(number, read(*arguments))
    except InvalidInput as error:
        return Line(number, None, str(error))


def _row(given: Mapping[str, Any], profile: Any, consents: tuple[Consent, ...]) -> ImportRow:
    if "email" not in given:
        raise InvalidInput("the row has no e-mail address")
    email, status, key = given["email"], given.get("status", Status.ACTIVE), given.get("idempotency_key")
    registered_at = given.get("registered_at")
    if status == Status.PENDING and key is None:
        # Or importing the file again would store it again: a mailbox may be pending any number of times.
        key = "import:" + sha256(f"{email}\0{registered_at}".encode(errors="replace")).hexdigest()
    return ImportRow(
        email=email,
        status=status,
        profile=profile,
        consents=consents,
        idempotency_key=key,
        registered_at=_moment(registered_at),
    )


def _moment(given: Any) -> datetime | None:
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except (ValueError, TypeError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInput("registered_at is not a time in ISO 8601 with a time zone, like 2024-05-01T09:30:00Z")
    return moment
