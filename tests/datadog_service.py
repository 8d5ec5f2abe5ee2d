"""The service of `test_datadog`: it uses a database in each way, and reports its spans, log lines and statements.

It runs in a process of its own, because ddtrace changes psycopg and logging for the whole process.

Run: `datadog_service.py automatic|manual REPORT`, where the report is a file of JSON.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

if "automatic" in sys.argv:
    import ddtrace.auto  # noqa: F401 its effect

from ddtrace.trace import Span, TraceFilter, tracer
from lambda_lines import LambdaLines
from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session
from support import terminate_backend, untyped

from registration_persistence import AsyncDatabase, Database, DatabaseSettings, RegistrationRepository
from registration_persistence.outcomes import Registered
from registration_persistence.telemetry import datadog

MAILBOX = "ada@example.com"


class Spans(TraceFilter):
    """Keeps the spans of each trace; nothing is sent."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    def process_trace(self, trace: list[Span]) -> None:
        """Keep the spans of *trace*."""
        self.spans += [
            {
                "id": str(span.span_id),
                "parent": str(span.parent_id),
                "trace": f"{span.trace_id:032x}",
                "name": span.name,
                "resource": span.resource,
                "error": span.error,
                "tags": {**span.get_tags(), **span.get_metrics()},
            }
            for span in trace
        ]


def sign_up(session: Any) -> str:
    """Register a person, and return the token."""
    registered = RegistrationRepository(session).register(MAILBOX)
    assert isinstance(registered, Registered)
    return registered.token


def fail(session: Session) -> None:
    """Raise an error of the service, whose text has a mailbox."""
    RegistrationRepository(session).find_by_email(MAILBOX)
    raise ValueError(MAILBOX)


def lose_connection_once(session: Session, attempts: list[int]) -> None:
    """Lose the connection in the first attempt."""
    attempts.append(len(attempts))
    if len(attempts) == 1:
        terminate_backend(session)
    RegistrationRepository(session).find_by_email(MAILBOX)


def statements(session: Session) -> list[str]:
    """Return the text of the running statement, as the server shows it, and those that are prepared."""
    for _ in range(8):
        running = session.scalar(text("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"))
    return [running, *session.scalars(text("SELECT statement FROM pg_prepared_statements WHERE from_sql = false"))]


async def sign_up_in_task(settings: DatabaseSettings) -> str:
    """Register a person in a task."""
    database = AsyncDatabase(settings)
    datadog.instrument(database)
    token = await database.run(sign_up)
    await database.dispose()
    return token


@contextmanager
def broken_output() -> Iterator[None]:
    """Make standard output a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as output, redirect_stdout(output):
        yield


def main(report: Path) -> None:
    """Use the database, and write *report*."""
    spans, handler = Spans(), LambdaLines()
    tracer.configure(trace_processors=[spans])
    logger = logging.getLogger("registration_persistence.database")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    database = Database(DatabaseSettings.from_env())
    datadog.instrument(database)
    datadog.instrument(database)
    try:
        datadog.instrument(untyped(MAILBOX))
    except TypeError as error:
        refusal = str(error)

    tokens = []
    with tracer.trace("request"):
        tokens.append(database.run(sign_up))
    with suppress(ValueError), database.session() as session:
        fail(session)
    with suppress(DataError), database.session() as session:
        session.execute(text("SELECT CAST(:value AS int)"), {"value": MAILBOX})
    attempts: list[int] = []
    database.run(lambda session: lose_connection_once(session, attempts))
    tokens.append(database.run(sign_up, single=True))
    seen = database.run(statements)
    with tracer.trace("task"):
        tokens.append(asyncio.run(sign_up_in_task(database.settings)))
    database.ping()
    found = {"spans": spans.spans, "lines": handler.lines, "statements": seen, "tokens": tokens, "refusal": refusal}
    report.write_text(json.dumps(found), "utf-8")
    handler.lines.clear()
    with broken_output():
        for _ in range(2):
            database.run(sign_up)
    database.dispose()
    report.with_suffix(".lines").write_text("\n".join(handler.lines), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[2]))
