"""`ObservedBlock` and `run_observed`: the units of work of a database that is observed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from registration_persistence.database.events import Events
from registration_persistence.unit_of_work import KEPT, unit_info

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from registration_persistence.database.session import SessionBlock

T = TypeVar("T")


class ObservedBlock(AbstractContextManager["Session"]):
    """The block of `Database.session` as an operation.

    Args:
        events: The events of the database.
        block: The block of the session.
        autocommit: Whether each statement of the session commits in its own transaction.
    """

    def __init__(self, events: Events, block: "SessionBlock", *, autocommit: bool) -> None:
        self._events, self._block, self._autocommit = events, block, autocommit

    def __enter__(self) -> "Session":
        self._observation = self._events.observation("unit_of_work", "session")
        try:
            self._observation.begin()
            self._session = self._block.__enter__()
        except BaseException as error:
            self._observation.end(error)
            raise
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._block.__exit__(kind, error, traceback)
            self._end(error, is_commit=False)
        except BaseException as failure:
            self._end(failure, is_commit=error is None)
            raise

    def invalidate(self) -> None:
        """End the block without waiting for the server: the connection is closed, and the server rolls back."""
        self._block.invalidate()
        self._end(GeneratorExit(), is_commit=False)

    def _end(self, error: BaseException | None, *, is_commit: bool) -> None:
        kept = KEPT in self._session.info
        self._observation.end(error, kept=kept, is_commit=is_commit or self._autocommit)


def run_observed(
    events: Events, run: Callable[[Callable[[Any], T]], T], work: Callable[[Any], T], *, autocommit: bool
) -> T:
    """Run a unit of work as an operation, and return its result.

    Args:
        events: The events of the database.
        run: Runs a function as a unit of work.
        work: The function.
        autocommit: Whether each statement of the unit of work commits in its own transaction.
    """
    infos: list[dict[Any, Any]] = []
    has_ended = False

    def noted(target: Any) -> T:
        nonlocal has_ended
        infos.append(unit_info(target))
        has_ended = False
        result = work(target)
        has_ended = True
        return result

    observation = events.observation("unit_of_work", "run")
    try:
        observation.begin()
        result = run(noted)
        observation.end(None)
    except BaseException as error:
        kept = any(KEPT in info for info in infos)
        observation.end(error, kept=kept, is_commit=has_ended or (autocommit and bool(infos)))
        raise
    return result
