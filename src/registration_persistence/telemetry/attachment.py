"""`attach`: lets an integration observe a database, once."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from registration_persistence.database.database import Database
from registration_persistence.database.events import CREDENTIAL_EVENTS, DatabaseEvent, Events
from registration_persistence.database.lifecycle import ForkableLock
from registration_persistence.database.operations import Operation

if TYPE_CHECKING:
    from registration_persistence.database.async_database import AsyncDatabase

AnyDatabase: TypeAlias = "Database | AsyncDatabase"


_one_at_a_time = ForkableLock()


class Integration(Protocol):
    """An observer of operations that receives the events, too."""

    def __call__(self, operation: Operation, /) -> AbstractContextManager[None]:
        """Return the context manager of *operation*."""

    def on_event(self, event: DatabaseEvent) -> None:
        """Report *event*."""


def attach(database: AnyDatabase, integration: Callable[..., Integration], *arguments: object) -> None:
    """Let a new *integration* observe *database*, unless one of its class does so already.

    Databases that share their credentials both have the events of these. They are reported once, by the database to
    which the credentials belong if it is observed, too.

    Args:
        database: The database.
        integration: The class of the integration, called with the settings of the database and *arguments*.
        arguments: Further arguments of the class.

    Raises:
        TypeError: *database* is neither a `Database` nor an `AsyncDatabase`.
    """
    events: object = getattr(database, "events", None)
    if not isinstance(events, Events) or isinstance(database, type):
        raise TypeError(
            f"the database is of type {type(database).__name__[:100]}: expected a Database or an AsyncDatabase, for "
            "example get_db()"
        )
    with _one_at_a_time.held():
        if not _has(events, integration):
            added = integration(database.settings, *arguments)

            def report(event: DatabaseEvent) -> None:
                if event.name not in CREDENTIAL_EVENTS or not _has(events.origin, integration):
                    added.on_event(event)

            events.subscribe(report)
            events.observe(added)


def _has(events: Events | None, integration: Callable[..., Integration]) -> bool:
    return events is not None and any(type(observer) is integration for observer in events.observers)
