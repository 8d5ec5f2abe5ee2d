"""`TemporaryFolder` in memory: it is there only if a server can work there, and if the user names no other place."""

import os
from pathlib import Path

import pytest

from registration_persistence.sandbox import temporary_folder
from registration_persistence.sandbox.temporary_folder import TemporaryFolder

FREE_BYTES = 4 * 2**30


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the file system in memory, which has just enough room."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(temporary_folder, "_MEMORY", folder)
    monkeypatch.setattr(temporary_folder, "is_readable_by_all", lambda _path: True)
    monkeypatch.delenv("TMPDIR", raising=False)
    report(monkeypatch)
    return folder


def report(monkeypatch: pytest.MonkeyPatch, *, free_bytes: int = FREE_BYTES, flags: int = 0) -> None:
    """Let the file system report this room and these flags, in blocks of 4 KiB."""
    result = os.statvfs_result((4096, 4096, 2**30, 2**30, free_bytes // 4096, 0, 0, 0, flags, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: result)


def parent_of_new_folder(*, in_memory: bool) -> Path:
    """Create a folder, remove it, and return the folder in which it was."""
    folder = TemporaryFolder(in_memory=in_memory)
    folder.remove()
    return folder.path.parent


def test_a_folder_is_in_memory_only_on_request(memory: Path) -> None:
    """Without the request it is on the disk."""
    assert parent_of_new_folder(in_memory=True) == memory
    assert parent_of_new_folder(in_memory=False) != memory


@pytest.mark.parametrize(("free_bytes", "flags"), [(FREE_BYTES - 4096, 0), (FREE_BYTES, os.ST_NOEXEC)])
def test_a_file_system_without_room_or_programs_is_not_used(
    memory: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, flags: int
) -> None:
    """A container may have 64 MiB there, and may not execute the programs that a server of root needs there."""
    report(monkeypatch, free_bytes=free_bytes, flags=flags)

    assert parent_of_new_folder(in_memory=True) != memory


def test_a_machine_without_it_uses_the_disk(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.undo()
    monkeypatch.setattr(temporary_folder, "_MEMORY", memory / "missing")
    monkeypatch.delenv("TMPDIR", raising=False)

    assert parent_of_new_folder(in_memory=True).exists()


def test_a_closed_folder_is_not_used(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may run as another user."""
    monkeypatch.setattr(temporary_folder, "is_readable_by_all", lambda path: path != memory)

    assert parent_of_new_folder(in_memory=True) != memory


def test_the_folder_that_the_user_names_goes_first(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its users may have chosen it because memory is scarce."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    assert parent_of_new_folder(in_memory=True) != memory
