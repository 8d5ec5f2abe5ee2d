"""Metrics for Prometheus; needs the extra `prometheus`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from registration_persistence.database.events import CAUSES, DatabaseEvent
from registration_persistence.database.operations import Operation
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.telemetry.attachment import AnyDatabase, attach
from registration_persistence.telemetry.pools import pool_states

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
except ImportError as _error:
    raise ImportError("prometheus_client is missing: pip install 'registration-persistence[prometheus]'") from _error

_NAME = "registration_persistence"

# From one round trip in the same availability zone to the longest resume of a paused cluster.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_NUMBERS = (1, 2, 3, 4, 5, 7, 10, 20, 50, 100)

_metrics_of: "WeakKeyDictionary[CollectorRegistry, _Metrics]" = WeakKeyDictionary()


def instrument(database: AnyDatabase, *, registry: CollectorRegistry = REGISTRY) -> None:
    """Count the events and the units of work of *database*, and report the state of its pools at each scrape.

    The metrics of all databases of a registry are added up. A second call for the same database changes nothing.

    Args:
        database: A `Database` or an `AsyncDatabase`.
        registry: The registry of the metrics. Defaults to that of `prometheus_client`.

    Raises:
        TypeError: *database* is neither of them, or *registry* is not a registry.
    """
    if not isinstance(registry, CollectorRegistry):
        raise TypeError(f"the registry is of type {type(registry).__name__[:100]}: expected a CollectorRegistry")
    attach(database, _Prometheus, database, registry)


class _Metrics:
    """The metrics of a registry, which collects the state of the pools from it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.databases: WeakSet[Any] = WeakSet()
        self.events: dict[str, Counter] = {}
        for event, causes in CAUSES.items():
            self.events[event] = Counter(f"{_NAME}_{event}", f"Events {event}.", ["cause"], registry=registry)
            for cause in causes:  # `increase()` does not see the step from nothing to 1
                self.events[event].labels(cause)

        def histogram(name: str, of: str, *labels: str) -> Histogram:
            buckets = _SECONDS if name.endswith("seconds") else _NUMBERS
            return Histogram(f"{_NAME}_{name}", f"{of}.", labels, buckets=buckets, registry=registry)

        self.connect = histogram("connect_seconds", "Time to open a connection", "cause")
        self.seconds = histogram("unit_of_work_seconds", "Time of a unit of work", "outcome")
        self.attempts = histogram("unit_of_work_attempts", "Attempts of a unit of work")
        self.round_trips = histogram("unit_of_work_round_trips", "Round trips of a unit of work")
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the state of the pools; called at each scrape."""
        states = [state for database in self.databases for state in pool_states(database)]
        connections = GaugeMetricFamily(f"{_NAME}_pool_connections", "Connections by state.", labels=["state"])
        connections.add_metric(["idle"], sum(state.idle for state in states))
        connections.add_metric(["in_use"], sum(state.in_use for state in states))
        size, waiting = sum(state.size for state in states), sum(state.waiting for state in states)
        yield connections
        yield GaugeMetricFamily(f"{_NAME}_pool_size", "Maximum number of connections.", value=size)
        yield GaugeMetricFamily(f"{_NAME}_pool_waiting", "Callers that wait for a connection.", value=waiting)


class _Prometheus:
    """Reports one database to the metrics of a registry."""

    def __init__(self, _settings: DatabaseSettings, database: AnyDatabase, registry: CollectorRegistry) -> None:
        self._metrics = _metrics_of[registry] = _metrics_of.get(registry) or _Metrics(registry)
        self._metrics.databases.add(database)

    def on_event(self, event: DatabaseEvent) -> None:
        """Count *event*."""
        self._metrics.events[event.name].labels(event.cause).inc()
        if event.name == "connection_opened":
            self._metrics.connect.labels(event.cause).observe(event.seconds)

    @contextmanager
    def __call__(self, operation: Operation) -> Iterator[None]:
        """Measure *operation* if it is a unit of work."""
        yield
        if operation.kind == "unit_of_work":
            self._metrics.seconds.labels(operation.outcome).observe(operation.seconds)
            self._metrics.attempts.observe(operation.attempts)
            self._metrics.round_trips.observe(operation.round_trips)
