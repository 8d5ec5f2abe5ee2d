"""A network namespace in which the kernel can drop packets."""

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

from registration_persistence.sandbox.errors import LocalServerError
from registration_persistence.sandbox.isolation import server_environment

# From <linux/sched.h> and <linux/capability.h>.
_CLONE_NEWNET = 0x40000000

_REQUIRED_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}

_NAMESPACE_OF_THREAD = "/proc/thread-self/ns/net"


class IsolatedNetwork:
    """Moves the calling thread into a network namespace that has only 127.0.0.1; use it as a context manager.

    Threads and processes that this thread starts in the block are in the namespace, too; others are not, so servers
    must be started in the block. The namespace and the rest of the machine cannot reach each other. It needs Linux,
    root, `ip` and `iptables`.

    Raises:
        LocalServerError: When the block is entered: this machine does not support network namespaces, or a command
            failed.
    """

    def __init__(self) -> None:
        self._outside: int | None = None

    def __enter__(self) -> Self:
        reason = unsupported_reason()
        if reason:
            raise LocalServerError(reason)
        self._outside = os.open(_NAMESPACE_OF_THREAD, os.O_RDONLY)
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
        """Drop every packet to and from a port until the block ends; neither end is notified.

        Open connections stay open. Data that was sent in the block may arrive after it, because TCP repeats it.

        Args:
            port: TCP port of the server.
        """
        rules = [["INPUT", "-p", "tcp", side, str(port), "-j", "DROP"] for side in ("--dport", "--sport")]
        active = []
        try:
            for rule in rules:
                _run("iptables", "-w", "-I", *rule)
                active.append(rule)
            yield
        finally:
            for rule in active:
                _run("iptables", "-w", "-D", *rule)

    def _leave(self) -> None:
        assert self._outside is not None
        try:
            _call("setns", self._outside, _CLONE_NEWNET)
        finally:
            os.close(self._outside)
            self._outside = None


def unsupported_reason() -> str | None:
    """Return why this machine does not support `IsolatedNetwork`; `None` if it does."""
    if sys.platform != "linux":
        return f"the platform is {sys.platform}: a network namespace needs Linux"
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    lacking = [name for name, bit in _REQUIRED_CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        return f"this process lacks {' and '.join(lacking)}: a network namespace needs root"
    programs = [name for name in ("ip", "iptables") if shutil.which(name) is None]
    if programs:
        return f"{' and '.join(programs)} not found: a network namespace needs the packages iproute2 and iptables"
    return None


def _call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        raise LocalServerError(f"{function} failed: {os.strerror(ctypes.get_errno())}")


def _run(program: str, *arguments: str) -> None:
    path = shutil.which(program)
    assert path is not None
    run = subprocess.run([path, *arguments], env=server_environment(), capture_output=True, text=True, check=False)
    if run.returncode:
        raise LocalServerError(f"{program} {' '.join(arguments)} failed: {run.stderr.strip()}")
