"""Log lines with the ids of OpenTelemetry's spans; `test_datadog` has those of ddtrace."""

import json
import logging
from collections.abc import Iterator

import pytest
from lambda_lines import LambdaLines
from opentelemetry import trace
from otlp_collector import Sdk
from sqlalchemy.orm import Session
from support import terminate_backend

from registration_persistence import Database, RegistrationRepository
from registration_persistence.telemetry import opentelemetry


class TraceIds(logging.Filter):
    """Adds the ids of the current span to each record, as OpenTelemetry's instrumentation of logging does."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ids to *record*."""
        context = trace.get_current_span().get_span_context()
        record.trace_id, record.span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
        return True


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines of the logger of the database."""
    logger, handler = logging.getLogger("registration_persistence.database"), LambdaLines()
    handler.addFilter(TraceIds())
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_log_lines_have_the_ids_of_their_span(database: Database, sdk: Sdk, lines: list[str]) -> None:
    """A retry has the ids of its unit of work, and an opened connection those of its connect."""
    opentelemetry.instrument(database)
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            terminate_backend(session)
        RegistrationRepository(session).find_by_email("ada@example.com")

    database.run(work)

    sdk.flush()
    spans = {span.span_id.hex(): (span.name.split()[0], span.trace_id.hex()) for span in sdk.collector.spans()}
    (unit_trace,) = {trace_id for _, trace_id in spans.values()}
    found = [json.loads(line) for line in lines]
    events = [line for line in found if "event" in line]
    assert [(line["event"], *spans[line["span_id"]]) for line in events] == [
        ("connection_opened", "connect", unit_trace),
        ("retry", "run", unit_trace),
        ("connection_opened", "connect", unit_trace),
    ]
    assert {line["trace_id"] for line in found} == {unit_trace}
