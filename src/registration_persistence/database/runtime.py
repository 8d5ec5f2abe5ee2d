"""What the process does around the database: today, forking."""

import os
from typing import Protocol
from weakref import WeakSet


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
