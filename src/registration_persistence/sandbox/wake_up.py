"""`WakeUp`: the time that a paused server needs until it answers."""

import select
import socket
from threading import Event, Lock
from typing import Literal, TypeAlias

from registration_persistence.clock import monotonic

EarlyAttempts: TypeAlias = Literal["held", "closed"]
"""The result of an attempt to connect before a paused server is awake."""


class WakeUp:
    """The wake-up of a paused server, which begins with the first attempt to connect.

    Args:
        seconds: Duration of the wake-up.
        early: `held`: an attempt waits until the server is awake. `closed`: it is closed without an answer.
    """

    def __init__(self, seconds: float, early: EarlyAttempts) -> None:
        self._seconds, self._early = seconds, early
        self._lock = Lock()
        # The moment at which the server is awake, on the clock of `monotonic`. `None`: there was no attempt yet.
        self._ends_at: float | None = None
        self._has_ended = Event()

    def admits(self, client: socket.socket) -> bool:
        """Begin the wake-up unless it has begun; return whether the server answers *client*, perhaps after a wait."""
        with self._lock:
            if self._ends_at is None:
                self._ends_at = monotonic() + self._seconds
            remaining = self._ends_at - monotonic()
        if remaining > 0 and self._early == "closed":
            return self._has_ended.is_set()
        self._has_ended.wait(max(remaining, 0.0))
        return not _is_gone(client)

    def end(self) -> None:
        """Wake the server at once."""
        self._has_ended.set()


def _is_gone(client: socket.socket) -> bool:
    """Return whether the other side of *client* was closed, even if it has sent something before."""
    poll = select.poll()
    poll.register(client, getattr(select, "POLLRDHUP", 0))  # Linux has it
    return bool(poll.poll(0))
