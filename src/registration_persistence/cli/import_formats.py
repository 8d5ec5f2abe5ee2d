"""The file formats of `import`: reads CSV and JSON Lines row by row, in constant memory."""

import csv
import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, assert_never

from registration_persistence.cli.console import shortened
from registration_persistence.cli.import_source import MAX_ROW_LENGTH, BoundedRows
from registration_persistence.domain.records import Consent, ImportRow
from registration_persistence.domain.status import Status
from registration_persistence.errors import InvalidInput, UnreadableFile
from registration_persistence.quantities import counted

ImportFormat: TypeAlias = Literal["csv", "jsonl"]
"""The formats of files with people."""

FORMAT_OF_SUFFIX: Mapping[str, ImportFormat] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""The format of a file whose name ends like this."""

_FIELDS = ("email", "status", "registered_at", "idempotency_key")

_COLUMN_WITH_PREFIX = re.compile(r"profile\..+|(?:consent|declined)\.[a-z][a-z0-9_]{0,62}")

_WRONG_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}

_OBJECT_FIELDS = (*_FIELDS, "profile", "consents")

_CONSENT_FIELDS = ("purpose", "document_version", "granted", "source")

_DEFAULT_CONSENT_SOURCE = "import"

_MAX_COLUMNS = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: a row, or the reason why it is not one.

    Args:
        number: The number of the row's first line, from 1.
        row: The row, or `None` if it cannot be read.
        problem: The reason why it cannot be read, without any of its values.
        length: The number of characters or bytes that it takes in the file, with the empty lines before it.
    """

    number: int
    row: ImportRow | None = field(repr=False)
    problem: str = ""
    length: int = 0


def read_lines(file: Path, source: BinaryIO, file_format: ImportFormat) -> Generator[Line, None, None]:
    """Return the lines of a file one at a time, without the empty ones.

    Args:
        file: The name of the file, for error messages.
        source: The open file.
        file_format: Its format.

    Raises:
        UnreadableFile: The file cannot be read, the header of a CSV file is wrong, or a line is not CSV.
    """
    try:
        match file_format:
            case "csv":
                yield from _csv_lines(file, source)
            case "jsonl":
                yield from _json_lines(source)
            case _:
                assert_never(file_format)
    except OSError as error:
        raise UnreadableFile(f"cannot read {file}: {error.strerror}") from error


def _csv_lines(file: Path, source: BinaryIO) -> Generator[Line, None, None]:
    text = TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(MAX_ROW_LENGTH)
    rows = BoundedRows(text)
    reader = csv.reader(rows, strict=True)
    number = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(file, header)
        number, rows.length = reader.line_num + 1, 0
        for values in reader:
            if values:
                yield _line(number, rows.length, _row_of_values, header, values)
            number, rows.length = reader.line_num + 1, 0
    except csv.Error as error:
        raise UnreadableFile(
            f"{file}, line {number}: not CSV: {error}; the rows before this line are imported, "
            "and the file can be imported again after it is corrected"
        ) from error
    finally:
        text.detach()  # otherwise it closes the file, too


def _check_header(file: Path, header: list[str]) -> None:
    if problem := _header_problem(header):
        raise UnreadableFile(
            f"{file}, line 1: {problem}: expected the column email, and any of {', '.join(_FIELDS[1:])}, "
            "profile.<field>, consent.<purpose> and declined.<purpose>, each once, separated by commas; "
            "a purpose has up to 63 of a-z, 0-9 and _"
        )


def _header_problem(header: list[str]) -> str:
    """Return the problem of a header; it is not quoted without the column email, because it may be a person's row."""
    if not header:
        return "the header is missing"
    if "email" not in header:
        split = {separator: ",".join(header).split(separator) for separator in _WRONG_SEPARATORS}
        used = [name for separator, name in _WRONG_SEPARATORS.items() if "email" in map(str.strip, split[separator])]
        return f"the columns are separated by {used[0]}" if used else "the header has no column email"
    if len(header) > _MAX_COLUMNS:
        return f"the header has {counted(len(header), 'column')}, more than {_MAX_COLUMNS}"
    for name in header:
        if header.count(name) > 1:
            return f"the column {shortened(repr(name))} occurs {header.count(name)} times"
        if name not in _FIELDS and not _COLUMN_WITH_PREFIX.fullmatch(name):
            return f"the column {shortened(repr(name))} is unknown"
    return ""


def _row_of_values(header: list[str], values: list[str]) -> ImportRow:
    if len(values) != len(header):
        raise InvalidInput(f"the row has {counted(len(values), 'field')}: expected {len(header)}")
    if any("\udc80" <= char <= "\udcff" for value in values for char in value):
        raise InvalidInput("the row is not UTF-8")
    cells = {name: value.strip() for name, value in zip(header, values, strict=True) if value.strip()}
    profile, consents = {}, []
    for name, value in cells.items():
        prefix, _, rest = name.partition(".")
        if prefix == "profile":
            profile[rest] = value
        elif prefix in ("consent", "declined"):
            consents.append(Consent(rest, value, granted=prefix == "consent", source=_DEFAULT_CONSENT_SOURCE))
    return _row(cells, profile, tuple(consents))


def _json_lines(source: BinaryIO) -> Generator[Line, None, None]:
    number = 0
    while line := source.readline(MAX_ROW_LENGTH + 1):
        number += 1
        if len(line) > MAX_ROW_LENGTH:
            while line and not line.endswith(b"\n"):
                line = source.readline(MAX_ROW_LENGTH)
            yield Line(number, None, f"the line is longer than {MAX_ROW_LENGTH} bytes")
        elif line.strip():
            yield _line(number, len(line), _row_of_object, line)


def _row_of_object(line: bytes) -> ImportRow:
    try:
        given = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        given, problem = None, "the line is not UTF-8"
    except (ValueError, RecursionError):
        given, problem = None, "the line is not JSON"
    else:
        problem = "" if isinstance(given, dict) else "the line is not a JSON object"
    if problem:  # outside of the `except` block, because the decoder's error contains the line
        raise InvalidInput(problem)
    _check_fields("the row", given, _OBJECT_FIELDS)
    given = {name: value for name, value in given.items() if value is not None}
    consents = given.get("consents", [])
    if not isinstance(consents, list):
        raise InvalidInput("the consents are not a list")
    return _row(given, given.get("profile", {}), tuple(map(_consent, consents)))


def _consent(given: Any) -> Consent:
    if not isinstance(given, dict):
        raise InvalidInput("a consent is not an object")
    _check_fields("a consent", given, _CONSENT_FIELDS)
    return Consent(
        given.get("purpose", ""), given.get("document_version", ""), given.get("granted", True),
        given.get("source", _DEFAULT_CONSENT_SOURCE),
    )  # fmt: skip


def _check_fields(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if not set(given) <= set(known):
        raise InvalidInput(f"{what} has a field that is unknown: expected {', '.join(known)}")


def _line(number: int, length: int, parse: Callable[..., ImportRow], *arguments: Any) -> Line:
    try:
        return Line(number, parse(*arguments), length=length)
    except InvalidInput as error:
        return Line(number, None, str(error))


def _row(given: Mapping[str, Any], profile: Any, consents: tuple[Consent, ...]) -> ImportRow:
    if "email" not in given:
        raise InvalidInput("the row has no e-mail address")
    typed, status, key = given["email"], given.get("status", Status.ACTIVE), given.get("idempotency_key")
    email = typed.strip() if isinstance(typed, str) else typed
    registered_at = given.get("registered_at")
    if status == Status.PENDING and key is None:
        # Without a key, a second import would store the row again: a mailbox may have many pending registrations.
        key = "import:" + sha256(f"{email}\0{registered_at}".encode(errors="replace")).hexdigest()
    return ImportRow(
        email=email,
        status=status,
        profile=profile,
        consents=consents,
        idempotency_key=key,
        registered_at=_parsed_time(registered_at),
    )


def _parsed_time(given: Any) -> datetime | None:
    if given is None:
        return None
    try:
        time = datetime.fromisoformat(given)
    except (ValueError, TypeError):
        time = None
    if time is None or time.tzinfo is None:
        raise InvalidInput("registered_at is not a time in ISO 8601 with a time zone, like 2024-05-01T09:30:00Z")
    return time
