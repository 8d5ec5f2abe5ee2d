"""Fixtures of the tests of telemetry: OpenTelemetry's SDK, which exports to a collector over HTTP."""

from collections.abc import Iterator

import psycopg
import pytest
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
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


@pytest.fixture
def unchanged_psycopg() -> Iterator[None]:
    """Repair `connect` at the end: `PsycopgInstrumentor.uninstrument` leaves a method that no subclass can use."""
    original = {kind: vars(kind)["connect"] for kind in (psycopg.Connection, psycopg.AsyncConnection)}
    yield
    for kind, connect in original.items():
        setattr(kind, "connect", connect)  # noqa: B010 mypy refuses an assignment to a method


@pytest.fixture
def psycopg_spans(sdk: Sdk, unchanged_psycopg: None) -> Iterator[None]:  # noqa: ARG001 its effect
    """OpenTelemetry's instrumentation of psycopg, until the end of the test."""
    PsycopgInstrumentor().instrument(tracer_provider=sdk.tracer_provider)
    yield
    PsycopgInstrumentor().uninstrument()
