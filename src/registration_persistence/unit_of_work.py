"""Keys, types and functions of a unit of work that the database and the repositories share."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias
from weakref import ReferenceType

from sqlalchemy import Connection

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SessionOrConnection: TypeAlias = "Session | Connection"
"""The argument of a repository: a session, or a connection of SQLAlchemy Core."""

KEPT = "registration_persistence.kept"
"""A COMMIT, or a statement in autocommit, of this unit was kept, so a repetition would do that work twice."""

EARLIER_TRIES = "registration_persistence.earlier_tries"
"""The `unit_info` of the earlier tries of the same unit of work, oldest first; `Database.run` sets it."""

UNIT_INFO = "registration_persistence_unit_info"
"""Execution option of a connection without a session: the `unit_info` of its unit of work."""

SESSION = "registration_persistence_session"
"""Attribute of a connection of the driver: a weak reference to the session that used it last."""

TELLING: ContextVar[bool] = ContextVar("telling", default=False)
"""Whether a subscriber or an observer runs: if it uses the database, it is not told of that, again and again."""


class Hooks:
    """Functions that are installed when a database is observed for the first time in this process.

    Attributes:
        round_trip: Called at the beginning of each round trip. `None`: no database is observed.
        observe_repository: Called with each class of `repositories` that is added later, and its name.
        repositories: The classes whose public methods are repository calls, and the name of such a call; `None` for
            the names of class and method.
    """

    round_trip: ClassVar[Callable[[], None] | None] = None
    observe_repository: ClassVar[Callable[[type, str | None], None] | None] = None
    repositories: ClassVar[dict[type, str | None]] = {}

    @classmethod
    def add_repository(cls, repository: type, name: str | None = None) -> None:
        """Let the public methods of *repository* be observed.

        Args:
            repository: A class whose instances have a session or a connection in `_session`.
            name: The name of a call. Defaults to the names of class and method.
        """
        cls.repositories[repository] = name
        if cls.observe_repository is not None:
            cls.observe_repository(repository, name)


def connection_of(target: SessionOrConnection) -> Connection:
    """Return the connection on which *target* sends its statements."""
    return target if isinstance(target, Connection) else target.connection()


def unit_info(target: SessionOrConnection) -> dict[Any, Any]:
    """Return the dictionary with the keys of this module: the `info` of a session, or that of `Database.run`.

    Args:
        target: A session, or a connection. If the connection belongs to neither, the result is a new dictionary.
    """
    if not isinstance(target, Connection):
        return target.info
    own: dict[Any, Any] | None = target.get_execution_options().get(UNIT_INFO)
    if own is not None:
        return own
    reference: ReferenceType[Session] | None = getattr(target.connection.dbapi_connection, SESSION, None)
    session = None if reference is None else reference()
    return {} if session is None else session.info


def require_target(target: SessionOrConnection) -> None:
    """Check the argument of a repository, before anything is sent.

    Args:
        target: A session, or a connection.

    Raises:
        TypeError: *target* is neither; or it is the `AsyncSession` or the `AsyncConnection`, whose methods return
            coroutines.
    """
    if hasattr(type(target), "run_sync"):
        raise TypeError(
            f"a repository got an object of type {type(target).__name__}: expected a session or a connection; use "
            "`await session.run_sync(lambda s: ...)`, and give the repository the session s"
        )
    if not hasattr(target, "execute"):
        raise TypeError(
            f"a repository got an object of type {type(target).__name__[:100]}: expected a session or a connection, "
            "for example that of `with session_scope() as session`"
        )


def refuse_single(target: SessionOrConnection, what: str) -> None:
    """Refuse work that consists of several changes in `Database.run(single=True)`, before anything is sent.

    Args:
        target: A session, or a connection.
        what: Subject of the error message.

    Raises:
        RuntimeError: *target* is the connection of a unit of work with `single=True`.
    """
    if isinstance(target, Connection) and UNIT_INFO in target.get_execution_options():
        raise RuntimeError(
            f"{what} may send several changes, and single=True is for one, so nothing was sent: "
            "use run() without single=True"
        )
