"""Spans and metrics for OpenTelemetry; needs the extra `opentelemetry`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from registration_persistence.database.events import DatabaseEvent, EventName
from registration_persistence.database.operations import Operation
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.telemetry.attachment import AnyDatabase, attach

try:
    from opentelemetry import metrics, trace

    from registration_persistence.telemetry.opentelemetry_contexts import EnteredContext, leave_ended_contexts
    from registration_persistence.telemetry.opentelemetry_pools import report_pools
except ImportError as _error:
    raise ImportError("opentelemetry is missing: pip install 'registration-persistence[opentelemetry]'") from _error

_NAME = "registration_persistence"
# The boundaries that the semantic conventions advise, in seconds, and ours for small whole numbers.
_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_NUMBERS = (0, 1, 2, 3, 4, 5, 10, 25, 100)


def instrument(database: AnyDatabase) -> None:
    """Report each connect, unit of work and repository call of *database* as a span, and measure them.

    Spans and metrics go to the global providers of OpenTelemetry, also if these are set later. A second call for the
    same database changes nothing. No attribute holds data of a person.

    Args:
        database: A `Database` or an `AsyncDatabase`.

    Raises:
        TypeError: *database* is neither of them.
    """
    attach(database, _OpenTelemetry, database)


class _OpenTelemetry:
    """The spans and metrics of one database, named by the semantic conventions for database clients."""

    def __init__(self, settings: DatabaseSettings, database: AnyDatabase) -> None:
        self._tracer, meter = trace.get_tracer(_NAME), metrics.get_meter(_NAME)
        self._database: dict[str, str | int] = {
            "db.system.name": "postgresql",
            "db.namespace": settings.name,
            "server.address": settings.host,
            "server.port": settings.port,
        }
        self._pool = report_pools(database, meter)

        def histogram(name: str, unit: str) -> metrics.Histogram:
            boundaries = _SECONDS if unit == "s" else _NUMBERS
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=boundaries)

        self._call_seconds = histogram("db.client.operation.duration", "s")
        self._connect_seconds = histogram("db.client.connection.create_time", "s")
        self._unit_seconds = histogram(f"{_NAME}.unit_of_work.seconds", "s")
        self._attempts = histogram(f"{_NAME}.unit_of_work.attempts", "{attempt}")
        self._round_trips = histogram(f"{_NAME}.unit_of_work.round_trips", "{round_trip}")
        self._counters = {name: meter.create_counter(f"{_NAME}.{name}", "{event}") for name in get_args(EventName)}

    def on_event(self, event: DatabaseEvent) -> None:
        """Count *event*, and add it to the span of the operation in which it happens."""
        cause = {f"{_NAME}.cause": event.cause}
        self._counters[event.name].add(1, {**self._database, **cause})
        trace.get_current_span().add_event(f"{_NAME}.{event.name}", {**cause, f"{_NAME}.seconds": event.seconds})

    @contextmanager
    def __call__(self, operation: Operation) -> Iterator[None]:
        """Return the span of *operation* as a context manager."""
        leave_ended_contexts()
        named = {**self._database, "db.operation.name": operation.name}
        # The conventions are for one call of the server, and a unit of work consists of several.
        kind = trace.SpanKind.INTERNAL if operation.kind == "unit_of_work" else trace.SpanKind.CLIENT
        span = self._tracer.start_span(f"{operation.name} {named['db.namespace']}", kind=kind, attributes=named)
        entered = EnteredContext(trace.set_span_in_context(span))
        try:
            yield
            failure = {} if operation.error is None else {"error.type": operation.error}
            cause = {} if operation.cause is None else {f"{_NAME}.cause": operation.cause}
            outcome = {f"{_NAME}.outcome": operation.outcome}
            numbers = {f"{_NAME}.attempts": operation.attempts, f"{_NAME}.round_trips": operation.round_trips}
            span.set_attributes({**outcome, **numbers, **cause, **failure})
            span.set_status(trace.StatusCode.ERROR if failure else trace.StatusCode.UNSET)
            match operation.kind:
                case "connect":
                    self._connect_seconds.record(operation.seconds, {**self._pool, **cause, **failure})
                case "unit_of_work":
                    self._unit_seconds.record(operation.seconds, {**self._database, **outcome, **failure})
                    self._attempts.record(operation.attempts, {**self._database, **outcome})
                    self._round_trips.record(operation.round_trips, {**self._database, **outcome})
                case "repository_call":
                    self._call_seconds.record(operation.seconds, {**named, **failure})
        finally:
            entered.leave()
            span.end()
