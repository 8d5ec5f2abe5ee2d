"""The Python code of the how-to on telemetry is executed, and exports what it describes."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.util._once import Once
from otlp_collector import Collector

from registration_persistence import get_db
from registration_persistence.sandbox import FakeLambdaContext

PAGE = Path(__file__).parents[3] / "docs/howto/telemetry.md"


@pytest.mark.usefixtures("fresh_process", "unchanged_psycopg")
def test_the_page(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler's spans and metrics are exported before it returns, and the observer finds a slow unit of work."""
    for module, name in ((trace, "_TRACER"), (metrics._internal, "_METER")):
        monkeypatch.setattr(module, f"{name}_PROVIDER", None)
        monkeypatch.setattr(module, f"{name}_PROVIDER_SET_ONCE", Once())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setattr(logging.getLogger("registration_persistence.database"), "filters", [])
    page: dict[str, Any] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            exec(compile(block, PAGE.name, "exec"), page)  # noqa: S102 the code is our own documentation

        assert page["handler"]({"email": "ada@example.com"}, FakeLambdaContext(5.0))["registration_id"]
        names = {span.name.split()[0] for span in collector.spans(scope="")}
        assert {"run", "RegistrationRepository.register", "connect", "WITH"} <= names
        assert "db.client.operation.duration" in collector.metrics()
        with get_db().session() as session:
            session.connection().exec_driver_sql("SELECT pg_sleep(1.1)")
        assert [("session", "kept", 1, 2)] == page["slow"]
    finally:
        PsycopgInstrumentor().uninstrument()
        SQLAlchemyInstrumentor().uninstrument()
        page["spans"].shutdown()
        page["measures"].shutdown()
