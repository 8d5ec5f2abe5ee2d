"""A network of one's own, in which the kernel drops packets."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from registration_persistence.sandbox.binaries import LocalServerError

# From <linux/sched.h> and <linux/capability.h>.
_CLONE_NEWNET = 0x40000000

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}

_THIS_THREADS_NETWORK = "/proc/thread-self/ns/net"


class IsolatedNetwork:
    """Moves the calling thread into a network namespace with nothing but 127.0.0.1; use it as a context manager.

    Threads and processes that the thread starts inside belong to it too; those that ran before do not, so servers must
    be started inside. Nothing inside is reached from outside, nor the other way round. Linux only; needs root.
    """

    def __init__(self) -> None:
        self._outside: int | None = None

    def __enter__(self) -> Self:
        reason = why_not()
        if reason:
            raise LocalServerError(reason)
        self._outside = os.open(_THIS_THREADS_NETWORK, os.O_RDONLY)
        try:
            _call("unshare", _CLONE_NEWNET)
            _run("ip", "link", "set", "lo", "up")
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    @contextmanager
    def drop_packets(self, port: int) -> Iterator[None]:
        """Drop every packet to and from *port*, without an answer to either end, until the block ends.

        Connections that are open stay open and hear nothing; what was sent meanwhile may still arrive afterwards.
        """
        rules = [["INPUT", "-p", "tcp", side, str(port), "-j", "DROP"] for side in ("--dport", "--sport")]
        done = []
        try:
            for rule in rules:
                _run("iptables", "-w", "-I", *rule)
                done.append(rule)
            yield
        finally:
            for rule in done:
                _run("iptables", "-w", "-D", *rule)

    def _leave(self) -> None:
        assert self._outside is not None
        try:
            _call("setns", self._outside, _CLONE_NEWNET)
        finally:
            os.close(self._outside)
            self._outside = None


def why_not() -> str | None:
    """Return what this machine lacks for an `IsolatedNetwork`, or `None`."""
    if sys.platform != "linux":
        return "a network of its own needs Linux"
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    lacking = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        return f"a network of its own needs root: this process lacks {' and '.join(lacking)}"
    programs = [name for name in ("ip", "iptables") if shutil.which(name) is None]
    if programs:
        return f"a network of its own needs {' and '.join(programs)}: install iproute2 and iptables"
    return None


def _call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        raise LocalServerError(f"{function} failed: {os.strerror(ctypes.get_errno())}")


def _run(program: str, *arguments: str) -> None:
    path = shutil.which(program)
    assert path is not None
    run = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise LocalServerError(f"{program} {' '.join(arguments)} failed: {run.stderr.strip()}")
