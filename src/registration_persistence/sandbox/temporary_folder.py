"""`TemporaryFolder`: a folder for a server's files that does not outlive its process."""

import fcntl
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from registration_persistence.sandbox.errors import LocalServerError
from registration_persistence.sandbox.waiting import wait_until
from registration_persistence.sandbox.watchdog import WATCHDOG
from registration_persistence.sandbox.watchdog_program import remove_server

_PREFIX = "registration-postgres-"
_LOCK = "lock"
_MAX_REMOVAL_SECONDS = 1.0

# PostgreSQL limits the length of a path, and `pg_ctl` passes its paths through a shell.
_MAX_PATH_BYTES = 800
_SHELL_CHARACTERS = re.compile(r"[\"$`\\\n]")

# A file system in memory, in which a server copies a database in a tenth of the time that some disks take.
_MEMORY = Path("/dev/shm")  # noqa: S108 the folder in it has a random name
_MIN_FREE_BYTES_IN_MEMORY = 4 * 2**30

# Permission of others to read and enter a folder.
_READ_AND_ENTER = 0o005


class TemporaryFolder:
    """A folder that exists until `remove` is called, or until this process has ended, whichever signal ended it.

    Folders of processes that ended earlier are removed first, with their servers.

    Args:
        in_memory: Whether the folder is in memory if at least 4 GiB are free there; `TMPDIR` goes first if it is set.
            False by default.

    Attributes:
        path: The path of the folder.

    Raises:
        LocalServerError: No folder for temporary files can be used by a server.
    """

    def __init__(self, *, in_memory: bool = False) -> None:
        parent = _MEMORY if in_memory and "TMPDIR" not in os.environ and _can_work_in_memory() else _parent_folder()
        _remove_abandoned(parent)
        folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
        self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        with suppress(OSError):  # not every file system supports locks
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Under its final name, other processes would remove a folder without a lock.
        self.path: Path = folder.rename(parent / folder.name.removeprefix("."))
        WATCHDOG.watch_folder(self.path)

    def remove(self) -> None:
        """Delete the folder, whose server has been stopped."""

        def is_removed() -> bool:
            shutil.rmtree(self.path, ignore_errors=True)
            return not self.path.exists()

        with suppress(LocalServerError):  # the last processes of a killed server may still write
            wait_until(is_removed, "the folder is removed", timeout=_MAX_REMOVAL_SECONDS, interval=0.05)
            WATCHDOG.forget_folder(self.path)
        os.close(self._lock)


def is_readable_by_all(path: Path) -> bool:
    """Return whether every user can read and enter a folder."""
    try:
        modes = [folder.stat().st_mode for folder in (path, *path.parents)]
    except OSError:
        return False
    return all(mode & _READ_AND_ENTER == _READ_AND_ENTER for mode in modes)


def _can_work_in_memory() -> bool:
    """Return whether the file system in memory has room, and a server can run there, with programs that are copied."""
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return False
    has_room = found.f_bavail * found.f_frsize >= _MIN_FREE_BYTES_IN_MEMORY
    return has_room and not found.f_flag & os.ST_NOEXEC and is_readable_by_all(_MEMORY) and os.access(_MEMORY, os.W_OK)


def _parent_folder() -> Path:
    """Return the first folder for temporary files in which a server can work."""
    problems = []
    for folder in map(Path, dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"])):  # noqa: S108 each is checked
        if len(os.fsencode(folder)) > _MAX_PATH_BYTES or _SHELL_CHARACTERS.search(str(folder)):
            problems.append(f"{str(folder)[:60]!r} is too long or has a character that a shell interprets")
        elif os.geteuid() == 0 and not is_readable_by_all(folder):
            problems.append(f"{folder} is closed to other users, and PostgreSQL does not run as root")
        elif not os.access(folder, os.W_OK | os.X_OK):
            problems.append(f"{folder} cannot be written")
        else:
            return folder
    raise LocalServerError(f"{'; '.join(problems)}: set TMPDIR to a folder that every user can read")


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that have ended; folders of other users stay."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    remove_server(folder)
            finally:
                os.close(lock)
