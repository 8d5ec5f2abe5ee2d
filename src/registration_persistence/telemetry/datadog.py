"""`instrument`: spans of a database for Datadog, and metrics for its agent, or for CloudWatch if there is none."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from registration_persistence.database import Database
from registration_persistence.database.events import DatabaseEvent, Events
from registration_persistence.database.operations import Operation
from registration_persistence.telemetry.datadog_metrics import Metrics, open_metrics
from registration_persistence.telemetry.instrumentation import new_events, require_packages

require_packages("datadog", "ddtrace", "datadog")

from ddtrace.trace import Span, tracer

if TYPE_CHECKING:
    from registration_persistence.database import AsyncDatabase

_PREFIX = "registration_persistence"

# The databases that are instrumented.
_instrumented: WeakSet[Events] = WeakSet()


def instrument(database: "Database | AsyncDatabase") -> None:
    """Trace *database* with ddtrace, and send its metrics to Datadog's agent, or to CloudWatch if there is no agent.

    There is an agent if `DD_DOGSTATSD_URL` or `DD_AGENT_HOST` is set, if the Lambda function has Datadog's extension,
    or if something listens at the agent's usual socket or port now. Otherwise the metrics are lines on standard output
    in CloudWatch's embedded metric format. A second call for the same database does nothing.

    Args:
        database: The database.

    Raises:
        TypeError: *database* is neither a `Database` nor an `AsyncDatabase`.
    """
    events = new_events(database, _instrumented)
    if events is None:
        return
    settings = database.settings
    tags = {"component": _PREFIX, "db.system": "postgresql", "db.name": settings.name, "out.host": settings.host}
    metrics = open_metrics(settings.environment)
    events.subscribe(partial(_count, metrics))
    events.observe(partial(_observe, metrics, tags))


def _count(metrics: Metrics, event: DatabaseEvent) -> None:
    cause = [f"cause:{event.cause}"]
    metrics.increment(f"{_PREFIX}.{event.name}", tags=cause)
    if event.name == "connection_opened":
        metrics.distribution(f"{_PREFIX}.connect.seconds", event.seconds, tags=cause)


@contextmanager
def _observe(metrics: Metrics, tags: Mapping[str, str], operation: Operation) -> Iterator[None]:
    span = tracer.trace(f"{_PREFIX}.{operation.kind}", resource=operation.name)
    try:
        yield
    finally:
        _complete(span, tags, operation)
        span.finish()
    if operation.kind == "unit_of_work":
        outcome = [f"outcome:{operation.outcome}"]
        metrics.distribution(f"{_PREFIX}.unit_of_work.seconds", operation.seconds, tags=outcome)
        metrics.distribution(f"{_PREFIX}.unit_of_work.attempts", operation.attempts)
        metrics.distribution(f"{_PREFIX}.unit_of_work.round_trips", operation.round_trips)
    if operation.parent is None:
        metrics.flush()


def _complete(span: Span, tags: Mapping[str, str], operation: Operation) -> None:
    """Describe *operation* on its span, which ends in no `with`: ddtrace would add the text of an error."""
    span.set_tags({**tags, "span.kind": "client" if operation.kind == "connect" else "internal"})
    span.set_tag("outcome", operation.outcome)
    if operation.cause:
        span.set_tag("cause", operation.cause)
    if operation.retry_causes:
        span.set_tag("retry_causes", ",".join(operation.retry_causes))
    span.set_metrics({"attempts": operation.attempts, "round_trips": operation.round_trips})
    if operation.error:
        span.error = 1
        span.set_tag("error.type", operation.error)
