"""`instrument`: metrics of a database for Prometheus."""

from collections import Counter as Sum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Pool

from registration_persistence.database import Database
from registration_persistence.database.events import CAUSES, DatabaseEvent, Events
from registration_persistence.database.operations import Operation
from registration_persistence.telemetry.instrumentation import new_events, pools_of, require_packages

require_packages("prometheus", "prometheus_client")

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from registration_persistence.database import AsyncDatabase

_PREFIX = "registration_persistence"

# From one round trip in the same availability zone to the longest resume of a paused cluster.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_NUMBERS = (1, 2, 3, 4, 5, 7, 10, 20, 50, 100)


def instrument(database: "Database | AsyncDatabase", *, registry: CollectorRegistry = REGISTRY) -> None:
    """Count the events and the units of work of *database*, and report the state of its pools at each scrape.

    The metrics of all databases of one registry are added up. A second call for the same database does nothing.

    Args:
        database: The database.
        registry: The registry of the metrics. Defaults to that of `prometheus_client`.

    Raises:
        TypeError: *database* is neither a `Database` nor an `AsyncDatabase`, or *registry* is not a registry.
    """
    if not isinstance(registry, CollectorRegistry):
        raise TypeError(f"the registry is of type {type(registry).__name__}: expected a CollectorRegistry")
    events = new_events(database, _instrumented)
    if events is None:
        return
    metrics = _metrics_of[registry] = _metrics_of.get(registry) or _Metrics(registry)
    metrics.databases.add(database)
    events.subscribe(metrics.count)
    events.observe(metrics.observe)


class _Metrics:
    """The metrics of a registry, and the collector of the state of the pools."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.databases: WeakSet[Database | AsyncDatabase] = WeakSet()
        self._events = {}
        for name, causes in CAUSES.items():
            self._events[name] = Counter(f"{_PREFIX}_{name}", f"Events {name}.", ["cause"], registry=registry)
            for cause in causes:  # `increase()` does not see the step from nothing to 1
                self._events[name].labels(cause)
        seconds: dict[str, Any] = {"buckets": _SECONDS, "registry": registry}
        numbers: dict[str, Any] = {"buckets": _NUMBERS, "registry": registry}
        work = f"{_PREFIX}_unit_of_work"
        self._connect = Histogram(f"{_PREFIX}_connect_seconds", "Time to open a connection.", ["cause"], **seconds)
        self._seconds = Histogram(f"{work}_seconds", "Time of a unit of work.", ["outcome"], **seconds)
        self._attempts = Histogram(f"{work}_attempts", "Attempts of a unit of work.", **numbers)
        self._round_trips = Histogram(f"{work}_round_trips", "Round trips of a unit of work.", **numbers)
        registry.register(self)

    def count(self, event: DatabaseEvent) -> None:
        """Count *event*."""
        self._events[event.name].labels(event.cause).inc()
        if event.name == "connection_opened":
            self._connect.labels(event.cause).observe(event.seconds)

    @contextmanager
    def observe(self, operation: Operation) -> Iterator[None]:
        """Measure *operation* if it is a unit of work."""
        yield
        if operation.kind == "unit_of_work":
            self._seconds.labels(operation.outcome).observe(operation.seconds)
            self._attempts.observe(operation.attempts)
            self._round_trips.observe(operation.round_trips)

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing, so that the registry does not collect in order to learn the names."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the state of the pools; called at each scrape."""
        states = [state for database in self.databases for state in pool_states(database)]
        family = GaugeMetricFamily(f"{_PREFIX}_pool_connections", "Connections of the pools.", labels=["state"])
        for name in ("size", "idle", "in_use", "waiting"):
            family.add_metric([name], sum(getattr(state, name) for state in states))
        yield family
