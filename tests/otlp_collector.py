"""A stand-in for an OpenTelemetry collector: it receives OTLP over HTTP and decodes it."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider


class Collector:
    """A collector on a free port of 127.0.0.1; use it as a context manager.

    Attributes:
        url: The base URL.
        delay: The seconds before it responds.
        hurry: Ends the delays if it is set.
        bodies: The decoded requests, as text.
    """

    def __init__(self) -> None:
        self.delay: float = 0.0
        self.hurry = Event()
        self.bodies: list[str] = []
        self._traces: list[ExportTraceServiceRequest] = []
        self._metrics: list[ExportMetricsServiceRequest] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url: str = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="collector").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self, *, scope: str = "registration_persistence") -> list[Span]:
        """Return the spans of *scope* in the order of their beginnings, and forget all spans."""
        spans = [
            span
            for request in self._traces
            for resource in request.resource_spans
            for scope_spans in resource.scope_spans
            for span in scope_spans.spans
            if scope_spans.scope.name.startswith(scope)
        ]
        self._traces.clear()
        return sorted(spans, key=lambda span: span.start_time_unix_nano)

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics that came last, by name, and forget all."""
        metrics = {metric.name: metric for metric in self._all_metrics()}
        self._metrics.clear()
        return metrics

    def _all_metrics(self) -> Iterator[Metric]:
        for request in self._metrics:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    yield from scope.metrics

    def _receive(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self._traces.append(traces)
            self.bodies.append(str(traces))
        else:
            metrics = ExportMetricsServiceRequest.FromString(body)
            self._metrics.append(metrics)
            self.bodies.append(str(metrics))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.hurry.wait(collector.delay)
                collector._receive(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                """Write nothing to standard error."""

        return Handler


@dataclass
class Sdk:
    """OpenTelemetry's SDK as the global one, and the collector to which it exports."""

    collector: Collector
    tracer_provider: TracerProvider
    meter_provider: MeterProvider

    def flush(self) -> None:
        """Export what there is, and wait until the collector has it."""
        self.tracer_provider.force_flush()
        self.meter_provider.force_flush()


def values(attributes: Any) -> dict[str, object]:
    """Return OTLP's *attributes* as a dictionary."""
    return {each.key: _value(each) for each in attributes}


def _value(attribute: KeyValue) -> object:
    kind = attribute.value.WhichOneof("value")
    return None if kind is None else getattr(attribute.value, kind)
