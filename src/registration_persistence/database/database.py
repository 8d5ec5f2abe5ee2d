"""`Database`: the entry point of this room; sessions, units of work, and the connections of this process."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from registration_persistence.database.credentials.factory import credentials_for
from registration_persistence.database.credentials.source import CredentialSource
from registration_persistence.database.deadlines import deadline
from registration_persistence.database.engine import create_database_engine, create_reader_engine
from registration_persistence.database.events import DatabaseEvent, EventCause, EventName, Events
from registration_persistence.database.health import WARM_UP_TIMEOUT_SECONDS, Health, answers_in_time, measure_health
from registration_persistence.database.lifecycle import detect_fork, reset_in_forked_children
from registration_persistence.database.open_connections import OpenConnections
from registration_persistence.database.retry import require_attempts, run_with_retries
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.database.single_call import SingleCalls
from registration_persistence.database.waits import BLOCKING, Waits
from registration_persistence.plain_function import UNIT_OF_WORK_ADVICE, require_plain_function

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from registration_persistence.database.session import SessionBlock

T = TypeVar("T")


class Database:
    """A database and the connections of this process to it; the first one is opened at first use.

    Args:
        settings: Address, time limits and pool.
        credentials: Source of user name and password. Defaults to that of *settings*: the secret, tokens of IAM, or
            their user and password.

    Attributes:
        settings: The settings.
        credentials: The source of user name and password.
        events: Counters of the events between this process and the database; see `Events.subscribe`.
        engine: The SQLAlchemy engine of the writer, for code that uses SQLAlchemy directly.
        engines: The engine of the writer, and that of the readers if the settings have a reader endpoint.
    """

    # The waits of its connections; those of `AwaitedDatabase` are others.
    _waits: Waits = BLOCKING

    def __init__(self, settings: DatabaseSettings, credentials: CredentialSource | None = None) -> None:
        self.settings = settings
        self.events: Events = Events()
        self.credentials: CredentialSource = credentials or credentials_for(settings, on_event=self._emit)
        credentials_in_use = self._credentials_in_use()
        self.engine: Engine = create_database_engine(settings, credentials_in_use, self.events, self._waits)
        readers = create_reader_engine(settings, credentials_in_use, self.events, self._waits)
        self.engines: list[Engine] = [self.engine, readers] if readers else [self.engine]
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._single_calls = SingleCalls(self.engine)
        self._read_only = self.engines[-1].execution_options(postgresql_readonly=True)
        self._open_connections = OpenConnections(*self.engines)
        for engine in self.engines:  # the listener keeps the database alive too, for `reset_in_forked_children`
            event.listen(engine, "connect", self._track)
        reset_in_forked_children(self)

    def __repr__(self) -> str:
        return f"<Database {self.settings.name} at {self.settings.host}:{self.settings.port}>"

    def session(self, *, autocommit: bool = False, read_only: bool = False) -> AbstractContextManager["Session"]:
        """Open a session for one block: commit when the block ends, roll back if it raises.

        On an open connection, each statement takes one round trip, and COMMIT takes one more, which *autocommit*
        saves. Objects stay readable after the block.

        Args:
            autocommit: Whether each statement commits in its own transaction. Use it for a block with a single
                repository call; an ORM flush of several statements is not atomic then. Defaults to false.
            read_only: Whether the server rejects writes. If the settings have a reader endpoint, the session uses it:
                its reads may be stale, and it has a connection of its own. Defaults to false.

        Raises:
            SecretUnavailable, SecretRefused, SecretMalformed: The credentials cannot be read.
            CredentialsRejected, ConnectionRejected: The server rejected the login or the client.
            DatabaseUnavailable, TooManyConnections: No connection could be opened in time.
            PoolExhausted: All connections of this process are checked out.
            ConnectionLost, WriterMoved: The connection broke, or its server became read-only; nothing was kept.
            CommitOutcomeUnknown: The connection broke during COMMIT, or during a statement under *autocommit*, and no
                evidence of the work could be looked for; if there is some, the block ends as if nothing had happened,
                or `ConnectionLost` is raised.
            TransactionAborted: The block swallowed the error of a statement, so its transaction cannot be committed.
            TransactionConflict, LockTimeout, StatementTimeout, SchemaOutdated: The server refused a statement.
            AttemptNotCounted: A wrong code was rolled back, and could not be counted again.
            sqlalchemy.exc.SQLAlchemyError: Another error of a statement, for example a violated constraint.
            ValueError: *autocommit* and *read_only* are both true.
            RuntimeError: The session is used in a thread or context in which the deadline around it does not apply;
                nothing was sent.
        """
        block = self._session(autocommit=autocommit, read_only=read_only)
        if not self.events.observers:
            return block
        from registration_persistence.database.observed_units import ObservedBlock

        return ObservedBlock(self.events, block, autocommit=autocommit)

    @overload
    def run(
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
    def run(
        self,
        work: Callable[[Connection], T],
        *,
        attempts: int | None = None,
        idempotent: bool = False,
        single: Literal[True],
    ) -> T: ...
    def run(
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

        It is repeated after every `retryable` error until the deadline, because nothing was kept, unless *work*
        committed something before. If *idempotent*, it is repeated even then, and also after
        `CommitOutcomeUnknown`. Without a deadline, repetitions begin for the `connect_timeout` of the settings, counted
        from the first failure. Side effects of *work* outside the database happen in each attempt.

        Args:
            work: The unit of work, a plain function, called in each attempt with a new session, or a connection if
                *single*.
            attempts: Maximum number of attempts, 1 to 1000. Defaults to `None`, for which only the time is limited.
            idempotent: Whether a repetition changes nothing if an earlier attempt was kept, as with a `register` that
                has an idempotency key. Defaults to false.
            autocommit: Whether each statement commits in its own transaction, which saves one round trip. If a
                statement was kept and a later one fails, *work* is repeated only if it is *idempotent*. Defaults to
                false.
            read_only: Whether the server rejects writes; a reader is used as by `session`, and *work* is always
                repeated, because it keeps nothing. Defaults to false.
            single: Whether *work* is one repository call. It is called with a `sqlalchemy.Connection` in autocommit
                instead of a session, which takes one round trip and the least time; if the reply is lost, its evidence
                is looked for. Each method of a repository can be called, but not `bulk_import`. Defaults to false.

        Raises:
            CommitOutcomeUnknown: The connection broke during COMMIT, in the last attempt or in an earlier one.
            RegistrationPersistenceError: The last attempt failed, with one of the errors of `session`.
            TypeError: *work* is not a plain function, or *attempts* is not a whole number or `None`, and nothing was
                sent; or *work* returned a coroutine or a generator, and was rolled back, except what *autocommit* or
                *single* had kept.
            ValueError: *attempts* is not from 1 to 1000, or two of *autocommit*, *read_only* and *single* are true.
            RuntimeError: A *single* unit of work wanted to change something after a change that was kept, changed the
                isolation level of its connection, or called `bulk_import`; that statement was not sent.
        """
        require_plain_function(work, "the unit of work", UNIT_OF_WORK_ADVICE)
        require_attempts(attempts)
        if single and (autocommit or read_only):
            raise ValueError("single is true with autocommit or read_only: expected one, because single=True commits")
        in_session = partial(self._session, autocommit=autocommit, read_only=read_only)
        open_target: Callable[[], AbstractContextManager[Any]] = self._single_calls.connection if single else in_session
        run: Callable[[Callable[[Any], T]], T] = partial(
            run_with_retries,
            open_target,
            attempts=attempts,
            seconds_without_deadline=self.settings.connect_timeout,
            idempotent=idempotent or read_only,
            on_retry=partial(self._emit, "retry"),
            sleep=self._waits.sleep,
        )
        if not self.events.observers:
            return run(work)
        from registration_persistence.database.observed_units import run_observed

        return run_observed(self.events, run, work, autocommit=autocommit or single)

    def warm_up(self) -> bool:
        """Read the secret and open the connection before the first request, during the initialisation of a Lambda.

        It takes at most 6 s of the 10 s that Lambda allows. A failure is logged, and the first request tries again. A
        connection to a reader is not opened before its first use.

        Returns:
            Whether the database answered.
        """
        return answers_in_time(self.ping)

    def ping(self) -> Health:
        """Return the state of the writer; one round trip on an open connection.

        Raises:
            RegistrationPersistenceError: Connecting or the statement failed, with one of the errors of `session`.
        """
        return measure_health(self._autocommit)

    def dispose(self) -> None:
        """Close the connections that are not checked out; the next use opens a new one."""
        for engine in self.engines:
            engine.dispose()

    def after_fork_in_child(self) -> None:
        """Drop the parent's connections and locks without closing them; called in a forked child."""
        self._open_connections.after_fork_in_child()
        self.events.after_fork_in_child()
        self.credentials.after_fork_in_child()

    def after_restore(self) -> None:
        """Read the secret again after a SnapStart snapshot was restored, which may be weeks old; `get_db` calls it."""
        with deadline(WARM_UP_TIMEOUT_SECONDS, reserve=0):
            self.credentials.refresh()

    def abort_connections(self) -> None:
        """Close every connection at once, including those in use, because the process ends."""
        detect_fork()
        self._open_connections.abort()

    def _session(self, *, autocommit: bool, read_only: bool) -> "SessionBlock":
        if autocommit and read_only:
            raise ValueError(
                "autocommit and read_only are both true: expected one, because only a transaction is read-only"
            )
        # The ORM is a tenth of a cold start, and run(single=True) needs no session.
        from registration_persistence.database.session import SessionBlock

        engine = self._autocommit if autocommit else self._read_only if read_only else self.engine
        return SessionBlock(engine, autocommit=autocommit)

    def _credentials_in_use(self) -> CredentialSource:
        """Return the source that the connections ask for credentials."""
        return self.credentials

    def _track(self, connection: psycopg.Connection[Any], record: ConnectionPoolEntry) -> None:  # noqa: ARG002 a subclass uses it
        self._open_connections.add(connection)

    def _emit(self, name: EventName, cause: EventCause, seconds: float) -> None:
        self.events.emit(DatabaseEvent(name, cause, seconds))
