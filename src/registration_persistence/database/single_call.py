"""The unit of work of `Database.run(single=True)`: one repository call on a connection without a session."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from registration_persistence.database.commit_guard import OWN_DEADLINE
from registration_persistence.database.deadlines import current_deadline
from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.errors import RegistrationPersistenceError
from registration_persistence.unit_of_work import UNIT_INFO


class SingleCalls:
    """Opens the connections of units of work that are one repository call.

    `AuroraDialect` refuses a second change in one of them. An event of SQLAlchemy for that would cost a tenth of a
    sign-up, because SQLAlchemy dispatches all events of each statement if there is a listener to one.

    Args:
        engine: The engine of the writer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Return a connection in autocommit for one block; its `unit_info` is a new dictionary."""
        detect_fork()  # before the block creates ids
        with self._engine.connect() as opened:
            connection = opened.execution_options(**{UNIT_INFO: {OWN_DEADLINE: current_deadline()}})
            try:
                yield connection
            except BaseException:
                # Nothing is undone by that; it ends SQLAlchemy's transaction, also on a connection that was lost.
                with suppress(SQLAlchemyError, RegistrationPersistenceError):
                    connection.rollback()
                raise
