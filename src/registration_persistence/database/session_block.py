"""`SessionBlock`: the session of one `with` block, which commits when the block ends."""

from contextlib import AbstractContextManager
from types import TracebackType

from sqlalchemy import Engine
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.orm import Session

from registration_persistence.database.lifecycle import detect_fork
from registration_persistence.database.session import OutcomeTrackingSession, roll_back, swallowed_error
from registration_persistence.database.session_deadline import remember_deadline


class SessionBlock(AbstractContextManager[Session]):
    """The block of `Database.session`; a class, because a generator takes more calls for each unit of work.

    Args:
        engine: The engine of the session.
        autocommit: Whether its connections are in autocommit.
    """

    __slots__ = ("_autocommit", "_engine", "_session")

    def __init__(self, engine: Engine, *, autocommit: bool) -> None:
        self._engine = engine
        self._autocommit = autocommit

    def __enter__(self) -> Session:
        detect_fork()  # before the block creates ids
        self._session = OutcomeTrackingSession(self._engine, expire_on_commit=False, close_resets_only=False)
        remember_deadline(self._session)
        return self._session

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
            elif isinstance(error, PendingRollbackError):
                raise swallowed_error(self._session, error, autocommit=self._autocommit) from error
            else:
                roll_back(self._session, after=error)
        finally:
            self._session.close()

    def _commit(self) -> None:
        try:
            self._session.commit()
        except PendingRollbackError as error:
            raise swallowed_error(self._session, error, autocommit=self._autocommit) from error
        except BaseException as error:
            roll_back(self._session, after=error)
            raise
