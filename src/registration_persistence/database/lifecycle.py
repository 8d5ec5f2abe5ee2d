"""What the process goes through around the database: forks, Lambda's snapshots and its end."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol
from weakref import WeakSet

import uuid_utils


class Forkable(Protocol):
    """Something that must not share sockets and locks with the process it was forked from."""

    def after_fork_in_child(self) -> None:
        """Give up what belongs to the parent, without closing it."""


_forkables: "WeakSet[Forkable]" = WeakSet()


def reset_in_forked_children(forkable: Forkable) -> None:
    """Call *forkable*'s `after_fork_in_child` in every child that this process forks while *forkable* lives."""
    _forkables.add(forkable)


def _after_fork_in_child() -> None:
    for forkable in list(_forkables):
        forkable.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def in_lambda() -> bool:
    """Tell whether this process is a Lambda's."""
    return bool(os.environ.get("AWS_LAMBDA_FUNCTION_NAME"))


def around_snapshots(*, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Call *before* a SnapStart snapshot is taken of this process, and *after* each time that it is restored.

    Processes that are restored from one snapshot share the state of every random number generator but the kernel's, so
    the one that makes registration ids gets another. Without Lambda's module `snapshot_restore_py` nothing happens.
    """
    try:
        import snapshot_restore_py
    except ImportError:
        return
    snapshot_restore_py.register_before_snapshot(before)
    snapshot_restore_py.register_after_restore(uuid_utils.reseed_rng)
    snapshot_restore_py.register_after_restore(after)


def on_sigterm(close: Callable[[], None]) -> None:
    """Call *close* when Lambda ends this process, then whatever handled SIGTERM before.

    Lambda sends SIGTERM where the function has an extension, and SIGKILL 300 to 500 ms later. Does nothing outside the
    main thread, where Python allows no handlers.
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
