"""Files that only their owner can read, and the cells of those that a spreadsheet may open."""

import fcntl
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registration_persistence import private_file
from registration_persistence.private_file import FileInUse
from registration_persistence.spreadsheet_cell import escaped, unescaped

_SMALL_FILE_BYTES = 4096


@contextmanager
def small_files() -> Iterator[None]:
    """Limit the size of a file for one block, as a full disk does: a write beyond it is cut off, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_SMALL_FILE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def mode(file: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(file.stat().st_mode)


def test_only_the_owner_can_read_a_private_file(tmp_path: Path) -> None:
    """It has the mode 0600 with every umask, if it is new and if it replaces a file that everybody can read."""
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text("old")
    old.chmod(0o666)
    before = os.umask(0)
    try:
        for file in (new, old):
            private_file.write(file, "secret")
    finally:
        os.umask(before)

    assert [(0o600, "secret")] * 2 == [(mode(file), file.read_text()) for file in (new, old)]


def test_a_reader_of_the_old_file_does_not_see_the_new_content(tmp_path: Path) -> None:
    """Neither a descriptor that was opened before, nor another name of the old file, shows it."""
    file, other_name = tmp_path / "rows.csv", tmp_path / "other.csv"
    file.write_text("old")
    other_name.hardlink_to(file)
    with file.open() as reader:
        private_file.write(file, "secret")

        assert reader.read() == "old"
    assert other_name.read_text() == "old"


def test_only_a_file_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    """A file that begins in another way is kept; one that is empty or missing, or no regular file, may be written."""
    file = tmp_path / "rows.csv"
    private_file.check_start(file, "line,reason")
    for content in ("", "line,reason\n1,unknown\n"):
        file.write_text(content)
        private_file.check_start(file, "line,reason")
    private_file.check_start(Path("/dev/null"), "line,reason")
    for content in ("root:x:0:0", "line", "email\nada@example.com\n"):
        file.write_text(content)
        with pytest.raises(OSError, match="it has other content") as error:
            private_file.check_start(file, "line,reason")
        assert "ada@" not in str(error.value)


def test_a_link_is_an_error(tmp_path: Path) -> None:
    """A link to a file, to nothing and to a device is not followed, and the file behind it keeps its content."""
    (tmp_path / "victim").write_text("old")
    for target in ("victim", "nothing", "/dev/null", "link"):
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        for write in (private_file.check_writable, private_file.replace, lambda file: private_file.write(file, "x")):
            with pytest.raises(OSError, match="it is a link"):
                write(link)
        with pytest.raises(FileExistsError):
            private_file.create(link)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "victim"]
    assert (tmp_path / "victim").read_text() == "old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_an_error(tmp_path: Path) -> None:
    """A file or a pipe that another user has prepared is not used, because that user could read it."""
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.touch(0o666)
    os.mkfifo(pipe, 0o666)
    for each in (file, pipe):
        os.chown(each, 65534, 65534)
        reader = os.open(each, os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(PermissionError, match="belongs to another user"):
            private_file.write(each, "secret")
        os.close(reader)
    assert file.read_text() == ""


def test_a_file_is_not_replaced_while_it_is_written(tmp_path: Path) -> None:
    """A second writer gets an error until the first one closes the file."""
    file = tmp_path / "rows.csv"
    first = private_file.create(file)
    with pytest.raises(FileInUse, match="another process is writing it"):
        private_file.replace(file)
    assert private_file.is_at(file, first)
    os.close(first)
    second = private_file.replace(file)
    with pytest.raises(FileInUse):
        private_file.replace(file)
    os.close(second)
    with file.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FileInUse):
            private_file.replace(file)


def test_pipes_and_devices_are_opened_as_they_are(tmp_path: Path) -> None:
    """They are neither removed nor locked, and the links in /dev are followed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    private_file.write(pipe, "row")
    assert os.read(reader, 10) == b"row"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    for name in ("/dev/null", "/dev/stdout"):
        descriptor = private_file.replace(Path(name))
        assert Path(name).exists()
        os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        private_file.replace(tmp_path / "missing" / "rows.csv")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A file that cannot be written completely keeps its content, and no part of the new one is left behind."""
    file = tmp_path / "rows.csv"
    file.write_text("old")

    with small_files(), pytest.raises(OSError, match="too large"):
        private_file.write(file, "x" * (_SMALL_FILE_BYTES + 1))

    assert [("rows.csv", "old")] == [(each.name, each.read_text()) for each in tmp_path.iterdir()]


def test_a_full_disk_leaves_no_half_of_a_row(tmp_path: Path) -> None:
    """The rows before the one that does not fit are complete, and nothing follows them."""
    file = tmp_path / "rows.csv"
    descriptor = private_file.create(file)
    row = "x" * (_SMALL_FILE_BYTES // 2) + "\n"
    private_file.append(descriptor, row)

    with small_files(), pytest.raises(OSError, match="too large"):
        private_file.append(descriptor, row)
    os.close(descriptor)

    assert row == file.read_text()


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file that is missing stays missing, and an existing one keeps its content."""
    private_file.check_writable(tmp_path / "missing")
    (tmp_path / "old").write_text("old")
    private_file.check_writable(tmp_path / "old")

    assert [("old", "old")] == [(each.name, each.read_text()) for each in tmp_path.iterdir()]


FORMULAS = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "'=1", "''+1", "' =1", "'\tx"]
TEXTS = ["", "ada@example.com", "'", "'ada", "a=1", "O'Neil", " ada", "1-2", "''x"]


@pytest.mark.parametrize("value", FORMULAS)
def test_a_formula_is_marked_as_text(value: str) -> None:
    """An apostrophe in front makes a spreadsheet show the cell; it can be undone, also if there was one already."""
    assert escaped(value) == f"'{value}"
    assert unescaped(escaped(value)) == value


@pytest.mark.parametrize("value", TEXTS)
def test_other_cells_are_unchanged(value: str) -> None:
    """A cell that no spreadsheet runs is written as it is, and read as it is."""
    assert escaped(value) == value == unescaped(value)
