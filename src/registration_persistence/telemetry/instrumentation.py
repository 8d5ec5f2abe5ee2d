"""The checks that each integration makes: of its packages, and of the database."""

from importlib.util import find_spec
from weakref import WeakSet

from registration_persistence.database.events import Events


def require_packages(extra: str, *packages: str) -> None:
    """Check that *packages* are installed.

    Raises:
        ImportError: One is not, so the extra *extra* of this package has to be installed.
    """
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ImportError(
            f"registration_persistence.telemetry.{extra} needs {' and '.join(missing)}: "
            f"pip install 'registration-persistence[{extra}]'"
        )


def new_events(database: object, known: WeakSet[Events]) -> Events | None:
    """Return the events of *database*; `None` if they are *known* already, otherwise they are from now on.

    Raises:
        TypeError: *database* is neither a `Database` nor an `AsyncDatabase`.
    """
    events = getattr(database, "events", None)
    if not isinstance(events, Events):
        raise TypeError(f"the database is of type {type(database).__name__}: expected a Database or an AsyncDatabase")
    if events in known:
        return None
    known.add(events)
    return events
