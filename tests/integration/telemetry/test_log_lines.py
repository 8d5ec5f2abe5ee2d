"""Log lines with the ids of OpenTelemetry's spans; `test_datadog` has those of ddtrace."""

import json
import logging
import re
from pathlib import Path

import pytest
from lambda_lines import LambdaLines
from otlp_collector import Sdk
from sqlalchemy.orm import Session
from support import terminate_backend

from registration_persistence import Database, RegistrationRepository
from registration_persistence.telemetry import opentelemetry

PAGE = Path(__file__).parents[3] / "docs/howto/telemetry.md"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the logger of the database, with the filter of the how-to."""
    logger, handler = logging.getLogger("registration_persistence.database"), LambdaLines()
    monkeypatch.setattr(logger, "filters", [])
    caplog.set_level(logging.INFO, logger.name)
    monkeypatch.setattr(logger, "handlers", [handler])
    (block,) = (
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "TraceIds" in code
    )
    exec(compile(block, PAGE.name, "exec"), {})  # noqa: S102 the code is our own documentation
    return handler.lines


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
    events = [line for line in map(json.loads, lines) if "event" in line]
    assert [(line["event"], *spans[line["span_id"]]) for line in events] == [
        ("connection_opened", "connect", unit_trace),
        ("retry", "run", unit_trace),
        ("connection_opened", "connect", unit_trace),
    ]
    assert {line["trace_id"] for line in events} == {unit_trace}
