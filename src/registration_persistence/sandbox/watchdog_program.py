"""The program of the watchdog: it ends the processes of an owner that has ended, and removes their folders.

It runs as a file, with only the standard library, so that it starts fast and needs nothing of its owner.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

END_OF_RECORD = b"\0"
PROCESS, FOLDER, FORGET = b"process ", b"folder ", b"forget "

_SERVER_PROGRAMS = {b"postgres", b"initdb", b"pg_ctl", b"pg_basebackup"}
_POLL_SECONDS = 1.0
_PAUSE_SECONDS = 0.1

# A server ends its processes before; if it hangs, it is killed after the second limit.
_KILL_AFTER_SECONDS = 3.0
_MAX_REMOVAL_SECONDS = 30.0


def main(owner: int) -> None:
    """Watch a process; signals that reach it, too, have no effect.

    Args:
        owner: The process id of the parent process.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    watch(owner, sys.stdin.fileno())


def watch(owner: int, source: int) -> None:
    """Read records until the process *owner* has ended; then clean up what they name.

    Args:
        owner: The process id of the parent process.
        source: A file descriptor, from which the records are read.
    """
    watched: dict[bytes, None] = {}
    for record in _records(owner, source):
        if record.startswith(FORGET):
            watched.pop(record.removeprefix(FORGET), None)
        else:
            watched[record] = None
    for record in reversed(watched):
        if record.startswith(PROCESS):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(int(record.removeprefix(PROCESS)), signal.SIGKILL)
        else:
            remove_server(Path(os.fsdecode(record.removeprefix(FOLDER))))


def remove_server(folder: Path) -> None:
    """End every server that uses the folder *folder*/data, and remove *folder*.

    Args:
        folder: The folder of a `DataDirectory`.
    """
    started = time.monotonic()
    while time.monotonic() < started + _MAX_REMOVAL_SECONDS:
        is_late = time.monotonic() > started + _KILL_AFTER_SECONDS
        found = list(_programs(os.fsencode(folder / "data")))
        for pid, program in found:
            # After SIGQUIT a server removes its shared memory, which it does not after SIGKILL.
            number = signal.SIGQUIT if program == b"postgres" and not is_late else signal.SIGKILL
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if not found:
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                return
        time.sleep(_PAUSE_SECONDS)


def _records(owner: int, source: int) -> Iterator[bytes]:
    """Yield the records of *source* until its end, or until *owner* is no longer the parent process.

    A process that the owner has forked may hold the other end open.
    """
    pending = b""
    while True:
        if not select.select([source], [], [], _POLL_SECONDS)[0]:
            if os.getppid() != owner:
                return
            continue
        chunk = os.read(source, 65536)
        if not chunk:
            return
        *records, pending = (pending + chunk).split(END_OF_RECORD)
        yield from records


def _programs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield process id and name of each program of PostgreSQL that has *data* among its arguments."""
    for pid, arguments in _from_proc() if Path("/proc/self/cmdline").exists() else _from_ps():
        program = arguments[0].rpartition(b"/")[2]
        if program in _SERVER_PROGRAMS and data in b" ".join(arguments):
            yield pid, program


def _from_proc() -> Iterator[tuple[int, list[bytes]]]:
    """Yield process id and arguments of each process, on Linux."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(process.name), (process / "cmdline").read_bytes().split(b"\0")


def _from_ps() -> Iterator[tuple[int, list[bytes]]]:
    """Yield process id and arguments of each process, on other systems; arguments with spaces are in pieces."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, check=False)  # noqa: S607 found in PATH
    for line in listed.stdout.splitlines():
        pid, *arguments = line.strip().split(b" ")
        yield int(pid), arguments or [b""]


if __name__ == "__main__":
    main(int(sys.argv[1]))
