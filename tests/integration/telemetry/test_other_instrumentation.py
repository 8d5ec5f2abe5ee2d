"""The spans beside those of OpenTelemetry's own instrumentation of SQLAlchemy and psycopg."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from otlp_collector import Sdk, values
from sqlalchemy.orm import Session

from registration_persistence import AsyncDatabase, Database, DatabaseSettings, RegistrationRepository
from registration_persistence.database.connection import BoundedConnection
from registration_persistence.database.evident_connection import EvidentCursor
from registration_persistence.telemetry import opentelemetry
from registration_persistence.testing import RoundTripCounter


@pytest.fixture
def settings(database_settings: DatabaseSettings, wire: RoundTripCounter) -> DatabaseSettings:
    """Settings of a database behind a proxy that counts round trips."""
    return dataclasses.replace(database_settings, host="127.0.0.1", port=wire.port, sslmode="disable", pool="lambda")


@pytest.fixture
def sqlalchemy_spans() -> Iterator[SQLAlchemyInstrumentor]:
    """OpenTelemetry's instrumentation of SQLAlchemy, until the end of the test."""
    instrumentor = SQLAlchemyInstrumentor()
    yield instrumentor
    instrumentor.uninstrument()


@pytest.mark.parametrize("kind", ["Database", "AsyncDatabase"])
def test_the_spans_of_other_instrumentation_are_children_of_ours(
    *,
    kind: str,
    settings: DatabaseSettings,
    sdk: Sdk,
    wire: RoundTripCounter,
    sqlalchemy_spans: SQLAlchemyInstrumentor,
    request: pytest.FixtureRequest,
) -> None:
    """Each of their spans has a parent of ours; we send as many spans as before, and BEGIN takes no round trip."""
    request.getfixturevalue("psycopg_spans")  # after the database was created
    database: Any = Database(settings) if kind == "Database" else AsyncDatabase(settings)
    engine = database.engine if kind == "Database" else database.engine.sync_engine
    # The instrumentation does not know SQLAlchemy 2.1 yet.
    sqlalchemy_spans.instrument(engine=engine, tracer_provider=sdk.tracer_provider, skip_dep_check=True)
    opentelemetry.instrument(database)
    drivers: list[psycopg.Connection[Any]] = []

    def work(session: Session) -> None:
        RegistrationRepository(session).register(f"{uuid4().hex}@example.com")
        driver: Any = session.connection().connection.dbapi_connection
        drivers.append(driver)

    async def run_awaited() -> None:
        await database.run(work)
        wire.round_trips()
        await database.run(work)
        counted.append(wire.round_trips())
        await database.dispose()

    counted: list[int] = []
    if kind == "Database":
        database.run(work)
        wire.round_trips()
        database.run(work)
        counted.append(wire.round_trips())
        database.dispose()
    else:
        asyncio.run(run_awaited())

    assert counted == [2]
    assert isinstance(drivers[0], BoundedConnection)
    assert issubclass(drivers[0].cursor_factory, EvidentCursor)
    sdk.flush()
    spans = sdk.collector.spans(scope="")
    ids = {span.span_id for span in spans}
    roots = [span.name.split()[0] for span in spans if span.parent_span_id not in ids]
    assert roots == ["run", "run"]
    outcomes = Counter(values(span.attributes).get("registration_persistence.outcome", "another") for span in spans)
    assert outcomes == {"kept": 2, "done": 3, "another": 6}, [span.name for span in spans]
