"""`Place`: a place of a pool, for which a thread or task waits; `PoolState`: how many there are in each state."""

from sqlalchemy.pool import ConnectionPoolEntry

from registration_persistence.database.waits import Turn
from registration_persistence.errors import PoolExhausted
from registration_persistence.light_dataclass import dataclass


class Place:
    """A place of the pool, for which a caller waits.

    Args:
        turn: Ends the wait.
        caller: The thread or task that waits.

    Attributes:
        turn: Ends the wait.
        caller: The thread or task that waits.
        is_given: Whether the caller has the place.
        record: The idle connection in the place; `None` if the caller has to open one.
    """

    __slots__ = ("caller", "is_given", "record", "turn")

    def __init__(self, turn: Turn, caller: object) -> None:
        self.turn: Turn = turn
        self.caller: object = caller
        self.is_given: bool = False
        self.record: ConnectionPoolEntry | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """The number of connections of a pool in each state.

    Args:
        size: The maximum number of connections.
        idle: The number of open connections that nobody uses.
        in_use: The number of connections that are checked out or being opened.
        waiting: The number of threads or tasks that wait for a connection.
    """

    size: int
    idle: int
    in_use: int
    waiting: int


def exhausted(size: int, waited: float | None, fix: str, *, is_nested: bool) -> PoolExhausted:
    """Return an error that names the fix.

    Args:
        size: The maximum number of connections of the pool.
        waited: The seconds that the caller waited; `None` if the pool lets nobody wait.
        fix: The change that gives the pool more connections.
        is_nested: Whether the caller holds the only connection itself, so that a repetition would not succeed.
    """
    if is_nested:
        message = (
            "this process's one connection is already checked out: use the session that is open instead of "
            f"opening another inside it, or {fix}"
        )
    elif waited is None:
        message = f"this process's one connection is checked out in another thread: {fix}"
    else:
        connections = "the one connection" if size == 1 else f"all {size} connections"
        message = (
            f"{connections} of this process stayed checked out for {round(waited, 1):g} s: "
            f"close sessions sooner, or {fix}"
        )
    return PoolExhausted(message, retryable=not is_nested)
