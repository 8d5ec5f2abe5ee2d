"""`WATCHDOG`: ends servers and processes when this process has ended, whichever signal ended it."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Lock

from registration_persistence.sandbox import watchdog_program
from registration_persistence.sandbox.watchdog_program import END_OF_RECORD, FOLDER, FORGET, PROCESS


class Watchdog:
    """A process that outlives this one, and then ends its processes and removes its folders.

    It runs only while it has something to watch. A process that this one has forked has a watchdog of its own.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._watched: dict[bytes, None] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def watch_process(self, pid: int) -> None:
        """Kill a process and its process group when this process has ended.

        Args:
            pid: The leader of a process group.
        """
        self._add(PROCESS + str(pid).encode())

    def watch_folder(self, folder: Path) -> None:
        """End the servers of a folder and remove it when this process has ended.

        Args:
            folder: The folder of a `DataDirectory`.
        """
        self._add(FOLDER + os.fsencode(folder))

    def forget_process(self, pid: int) -> None:
        """Undo `watch_process`.

        Args:
            pid: The leader of a process group, which has ended.
        """
        self._remove(PROCESS + str(pid).encode())

    def forget_folder(self, folder: Path) -> None:
        """Undo `watch_folder`.

        Args:
            folder: The folder of a `DataDirectory`, which has been removed.
        """
        self._remove(FOLDER + os.fsencode(folder))

    def _add(self, record: bytes) -> None:
        with self._lock:
            if self._owner != os.getpid():
                self._watched, self._process, self._owner = {}, None, os.getpid()
            self._watched[record] = None
            self._send(record)

    def _remove(self, record: bytes) -> None:
        with self._lock:
            if self._owner != os.getpid() or record not in self._watched:
                return
            del self._watched[record]
            self._send(FORGET + record)
            if not self._watched:
                self._stop()

    def _send(self, record: bytes) -> None:
        """Send a record; start the process if it does not run, and send it all records."""
        if self._process is not None and self._process.poll() is None:
            try:
                self._write(record)
            except BrokenPipeError:
                self._stop()
            else:
                return
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog_program.__file__, str(os.getpid())],
            cwd="/",
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for watched in self._watched:
            self._write(watched)

    def _write(self, record: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), record + END_OF_RECORD)

    def _stop(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._process = None


WATCHDOG = Watchdog()
"""The watchdog of this process."""
