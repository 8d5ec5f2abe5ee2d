"""The file of the demo is read in constant memory, and its mistakes are found before the first row is used."""

import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from registration_persistence.errors import UnreadableFile
from registration_persistence.sandbox.demo.signups import HEADER, RejectedRow, Signup, open_signups

ROW = b"ada@example.com,Ada Lovelace of London,en-GB,web,2026-01,yes\n"
HEADER_LINE = ",".join(HEADER).encode() + b"\n"


@pytest.mark.parametrize(
    "end", [b"", b'ada@example.com,"Ada,en,web,1,no\n', b"ada@example.com,J\xfcrgen,de,web,1,no\n"]
)
def test_the_memory_does_not_depend_on_the_length_of_the_file(tmp_path: Path, end: bytes) -> None:
    """A file of 1.2 MB needs less than 0.7 MB, also if its last row is wrong, which is found at once."""
    file = tmp_path / "people.csv"
    file.write_bytes(HEADER_LINE + ROW * 20_000 + end)
    tracemalloc.start()
    try:
        if end:
            with pytest.raises(UnreadableFile, match="line 20002: not"), open_signups(file):
                pass
        else:
            with open_signups(file) as signups:
                assert signups.number_of_rows == 20_000
                assert isinstance(next(iter(signups)), Signup)
        assert tracemalloc.get_traced_memory()[1] < 700_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "row",
    [b"x" * 4_000_000, b'"' + b"x\n" * 2_000_000, b'"a\n",' * 400_000, b"a," * 2_000_000],
    ids=["long", "open-quote", "many-lines", "many-fields"],
)
def test_the_memory_does_not_depend_on_the_length_of_a_row(tmp_path: Path, row: bytes) -> None:
    """A row of 4 MB, on one line or on many, is an error on the line on which it begins."""
    file = tmp_path / "people.csv"
    file.write_bytes(HEADER_LINE + ROW + row)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile, match=r"people.csv, line 3: not CSV: "), open_signups(file):
            pass
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """The rows of a named pipe, as of a process substitution, are counted and read."""
    pipe = tmp_path / "people"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(HEADER_LINE + ROW + b"\n" + b"a,b\n",))
    writer.start()

    with open_signups(pipe) as signups:
        rows = list(signups)
    writer.join()

    assert signups.number_of_rows == 2
    assert isinstance(rows[0], Signup)
    assert rows[1] == RejectedRow(rows[1].row, "the row has 2 fields: expected 6")
    assert rows[1].row.line == 4


def test_a_file_can_be_read_twice(tmp_path: Path) -> None:
    """Each iteration begins with the first row; a byte order mark is skipped each time."""
    file = tmp_path / "people.csv"
    file.write_bytes(b"\xef\xbb\xbf" + HEADER_LINE.replace(b"\n", b"\r\n") + ROW)

    with open_signups(file) as signups:
        assert list(signups) == list(signups) != []


def test_a_surrogate_is_an_error(tmp_path: Path) -> None:
    """A file with a surrogate, which UTF-8 does not allow, is not UTF-8."""
    file = tmp_path / "people.csv"
    file.write_bytes(HEADER_LINE + ROW.replace(b"Ada", b"\xed\xa0\x80"))

    with pytest.raises(UnreadableFile, match="line 2: not UTF-8"), open_signups(file):
        pass
