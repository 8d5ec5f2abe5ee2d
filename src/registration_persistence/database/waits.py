"""`Waits`: how a database waits for time, for a place in its pool, for a call and for its server."""

import time
from collections.abc import Callable
from threading import Event, get_ident
from typing import Any, ParamSpec, Protocol, TypeVar

from registration_persistence.database.connection import BoundedConnection

P = ParamSpec("P")
T = TypeVar("T")

DRIVER_NAME = "postgresql+psycopg_aurora"
"""The name of `AuroraDialect` in a URL."""


class CallUnfinished(Exception):
    """The deadline came before the end of a call, which goes on in another thread."""


class Turn(Protocol):
    """The turn of one caller who waits."""

    def wait(self, seconds: float) -> None:
        """Wait until `come` is called, at most *seconds*."""

    def come(self) -> None:
        """End the wait; called once, from any thread."""


class Waits(Protocol):
    """How a database waits; everything else is the same for threads and for tasks of an event loop.

    Attributes:
        driver_name: The name of the dialect in a URL.
        others_run: Whether other users of the only connection of a process can run while one waits for it.
    """

    driver_name: str
    others_run: bool

    def enter(self) -> None:
        """Check that the caller can wait for a connection; called before each checkout."""

    def sleep(self, seconds: float) -> None:
        """Wait for *seconds*."""

    def call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Return the result of *function*, which may block its thread.

        Raises:
            CallUnfinished: The deadline came first, and the call goes on in another thread.
            BaseException: The error of *function*.
        """

    def turn(self) -> Turn:
        """Return a new turn of the caller."""

    def caller(self) -> object:
        """Return something that is equal for the same thread or task, and only for it."""

    def connection_class(self, *, traced: bool) -> type[BoundedConnection[Any]]:
        """Return the class of the connections, or the one that reports the SQLSTATE of a failed login."""


class _BlockedThread:
    """A turn that blocks its thread."""

    def __init__(self) -> None:
        self._has_come = Event()

    def wait(self, seconds: float) -> None:
        self._has_come.wait(seconds)

    def come(self) -> None:
        self._has_come.set()


class BlockingWaits:
    """Waits that block their thread."""

    driver_name: str = DRIVER_NAME
    # A Lambda environment handles one request at a time.
    others_run: bool = False

    def enter(self) -> None:
        """Do nothing: each thread can wait."""

    def sleep(self, seconds: float) -> None:
        """Wait for *seconds*."""
        time.sleep(seconds)

    def call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call *function*."""
        return function(*arguments, **named)

    def turn(self) -> Turn:
        """Return a new turn of this thread."""
        return _BlockedThread()

    def caller(self) -> object:
        """Return the id of this thread."""
        return get_ident()

    def connection_class(self, *, traced: bool) -> type[BoundedConnection[Any]]:
        """Return the class of the connections."""
        if not traced:
            return BoundedConnection
        from registration_persistence.database.traced_connection import TracedConnection  # few logins need it

        return TracedConnection


BLOCKING: Waits = BlockingWaits()
"""The waits of `Database`."""
