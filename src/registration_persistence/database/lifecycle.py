"""Hooks for the events of a process's life: fork, SnapStart snapshot and SIGTERM."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from types import FrameType
from typing import Any, Protocol
from weakref import WeakSet

import uuid_utils


class Forkable(Protocol):
    """An object that must not share sockets or locks with the parent process."""

    def after_fork_in_child(self) -> None:
        """Drop the parent's sockets and locks without closing them."""


_forkables: "WeakSet[Forkable]" = WeakSet()


def reset_in_forked_children(forkable: Forkable) -> None:
    """Call *forkable*'s `after_fork_in_child` in every child that this process forks while *forkable* lives.

    In a child that was forked without Python, it is called by the next `detect_fork`.
    """
    _forkables.add(forkable)


def detect_fork() -> None:
    """Call the hooks of `reset_in_forked_children` if this process is a child, and Python does not know.

    `os.fork` calls the hooks by itself. A server that is written in C, such as uWSGI, may fork without Python.
    """
    if os.getpid() != _process_id:
        uuid_utils.reseed_rng()  # its hook was not called either: the child would create the parent's ids again
        _after_fork_in_child()


def _after_fork_in_child() -> None:
    global _process_id  # noqa: PLW0603 it is the id of this process
    _process_id = os.getpid()
    for forkable in list(_forkables):
        forkable.after_fork_in_child()


class ForkableLock:
    """A lock that is free in a forked child, although another thread of the parent may have held it."""

    def __init__(self) -> None:
        self._lock = Lock()
        reset_in_forked_children(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in a `with` block."""
        detect_fork()
        with self._lock:
            yield

    def after_fork_in_child(self) -> None:
        """Replace the lock."""
        self._lock = Lock()


_process_id = os.getpid()
os.register_at_fork(after_in_child=_after_fork_in_child)


def in_lambda() -> bool:
    """Return whether this process runs on AWS Lambda."""
    return bool(os.environ.get("AWS_LAMBDA_FUNCTION_NAME"))


def around_snapshots(*, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Register hooks for SnapStart; without Lambda's module `snapshot_restore_py` nothing happens.

    After a restore, the random number generator of registration ids is seeded again, because all processes that are
    restored from one snapshot share the state of every generator except the kernel's.

    Args:
        before: Called before a snapshot of this process is taken.
        after: Called each time the snapshot is restored.
    """
    try:
        import snapshot_restore_py
    except ImportError:
        return
    snapshot_restore_py.register_before_snapshot(before)
    snapshot_restore_py.register_after_restore(uuid_utils.reseed_rng)
    snapshot_restore_py.register_after_restore(after)


def on_sigterm(close: Callable[[], None]) -> None:
    """Call *close* when the process receives SIGTERM, then the handler that was installed before.

    Lambda sends SIGTERM if the function has an extension, and SIGKILL 300 to 500 ms later. Outside the main thread
    nothing happens, because Python allows signal handlers only there.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            close()
        finally:
            if callable(before):
                before(number, frame)
            elif before == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

    before: Any = signal.SIG_DFL
    try:
        before = signal.signal(signal.SIGTERM, handle)
    except ValueError:
        return
