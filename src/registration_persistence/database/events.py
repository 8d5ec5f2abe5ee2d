"""`DatabaseEvent` and `Events`: one log line and one counter for each event between this process and the database."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from registration_persistence.light_dataclass import dataclass
from registration_persistence.plain_function import require_plain_function
from registration_persistence.unit_of_work import TELLING

if TYPE_CHECKING:
    from registration_persistence.database.operations import Observation, Observer, OperationKind

EventName: TypeAlias = Literal[
    "connection_opened",
    "login_rejected",
    "secret_read",
    "secret_stale",
    "wait",
    "retry",
    "commit_resolved",
    "reader_unavailable",
]

CREDENTIAL_EVENTS: frozenset[EventName] = frozenset({"secret_read", "secret_stale"})
"""The events of the source of the credentials, which databases may share."""

OpeningCause: TypeAlias = Literal[
    "cold", "rotation", "thaw", "failover", "writer_moved", "lost", "recycled", "further", "reader", "reader_fallback"
]
"""Why a connection was opened."""

SecretReadCause: TypeAlias = Literal["cold", "refresh", "rotation", "pending", "restore"]
"""Why Secrets Manager was called."""

WaitCause: TypeAlias = Literal["not_ready", "no_slot", "login_rejected", "no_secret"]
"""Why the next attempt to connect waits."""

RetryCause: TypeAlias = Literal[
    "connection_lost",
    "writer_moved",
    "transaction_conflict",
    "lock_timeout",
    "attempt_not_counted",
    "not_connected",
    "commit_outcome_unknown",
]
"""Why `Database.run` repeats a unit of work."""

CommitCause: TypeAlias = Literal["kept", "not_kept", "unknown"]
"""The state of the work after a COMMIT whose reply was lost."""

ReaderFailure: TypeAlias = Literal["not_ready", "no_slot", "login_rejected", "rejected"]
"""Why the reader endpoint gave no connection."""

EventCause: TypeAlias = (
    OpeningCause
    | SecretReadCause
    | WaitCause
    | RetryCause
    | CommitCause
    | ReaderFailure
    | Literal["password", "unavailable"]
)

CAUSES: Mapping[EventName, tuple[EventCause, ...]] = {
    "connection_opened": get_args(OpeningCause),
    "login_rejected": ("password",),
    "secret_read": get_args(SecretReadCause),
    "secret_stale": ("unavailable",),
    "wait": get_args(WaitCause),
    "retry": get_args(RetryCause),
    "commit_resolved": get_args(CommitCause),
    "reader_unavailable": get_args(ReaderFailure),
}
"""The causes of each event."""

_logger = logging.getLogger("registration_persistence.database")


@dataclass(frozen=True, slots=True)
class DatabaseEvent:
    """An event between this process and the database.

    Args:
        name: The kind of event.

            - `connection_opened`: a connection was opened.
            - `login_rejected`: the server rejected a user name or password.
            - `secret_read`: Secrets Manager returned the secret.
            - `secret_stale`: the secret could not be read again, so the last good value stays in use.
            - `wait`: an attempt to connect failed, and the next one waits.
            - `retry`: `Database.run` repeats the unit of work.
            - `commit_resolved`: the reply to a COMMIT, or to a statement in autocommit, was lost, and its evidence was
              looked for.
            - `reader_unavailable`: the reader endpoint gave no connection, so read-only sessions use the writer.
        cause: The reason, by *name*.

            - `connection_opened`: `cold` (the first connection of this process), `rotation` (the server rejected the
              credentials that were tried first), `thaw` (the previous connection broke while it was idle, and the
              server was available), `failover` (the previous one broke, and since its last use the server was not
              ready, for example paused, or moved to another address), `writer_moved` (the server of the previous one
              became read-only), `lost` (the previous one broke in use), `recycled` (the previous one was closed, by
              `dispose` or together with others), `further` (one more, beside those that are open), or for a read-only
              session `reader` (the reader endpoint answered) or `reader_fallback` (it did not, so the writer did).
            - `login_rejected`: `password`.
            - `secret_read`: `cold` (the first read), `refresh` (the cached value was old), `rotation` (after a rejected
              login), `pending` (the version that a rotation has not made current yet) or `restore` (after a SnapStart
              snapshot).
            - `secret_stale`: `unavailable`.
            - `wait`: `not_ready`, `no_slot`, `login_rejected` or `no_secret`.
            - `retry`: `connection_lost`, `writer_moved`, `transaction_conflict`, `lock_timeout`, `attempt_not_counted`,
              `not_connected` (no connection could be opened) or `commit_outcome_unknown`.
            - `commit_resolved`: `kept`, `not_kept` or `unknown`.
            - `reader_unavailable`: `not_ready`, `no_slot`, `login_rejected` or `rejected` (TLS or `pg_hba.conf`).
        seconds: The duration of the event in seconds; for `wait` and `retry`, the wait that follows.
    """

    name: EventName
    cause: EventCause
    seconds: float


Subscriber: TypeAlias = Callable[[DatabaseEvent], None]

EventCallback: TypeAlias = Callable[[EventName, EventCause, float], None]
"""A function that takes the fields of a `DatabaseEvent`."""


class Events:
    """Counts and logs the events of one `Database`, and tells subscribers and observers.

    Attributes:
        observers: The observers so far; see `observe`.
        origin: The events of the database that passes its events of the shared credentials on; `None` if there is none.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[EventName, EventCause]] = Counter()
        self._subscribers: list[Subscriber] = []
        self._lock = Lock()
        self.observers: tuple[Observer, ...] = ()
        self.origin: Events | None = None
        self._beside: list[Events] = []
        # The failures of subscribers and observers that were logged.
        self._failures: set[tuple[int, str, str]] = set()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call *subscriber* with each `DatabaseEvent` from now on.

        An exception of *subscriber* is logged once for each class and event, and dropped, so that a failing metric
        fails no request. A subscriber that uses the database itself is not told of what happens meanwhile.

        Args:
            subscriber: A plain function, called in the thread in which the event happens.

        Raises:
            TypeError: *subscriber* is not a plain function.
        """
        require_plain_function(subscriber, "the subscriber")
        self._subscribers.append(subscriber)

    def observe(self, observer: "Observer") -> None:
        """Call *observer* with each `Operation` that begins from now on: each connect, unit of work, repository call.

        The context manager that *observer* returns is entered when the operation begins and left when it ends, without
        an exception. If *observer* or its context manager raises an exception, this is logged once for each class, and
        the operation goes on. An observer that uses the database itself is not told of what happens meanwhile.

        Args:
            observer: A plain function, called in the thread or task of the operation, which waits for it.

        Raises:
            TypeError: *observer* is not a plain function.
        """
        require_plain_function(observer, "the observer")
        from registration_persistence.database.observed_calls import install_hooks  # few services need it

        install_hooks()
        with self._lock:
            self.observers = (*self.observers, observer)

    def observation(self, kind: "OperationKind", name: str) -> "Observation":
        """Return a new operation for the observers.

        Args:
            kind: The kind of operation.
            name: The name of the operation.
        """
        from registration_persistence.database.operations import Observation

        return Observation(self.observers, self._log_failure, kind, name)

    def count(self, name: EventName, cause: EventCause | None = None) -> int:
        """Return the number of events so far.

        Args:
            name: The kind of event.
            cause: The only cause to count. Defaults to all.
        """
        with self._lock:
            return sum(n for (event, why), n in self._counts.items() if event == name and cause in (None, why))

    def emit(self, event: DatabaseEvent) -> None:
        """Count *event*, log it at level INFO unless the origin has logged it, and pass it to the subscribers."""
        with self._lock:
            self._counts[event.name, event.cause] += 1
        if self.observers:
            from registration_persistence.database.operations import note_event

            note_event(event.name, event.cause)
        if self.origin is None or event.name not in CREDENTIAL_EVENTS:
            extra = {"event": event.name, "cause": event.cause, "seconds": event.seconds}
            _logger.info("%s (%s) in %.3f s", event.name, event.cause, event.seconds, extra=extra)
        for other in self._beside if event.name in CREDENTIAL_EVENTS else ():
            other.emit(event)
        if self._subscribers and not TELLING.get():
            try:
                TELLING.set(True)
                self._tell(event)
            finally:
                TELLING.set(False)

    def pass_credential_events_to(self, other: "Events") -> None:
        """Let *other*, of a database that shares the credentials, emit their events too, without a second log line."""
        other.origin = self
        self._beside.append(other)

    def _tell(self, event: DatabaseEvent) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception as error:  # noqa: BLE001 it must not change the request
                self._log_once(subscriber, "a subscriber to database events failed on %s", event.name, error)

    def _log_failure(self, observer: "Observer", moment: str, error: Exception) -> None:
        self._log_once(observer, "an observer of database operations failed when it was %s", moment, error)

    def _log_once(self, who: object, message: str, when: str, error: Exception) -> None:
        """Log *error* with *message*, unless one of its class was logged before for *who* and *when*."""
        failure = (id(who), when, type(error).__name__)
        if failure not in self._failures:
            self._failures.add(failure)
            error.__context__ = None  # the error of the request, whose text may hold personal data
            _logger.error(f"{message}; this is logged once for each class of error", when, exc_info=error)  # noqa: G004 the text is constant

    def after_fork_in_child(self) -> None:
        """Replace the lock, because another thread of the parent may have held it during the fork."""
        self._lock = Lock()
