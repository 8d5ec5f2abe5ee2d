"""The unit of work of `Database.run(single=True)`: one repository call on a connection without a session."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.database.deadlines import Deadline, applies_here, current_deadline
from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.database.reading_statements import only_reads
from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.unit_of_work import KEPT, UNIT_INFO

_DEADLINE = "registration_persistence.deadline"


class SingleCalls:
    """Opens the connections of units of work that are one repository call.

    Args:
        engine: The engine of the writer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        event.listen(self._engine, "before_cursor_execute", _refuse_second_change)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Return a connection in autocommit for one block; its `unit_info` is a new dictionary."""
        detect_fork()  # before the block creates ids
        with self._engine.connect() as opened:
            connection = opened.execution_options(**{UNIT_INFO: {_DEADLINE: current_deadline()}})
            try:
                yield connection
            except BaseException:
                # Nothing is undone by that; it ends SQLAlchemy's transaction, also on a connection that was lost.
                with suppress(SQLAlchemyError, RegistrationPersistenceError):
                    connection.rollback()
                raise


def _refuse_second_change(connection: Connection, cursor: Any, statement: str, *_arguments: object) -> None:
    """Refuse a change after one that was kept, and a statement that would not commit; called before each statement.

    Raises:
        RuntimeError: Something was kept already, the connection has left autocommit, or the deadline of the unit of
            work does not apply here.
    """
    if not cursor.connection.autocommit:
        raise RuntimeError(
            "the isolation level of this connection was changed, so the statement would be rolled back at the end, and "
            "was not sent: use run() without single=True, or the engine, for another isolation level"
        )
    info: dict[str, Any] = connection.get_execution_options()[UNIT_INFO]
    if KEPT in info and not only_reads(statement):
        raise RuntimeError(
            "a change of this unit of work was kept already, so this statement was not sent: single=True is for one "
            "repository call; use run() without single=True for several, which share a transaction"
        )
    own: Deadline | None = info[_DEADLINE]
    if own is not None and not applies_here(own):
        raise RuntimeError(
            "the deadline of this unit of work is that of another thread or context, and does not apply here, so the "
            "statement was not sent: use the connection in the function that run() calls, in the same thread"
        )
