"""`Place`: a place of a pool, for which a thread or task waits."""

from sqlalchemy.pool import ConnectionPoolEntry

from registration_persistence.database.waits import Turn


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
