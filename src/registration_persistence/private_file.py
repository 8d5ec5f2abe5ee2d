"""Files that may contain personal data: only their owner can read them, and no link leads them elsewhere."""

import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path

_MODE = 0o600
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC

# Links such as /dev/stdout are here, and only root can create others.
_DEVICES = Path("/dev")

_IN_USE = "another process is writing it"


class FileInUse(OSError):
    """Another process is writing the file."""


def create(file: Path) -> int:
    """Create a file that only this user can read; return its descriptor, which holds a lock until it is closed.

    Args:
        file: The name of the file.

    Raises:
        FileExistsError: There is a file or a link of this name.
        FileInUse: Another process has found and locked the new file.
        OSError: The file cannot be created.
    """
    descriptor = os.open(file, _FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    try:
        _lock(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def replace(file: Path) -> int:
    """Create a file that only this user can read in the place of an existing one; return its descriptor, as `create`.

    The existing file is not written, because others may have it open, and a hard link may give it another name. A pipe
    or a device is opened as it is, and so is every name in `/dev`.

    Args:
        file: The name of the file. The name of its folder may be a link.

    Raises:
        FileInUse: Another process is writing the file.
        OSError: The file cannot be written, is a link, or belongs to another user.
    """
    try:
        old = _open_existing(file)
    except FileNotFoundError:
        return create(file)
    if file.parent == _DEVICES or not stat.S_ISREG(os.fstat(old).st_mode):
        return old
    try:
        _lock(old)
        if not is_at(file, old):  # another process has replaced it after it was opened
            raise FileInUse(errno.EBUSY, _IN_USE, str(file))
        file.unlink()
        return create(file)
    finally:
        os.close(old)


def write(file: Path, text: str) -> None:
    """Write a text in UTF-8 to a file that only this user can read, in the place of an existing one.

    An existing file keeps its content until the new one is complete, also if the disk is full or the process ends. A
    pipe or a device is written as it is, and so is every name in `/dev`.

    Args:
        file: The name of the file.
        text: Its new content.

    Raises:
        OSError: The file cannot be written, is a link, or belongs to another user; an existing file is as before.
    """
    if (old := _open_if_exists(file)) is not None:
        with os.fdopen(old, "w", encoding="utf-8") as handle:
            if file.parent == _DEVICES or not stat.S_ISREG(os.fstat(old).st_mode):
                handle.write(text)
                return
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(create(part), "w", encoding="utf-8") as handle:
            handle.write(text)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def append(descriptor: int, text: str) -> None:
    """Append a text in UTF-8 to an open file: the whole text, or nothing if the disk is full.

    Args:
        descriptor: The descriptor of the file.
        text: The text, for example a row.

    Raises:
        OSError: The file cannot be written; a regular file ends where it ended before.
    """
    before, rest = os.fstat(descriptor), memoryview(text.encode())
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        if stat.S_ISREG(before.st_mode):
            os.ftruncate(descriptor, before.st_size)
        raise


def check_writable(file: Path) -> None:
    """Check that `write` can write a file, and leave it as it is.

    Args:
        file: The name of the file.

    Raises:
        OSError: The file cannot be written, is a link, or belongs to another user.
    """
    if (old := _open_if_exists(file)) is not None:
        os.close(old)
        return
    os.close(create(file))
    file.unlink()


def check_start(file: Path, start: str) -> None:
    """Check that a file may be replaced: it does not exist, is no regular file, is empty, or begins with *start*.

    Args:
        file: The name of the file.
        start: How each file begins that the caller writes.

    Raises:
        OSError: The file has another content, or cannot be read.
    """
    if file.is_symlink() or not file.is_file():
        return
    with file.open("rb") as existing:
        found = existing.read(len(start.encode()))
    if found not in (b"", start.encode()):
        raise OSError(
            errno.EINVAL, f"it has other content, as it does not begin with {start}: name another file", str(file)
        )


def is_at(file: Path, descriptor: int) -> bool:
    """Return whether a name is that of an open file, and not of a link to it.

    Args:
        file: The name of the file.
        descriptor: The descriptor of the open file.
    """
    try:
        return os.path.samestat(file.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open_if_exists(file: Path) -> int | None:
    try:
        return _open_existing(file)
    except FileNotFoundError:
        return None


def _open_existing(file: Path) -> int:
    """Open a file of this user, which is no link; keep its content."""
    if file.parent == _DEVICES:
        return os.open(file, _FLAGS)
    if file.is_symlink():
        raise OSError(errno.ELOOP, "it is a link: name the file itself", str(file))
    descriptor = os.open(file, _FLAGS | os.O_NOFOLLOW)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "it belongs to another user: name another file", str(file))
    return descriptor


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileInUse(error.errno, _IN_USE) from error
    except OSError:
        return  # a file system without locks
