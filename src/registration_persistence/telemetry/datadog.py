"""Spans and metrics for Datadog, or metrics for CloudWatch if there is no agent; needs the extra `datadog`."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from registration_persistence.database.events import DatabaseEvent
from registration_persistence.database.operations import Operation
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.telemetry.attachment import AnyDatabase, attach
from registration_persistence.telemetry.datadog_metrics import open_metrics

try:
    from ddtrace.trace import tracer
except ImportError as _error:
    raise ImportError("ddtrace is missing: pip install 'registration-persistence[datadog]'") from _error

if find_spec("datadog") is None:  # its import takes long, and is not needed for CloudWatch
    raise ImportError("datadog is missing: pip install 'registration-persistence[datadog]'")

_NAME = "registration_persistence"


def instrument(database: AnyDatabase) -> None:
    """Trace *database* with ddtrace, and send its metrics to Datadog's agent, or to CloudWatch if there is no agent.

    There is an agent if `DD_DOGSTATSD_URL` or `DD_AGENT_HOST` is set, if the Lambda function has Datadog's extension,
    or if something listens at the agent's usual socket or port now. Otherwise the metrics are lines on standard output
    in CloudWatch's embedded metric format. A second call for the same database changes nothing. No tag holds data of a
    person.

    Args:
        database: A `Database` or an `AsyncDatabase`.

    Raises:
        TypeError: *database* is neither of them.
    """
    attach(database, _Datadog)


class _Datadog:
    """The spans and metrics of one database."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._metrics = open_metrics(settings.environment)
        self._running: set[Operation] = set()
        self._tags = {
            "component": _NAME,
            "db.system": "postgresql",
            "db.name": settings.name,
            "out.host": settings.host,
            "network.destination.port": str(settings.port),
        }

    def on_event(self, event: DatabaseEvent) -> None:
        """Count *event*."""
        cause = [f"cause:{event.cause}"]
        self._metrics.increment(f"{_NAME}.{event.name}", tags=cause)
        if event.name == "connection_opened":
            self._metrics.distribution(f"{_NAME}.connect.seconds", event.seconds, tags=cause)

    @contextmanager
    def __call__(self, operation: Operation) -> Iterator[None]:
        """Return the span of *operation* as a context manager."""
        # The block of the span itself would add the text of an error.
        span = tracer.trace(f"{_NAME}.{operation.kind}", resource=operation.name)
        self._running.add(operation)
        try:
            yield
            span.set_tags({**self._tags, **_tags(operation)})
            span.set_metrics({"attempts": operation.attempts, "round_trips": operation.round_trips})
            span.error = int(operation.error is not None)
        finally:
            self._running.discard(operation)
            span.finish()
        if operation.kind == "unit_of_work":
            outcome = [f"outcome:{operation.outcome}"]
            self._metrics.distribution(f"{_NAME}.unit_of_work.seconds", operation.seconds, tags=outcome)
            self._metrics.distribution(f"{_NAME}.unit_of_work.attempts", operation.attempts)
            self._metrics.distribution(f"{_NAME}.unit_of_work.round_trips", operation.round_trips)
        if operation.parent not in self._running:  # its parent may belong to another database, or have ended
            self._metrics.flush()


def _tags(operation: Operation) -> dict[str, str]:
    """Return the tags of the span of *operation* that are not those of its database."""
    tags = {
        "span.kind": "client" if operation.kind == "connect" else "internal",
        "outcome": operation.outcome,
        "cause": operation.cause,
        "retry_causes": ",".join(operation.retry_causes),
        "error.type": operation.error,
    }
    return {name: value for name, value in tags.items() if value}
