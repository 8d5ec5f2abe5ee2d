"""`AsyncDatabase`: sessions and units of work of an event loop, and the connections of this process for them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from sqlalchemy import Connection
from sqlalchemy.util.concurrency import greenlet_spawn

from registration_persistence.database.awaited_database import AwaitedDatabase
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.database import Database
from registration_persistence.database.events import Events
from registration_persistence.database.health import Health
from registration_persistence.database.session import SessionBlock
from registration_persistence.database.settings import DatabaseSettings

if find_spec("greenlet") is None:  # SQLAlchemy would name an extra of its own, and only at the first import
    raise ImportError("AsyncDatabase needs the package greenlet: pip install 'registration-persistence[async]'")

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")


class AsyncDatabase:
    """A database for the tasks of an event loop, and the connections of this process to it.

    It is a `Database` whose waits let other tasks run: the same repositories, retries, deadlines and checks, with the
    same number of round trips. An event loop that has ended leaves its connections to the next one; two loops that run
    at once, in two threads, need an object each. It needs the extra `async`.

    Args:
        settings: Address, time limits and pool. With the pool `lambda`, tasks that run at once take turns with the one
            connection.
        credentials: Source of user name and password, whose methods are called in threads. Defaults to that of
            *settings*: the secret, tokens of IAM, or their user and password.

    Attributes:
        settings: The settings.
        credentials: The source of user name and password.
        events: Counters of the events between this process and the database; see `Events.subscribe`.
        engine: The SQLAlchemy engine of the writer, for code that uses SQLAlchemy's asyncio API directly.
    """

    def __init__(self, settings: DatabaseSettings, credentials: CredentialSource | None = None) -> None:
        self._awaited = AwaitedDatabase(settings, credentials)
        self.settings: DatabaseSettings = settings
        self.credentials: CredentialSource = self._awaited.credentials
        self.events: Events = self._awaited.events
        self.engine: AsyncEngine = AsyncEngine(self._awaited.engine)

    def __repr__(self) -> str:
        return f"<AsyncDatabase {self.settings.name} at {self.settings.host}:{self.settings.port}>"

    def session(
        self, *, autocommit: bool = False, read_only: bool = False
    ) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a session for one `async with` block: commit when the block ends, roll back if it raises.

        A repository is called with `await session.run_sync(lambda s: RegistrationRepository(s).get(id))`. Only one task
        at a time can use the session.

        Args:
            autocommit: Whether each statement commits in its own transaction. Use it for a block with a single
                repository call; an ORM flush of several statements is not atomic then. Defaults to false.
            read_only: Whether the server rejects writes. If the settings have a reader endpoint, the session uses it:
                its reads may be stale, and it has a connection of its own. Defaults to false.

        Raises:
            RegistrationPersistenceError: One of the errors that `Database.session` lists.
            sqlalchemy.exc.SQLAlchemyError: Another error of a statement, for example a violated constraint.
            asyncio.CancelledError: The task was cancelled. The statement was cancelled on the server, and the
                transaction was rolled back. If the task was cancelled in COMMIT, the work may have been kept; a note of
                the error and the event `commit_resolved` say whether it was.
            ValueError: *autocommit* and *read_only* are both true.
            RuntimeError: Another event loop, which is running in another thread, uses the database; two tasks used the
                session at once; or the session is used in a context in which the deadline around it does not apply.
        """
        block = cast("SessionBlock", self._awaited.session(autocommit=autocommit, read_only=read_only))
        return _AsyncSessionBlock(self._awaited.enter_loop, block)

    @overload
    async def run(
        self,
        work: Callable[["Session"], T],
        *,
        attempts: int | None = None,
        idempotent: bool = False,
        autocommit: bool = False,
        read_only: bool = False,
        single: Literal[False] = False,
    ) -> T: ...
    @overload
    async def run(
        self,
        work: Callable[[Connection], T],
        *,
        attempts: int | None = None,
        idempotent: bool = False,
        single: Literal[True],
    ) -> T: ...
    async def run(
        self,
        work: Callable[[Any], T],
        *,
        attempts: int | None = None,
        idempotent: bool = False,
        autocommit: bool = False,
        read_only: bool = False,
        single: bool = False,
    ) -> T:
        """Call *work* with a session, commit, and return its result; repeat it after a failure if that is safe.

        *work* is the plain function that a synchronous service uses, too: each statement in it lets other tasks run,
        and everything else in it blocks the event loop. It is repeated after every `retryable` error until the
        deadline, because nothing was kept, unless *work* committed something before. If *idempotent*, it is repeated
        even then, and also after `CommitOutcomeUnknown`. Without a deadline, repetitions begin for the
        `connect_timeout` of the settings, counted from the first failure.

        Args:
            work: The unit of work, a plain function, called in each attempt with a new session, or a connection if
                *single*.
            attempts: Maximum number of attempts, 1 to 1000. Defaults to `None`, for which only the time is limited.
            idempotent: Whether a repetition changes nothing if an earlier attempt was kept, as with a `register` that
                has an idempotency key. Defaults to false.
            autocommit: Whether each statement commits in its own transaction, which saves one round trip. Defaults to
                false.
            read_only: Whether the server rejects writes; a reader is used as by `session`, and *work* is always
                repeated, because it keeps nothing. Defaults to false.
            single: Whether *work* is one repository call. It is called with a `sqlalchemy.Connection` in autocommit
                instead of a session, which takes one round trip. Defaults to false.

        Raises:
            RegistrationPersistenceError: The last attempt failed, with one of the errors of `session`.
            asyncio.CancelledError: The task was cancelled, and the work is not repeated. If it was cancelled in COMMIT,
                the work may have been kept, as with `session`.
            TypeError: *work* is not a plain function, or *attempts* is not a whole number or `None`; or *work*
                returned a coroutine or a generator, and was rolled back.
            ValueError: *attempts* is not from 1 to 1000, or two of *autocommit*, *read_only* and *single* are true.
            RuntimeError: Another event loop, which is running in another thread, uses the database; or a *single* unit
                of work wanted to change something after a change that was kept.
        """
        self._awaited.enter_loop()
        options: dict[str, Any] = {"autocommit": autocommit, "read_only": read_only, "single": single}
        return cast(
            T, await greenlet_spawn(self._awaited.run, work, attempts=attempts, idempotent=idempotent, **options)
        )

    async def ping(self) -> Health:
        """Return the state of the writer; one round trip on an open connection.

        Raises:
            RegistrationPersistenceError: Connecting or the statement failed, with one of the errors of `session`.
        """
        self._awaited.enter_loop()
        return await greenlet_spawn(self._awaited.ping)

    async def warm_up(self) -> bool:
        """Read the secret and open the connection before the first request, for example at the start of a server.

        It takes at most 6 s of the 10 s that the initialisation of a Lambda may take. A failure is logged, and the
        first request tries again.

        Returns:
            Whether the database answered.
        """
        self._awaited.enter_loop()
        return await greenlet_spawn(self._awaited.warm_up)

    async def dispose(self) -> None:
        """Close the connections that are not checked out; the next use opens a new one."""
        self._awaited.dispose()

    def close_idle(self) -> None:
        """Do what `dispose` does, outside of an event loop; `get_async_db` calls it before a SnapStart snapshot."""
        self._awaited.dispose()

    def abort_connections(self) -> None:
        """Close every connection at once, including those in use, because the process ends."""
        self._awaited.abort_connections()


def async_database_beside(database: Database) -> AsyncDatabase:
    """Return an asynchronous database that shares the settings and the credentials of *database*.

    Args:
        database: The source of the credentials; both databases count the events of the credentials.
    """
    beside = AsyncDatabase(database.settings, database.credentials)
    database.events.pass_credential_events_to(beside.events)
    return beside


class _AsyncSessionBlock(AbstractAsyncContextManager[AsyncSession]):
    """The block of `AsyncDatabase.session`.

    Args:
        enter_loop: Called when the block begins.
        block: The block of the session that does the work.
    """

    def __init__(self, enter_loop: Callable[[], None], block: SessionBlock) -> None:
        self._enter_loop, self._block = enter_loop, block

    async def __aenter__(self) -> AsyncSession:
        self._enter_loop()
        session = self._block.__enter__()  # opens no connection
        return AsyncSession(sync_session_class=cast(Any, lambda **_options: session))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, GeneratorExit):  # the event loop has ended, so nothing can wait for a ROLLBACK
            self._block.invalidate()
        else:
            await greenlet_spawn(self._block.__exit__, kind, error, traceback)


def awaited_part(database: AsyncDatabase) -> tuple[Database, Callable[[], None]]:
    """Return the part of *database* that runs in SQLAlchemy's greenlet, and the check of the event loop before it."""
    return database._awaited, database._awaited.enter_loop  # noqa: SLF001 it belongs to this module
