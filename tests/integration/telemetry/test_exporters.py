"""An exporter that is down, slow or raises neither fails nor delays a request, under load."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from otlp_collector import Collector
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from registration_persistence import AsyncDatabase, Database, DatabaseSettings, RegistrationRepository
from registration_persistence.clock import monotonic
from registration_persistence.telemetry import opentelemetry

THREADS, UNITS = 8, 10

# A request that waits for the collector once takes longer than the whole test.
COLLECTOR_SECONDS = 15.0

Exporting = Callable[[SpanExporter | None], "WatchedExporter"]


class WatchedExporter(SpanExporter):
    """Notes the threads in which it is called, and passes the spans on; without an exporter it raises."""

    def __init__(self, exporter: SpanExporter | None) -> None:
        self._exporter = exporter
        self.threads: set[int] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export *spans*."""
        self.threads.add(get_ident())
        if self._exporter is None:
            raise LookupError("broken")
        return self._exporter.export(spans)


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> Iterator[Exporting]:
    """Install an exporter behind a queue that is soon full."""
    providers: list[TracerProvider] = []

    def install(exporter: SpanExporter | None) -> WatchedExporter:
        watched, provider = WatchedExporter(exporter), TracerProvider(shutdown_on_exit=False)
        batches = BatchSpanProcessor(watched, max_queue_size=32, max_export_batch_size=8, schedule_delay_millis=1)
        provider.add_span_processor(batches)
        providers.append(provider)
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        return watched

    yield install
    collector.hurry.set()
    for provider in providers:
        provider.shutdown()


@pytest.fixture
def exporters(collector: Collector) -> list[SpanExporter | None]:
    """Return an exporter whose collector is down, one whose collector is slow, and none, which stands for a bug."""
    collector.delay = COLLECTOR_SECONDS
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return [
        OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", timeout=1),
        OTLPSpanExporter(f"{collector.url}/v1/traces", timeout=COLLECTOR_SECONDS),
        None,
    ]


def sign_up(target: Session | Connection) -> object:
    """Register a new mailbox."""
    return RegistrationRepository(target).register(f"{uuid4().hex}@example.com")


def test_no_request_waits_for_an_exporter(
    database_settings: DatabaseSettings, exporting: Exporting, exporters: list[SpanExporter | None]
) -> None:
    """Requests of many threads and tasks succeed, none takes as long as the collector, and none exports anything."""

    def timed(database: Database) -> tuple[float, int]:
        started = monotonic()
        database.run(sign_up)
        return monotonic() - started, get_ident()

    async def all_tasks() -> int:
        database = AsyncDatabase(database_settings)
        opentelemetry.instrument(database)
        await asyncio.gather(*[database.run(sign_up) for _ in range(THREADS * UNITS)])
        await database.dispose()
        return get_ident()

    for exporter in exporters:
        watched = exporting(exporter)
        database = Database(database_settings)
        opentelemetry.instrument(database)
        started = monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            requests = list(pool.map(timed, [database] * (THREADS * UNITS)))
        requesting = {thread for _, thread in requests} | {asyncio.run(all_tasks())}
        database.dispose()

        assert max(seconds for seconds, _ in requests) < COLLECTOR_SECONDS
        assert monotonic() - started < COLLECTOR_SECONDS
        assert watched.threads != set()
        assert not watched.threads & requesting


def test_a_processor_that_raises_in_the_request_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The result is the same, and each kind of failure is logged once."""

    class Failing(SpanProcessor):
        def __init__(self) -> None:
            self.fails_at_the_start = False

        def on_start(self, *_span: Any, **_context: Any) -> None:
            if self.fails_at_the_start:
                raise LookupError("at the start")

        def on_end(self, *_span: Any) -> None:
            raise LookupError("at the end")

    processor, provider = Failing(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    opentelemetry.instrument(database)
    caplog.set_level(logging.WARNING)
    for fails_at_the_start in (False, True):
        processor.fails_at_the_start = fails_at_the_start
        for _ in range(3):
            assert database.run(lambda session: sign_up(session) is not None)
    ours = [record.args for record in caplog.records if record.name.startswith("registration_persistence")]
    assert ours == [("left",), ("entered",)]
    assert trace.get_current_span() is trace.INVALID_SPAN
