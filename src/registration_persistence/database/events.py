"""What `database` reports of itself: one log line and one counter for each thing that happened, by cause."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

_logger = logging.getLogger("registration_persistence.database")


@dataclass(frozen=True, slots=True)
class DatabaseEvent:
    """Something that happened between this process and the database.

    Args:
        name: What happened, as below.
        cause: Why.

            - `connection_opened`: `cold` (the first of this process), `rotation` (the first credentials were
              refused), `thaw` (the one before did not survive its idle time), `writer_moved`, `lost`, `recycled` (after
              `dispose`, or along with others) or `further` (besides those that are open).
            - `login_rejected`: `password`.
            - `secret_read`: `cold`, `refresh` (it was old), `rotation` (after a refused login), `pending` (from the
              version that a rotation is about to make current) or `restore` (after a SnapStart snapshot).
            - `secret_stale`: `unavailable` (the last good value is used instead).
            - `wait`: `not_ready`, `no_slot`, `login_rejected` or `no_secret`, before the next attempt to connect.
            - `retry`: `connection_lost`, `writer_moved`, `transaction_conflict`, `lock_timeout` or
              `commit_outcome_unknown`: `Database.run` repeats the work.
        seconds: How long it took, or the wait before it.
    """

    name: str
    cause: str
    seconds: float


Subscriber = Callable[[DatabaseEvent], None]


@dataclass(slots=True)
class Events:
    """The events of one `Database`: counted, logged, and handed to whoever subscribed."""

    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _subscribers: list[Subscriber] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call *subscriber* with every `DatabaseEvent` from now on, in the thread where it happens.

        What it raises is logged and goes no further: a metric that cannot be sent fails no request.
        """
        self._subscribers.append(subscriber)

    def count(self, name: str, cause: str | None = None) -> int:
        """Return how often *name* happened, for one *cause* or for all."""
        with self._lock:
            return sum(n for (event, why), n in self._counts.items() if event == name and cause in (None, why))

    def emit(self, event: DatabaseEvent) -> None:
        """Count and log *event*, and hand it to the subscribers."""
        with self._lock:
            self._counts[event.name, event.cause] += 1
        _logger.info(
            "%s (%s) in %.3f s",
            event.name,
            event.cause,
            event.seconds,
            extra={"event": event.name, "cause": event.cause, "seconds": event.seconds},
        )
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                _logger.exception("a subscriber to database events failed on %s", event.name)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = Lock()
