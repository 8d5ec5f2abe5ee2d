"""The memory and the time of `import` with files that are wrong or hostile."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

MAX_GROWTH_MIB = 80
MAX_SECONDS = 10.0
CHUNK = 1_000_000
TOO_LONG = "not CSV: the row is longer than 1000000 characters: a quote may be missing; the rows before"
EMAIL = b"email,profile.a\n"
PERSON = b"ada@example.com,Ada\n"

# Reads each file as the command does, in batches, and prints what it found.
PROGRAM = """
import json, re, sys, time
from pathlib import Path
from registration_persistence.cli.import_formats import read_lines
from registration_persistence.cli.import_source import open_source
from registration_persistence.cli.import_run import _batches, _format_of
from registration_persistence.errors import UnreadableFile

def peak():
    # getrusage() would also count the memory of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

start = peak()
for name in sys.argv[1:]:
    file, error, rows, problems = Path(name), "", 0, set()
    began = time.process_time()
    try:
        with open_source(file) as source:
            for batch in _batches(read_lines(file, source, _format_of(file))):
                rows += sum(line.row is not None for line in batch)
                problems |= {line.problem for line in batch if line.problem}
                del batch
    except UnreadableFile as problem:
        error = str(problem)
    seconds = time.process_time() - began
    print(json.dumps([file.name, error, rows, sorted(problems), peak() - start, seconds]), flush=True)
"""


class Found(NamedTuple):
    """The result of one file."""

    error: str
    rows: int
    problems: list[str]
    mebibytes: float
    seconds: float


FILES: dict[str, list[bytes]] = {
    "line-breaks.csv": [EMAIL + PERSON + b'"', *[b"\n" * CHUNK] * 52],
    "fields-of-line-breaks.csv": [EMAIL + PERSON, *[b'"' + b"\n" * 99_996 + b'",'] * 520],
    "lines-of-fields.csv": [EMAIL + PERSON + b'"', *[b'",x,"\n' * 100_000] * 10],
    "no-line-break.csv": [EMAIL, *[b"x" * CHUNK] * 100],
    "header-without-end.csv": [b"email,", *[b"x" * CHUNK] * 100],
    "large-field.csv": [EMAIL + b"ada@example.com,", *[b"x" * CHUNK] * 10, b"\n" + PERSON],
    "many-columns.csv": [b"email", *[b",profile.%d" % number for number in range(60_000)], b"\n" + PERSON],
    "million-fields.csv": [EMAIL + b"," * 999_990 + b"\n" + PERSON],
    "no-line-break.jsonl": [b"[" * CHUNK] * 100,
    "large-field.jsonl": [b'{"email": "', *[b"x" * CHUNK] * 10, b'"}\n'],
    "nested-lists.jsonl": [b'{"email": "a@b.de", "profile": {"a": ' + b"[" * 400_000 + b"\n"] * 5,
    "nested-objects.jsonl": [b'{"a":' * 190_000 + b"\n"] * 5,
    "empty-lists.jsonl": [b'{"email": "a@b.de", "profile": {"a": [' + b"[]," * 300_000 + b"[]]}}\n"] * 10,
    "million-digits.jsonl": [b'{"email": ' + b"1" * 900_000 + b"}\n"] * 5,
}
"""The parts of each file; equal parts are one object, so that this process needs no memory for them."""

EXPECTED = {
    "line-breaks.csv": f"line-breaks.csv, line 3: {TOO_LONG}",
    "fields-of-line-breaks.csv": f"fields-of-line-breaks.csv, line 3: {TOO_LONG}",
    "lines-of-fields.csv": f"lines-of-fields.csv, line 3: {TOO_LONG}",
    "no-line-break.csv": f"no-line-break.csv, line 2: {TOO_LONG}",
    "header-without-end.csv": f"header-without-end.csv, line 1: {TOO_LONG}",
    "large-field.csv": f"large-field.csv, line 2: {TOO_LONG}",
    "many-columns.csv": "many-columns.csv, line 1: the header has 60,001 columns, more than 1000: expected",
    "million-fields.csv": "the row has 999,991 fields: expected 2",
    "no-line-break.jsonl": "the line is longer than 1000000 bytes",
    "large-field.jsonl": "the line is longer than 1000000 bytes",
    "nested-lists.jsonl": "the line is not JSON",
    "nested-objects.jsonl": "the line is not JSON",
    "million-digits.jsonl": "the line is not JSON",
    "empty-lists.jsonl": "",
}
"""The error of each file, or the reason of its rejected rows."""


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


@pytest.fixture(scope="module", name="found")
def _found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """The results of all files, each written and read in turn, in one process."""
    folder = tmp_path_factory.mktemp("files")
    for name in EXPECTED:
        with (folder / name).open("wb") as file:
            file.writelines(FILES[name])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(str(folder / name) for name in EXPECTED)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    for name in EXPECTED:
        Path(folder / name).unlink()
    return {name: Found(*rest) for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_hostile_file_is_read_in_little_memory(found: dict[str, Found], name: str) -> None:
    """A row of 52 MB, a line of 100 MB, a million columns and deep nesting are rejected, in one line with the fix."""
    result = found[name]

    if result.error:
        assert EXPECTED[name] in result.error
        assert "\n" not in result.error
        assert len(result.error) < 600
    else:
        assert [EXPECTED[name]] * bool(EXPECTED[name]) == result.problems
    assert result.mebibytes < MAX_GROWTH_MIB
    assert result.seconds < MAX_SECONDS


def test_the_rows_before_and_after_a_rejected_one_are_read(found: dict[str, Found]) -> None:
    """A wrong CSV row ends the file, a wrong row of JSON Lines or one with too many fields does not."""
    assert [1, 1, 10] == [found[name].rows for name in ("line-breaks.csv", "million-fields.csv", "empty-lists.jsonl")]
