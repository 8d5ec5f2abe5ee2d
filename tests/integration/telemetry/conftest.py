"""Fixtures of the tests of telemetry: OpenTelemetry's SDK, which exports to a collector over HTTP."""

from collections.abc import Iterator

import pytest
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otlp_collector import Collector, Sdk


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector."""
    with Collector() as running:
        yield running


@pytest.fixture
def sdk(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sdk]:
    """The SDK, which is the global one until the end of the test; OpenTelemetry itself can set it only once."""
    traces, meters = (
        TracerProvider(),
        MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector.url}/v1/metrics"), 3_600_000)]),
    )
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", traces)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", meters)
    yield Sdk(collector, traces, meters)
    traces.shutdown()
    meters.shutdown()
