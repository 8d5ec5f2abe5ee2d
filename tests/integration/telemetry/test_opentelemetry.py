"""OpenTelemetry's spans and metrics, as a collector receives them over HTTP."""

import dataclasses
from collections.abc import Iterator
from uuid import uuid4

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from otlp_collector import Sdk, values
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from registration_persistence import Database, DatabaseSettings, RegistrationRepository
from registration_persistence.errors import RegistrationNotFound
from registration_persistence.telemetry import opentelemetry

OWN = "registration_persistence."


@pytest.fixture
def fresh(database_settings: DatabaseSettings, sdk: Sdk) -> Iterator[Database]:
    """A database without a connection, with its telemetry."""
    database = Database(dataclasses.replace(database_settings, pool="lambda"))
    opentelemetry.instrument(database)
    yield database
    sdk.flush()
    database.dispose()


def sign_up(target: Session | Connection) -> object:
    """Register a new mailbox."""
    return RegistrationRepository(target).register(f"{uuid4().hex}@example.com")


def test_a_unit_of_work_contains_its_connect_and_its_calls(fresh: Database, sdk: Sdk) -> None:
    """The first unit of work has a connect and a call, retries are events, and metrics have the conventional names."""
    attempts: list[int] = []

    def work(session: Session) -> None:
        sign_up(session)
        attempts.append(1)
        if len(attempts) == 1:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    fresh.run(work)
    with pytest.raises(RegistrationNotFound):
        fresh.run(lambda connection: RegistrationRepository(connection).activate(uuid4()), single=True)

    sdk.flush()
    spans = sdk.collector.spans()
    tree = [(span.name.split()[0], _parent(span, spans)) for span in spans]
    assert tree == [
        ("run", None),
        ("RegistrationRepository.register", "run"),
        ("connect", "RegistrationRepository.register"),
        ("RegistrationRepository.register", "run"),
        ("connect", "RegistrationRepository.register"),
        ("run", None),
        ("RegistrationRepository.activate", "run"),
    ]
    unit, call, connect, *_, failed = spans
    server: dict[str, object] = {"db.system.name": "postgresql", "db.namespace": fresh.settings.name}
    server |= {"server.address": "127.0.0.1", "server.port": fresh.settings.port}
    assert all(server.items() <= values(span.attributes).items() for span in spans)
    modules = (db_attributes, server_attributes, error_attributes)
    conventional = {each for module in modules for each in vars(module).values() if isinstance(each, str)}
    assert {name for span in spans for name in values(span.attributes) if not name.startswith(OWN)} <= conventional
    own = {"outcome": "kept", "attempts": 2, "round_trips": 4}
    assert {f"registration_persistence.{name}": value for name, value in own.items()}.items() <= values(
        unit.attributes
    ).items()
    assert [(each.name, values(each.attributes)["registration_persistence.cause"]) for each in unit.events] == [
        ("registration_persistence.retry", "connection_lost")
    ]
    kinds = (unit.kind, call.kind, connect.kind)
    assert kinds == (Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_CLIENT)
    assert values(connect.attributes)["registration_persistence.cause"] == "cold"
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "")
    assert values(failed.attributes)["error.type"] == "RegistrationNotFound"
    assert values(failed.attributes)["db.operation.name"] == "RegistrationRepository.activate"


def test_the_metrics_have_the_names_of_the_conventions(fresh: Database, sdk: Sdk) -> None:
    """Durations of calls and connects are conventional histograms; the rest is named after this package, once each."""
    opentelemetry.instrument(fresh)  # changes nothing
    fresh.run(sign_up)
    with pytest.raises(RegistrationNotFound), fresh.session() as session:
        RegistrationRepository(session).activate(uuid4())

    sdk.flush()
    metrics = sdk.collector.metrics()
    assert {name: metric.unit for name, metric in metrics.items()} == {
        "db.client.operation.duration": "s",
        "db.client.connection.create_time": "s",
        "db.client.connection.count": "{connection}",
        "db.client.connection.max": "{connection}",
        "db.client.connection.pending_requests": "{request}",
        "registration_persistence.unit_of_work.seconds": "s",
        "registration_persistence.unit_of_work.attempts": "{attempt}",
        "registration_persistence.unit_of_work.round_trips": "{round_trip}",
        "registration_persistence.connection_opened": "{event}",
    }
    calls = metrics["db.client.operation.duration"].histogram.data_points
    named = [(values(point.attributes), point.count) for point in calls]
    assert {(each["db.operation.name"], each.get("error.type"), count) for each, count in named} == {
        ("RegistrationRepository.register", None, 1),
        ("RegistrationRepository.activate", "RegistrationNotFound", 1),
    }
    assert list(calls[0].explicit_bounds) == [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]
    (connect,) = metrics["db.client.connection.create_time"].histogram.data_points
    settings = fresh.settings
    assert values(connect.attributes) == {
        "db.client.connection.pool.name": f"127.0.0.1:{settings.port}/{settings.name}",
        "registration_persistence.cause": "cold",
    }
    units = metrics["registration_persistence.unit_of_work.seconds"].histogram.data_points
    assert {(str(values(point.attributes).get(f"{OWN}outcome")), point.count) for point in units} == {
        ("kept", 1),
        ("not_kept", 1),
    }
    round_trips = metrics["registration_persistence.unit_of_work.round_trips"].histogram.data_points
    counted = {values(point.attributes)["registration_persistence.outcome"]: point.sum for point in round_trips}
    assert counted == {"kept": 2, "not_kept": 2}
    assert metrics["registration_persistence.connection_opened"].sum.data_points[0].as_int == 1


def test_the_pools_are_read_when_metrics_are_exported(database_settings: DatabaseSettings, sdk: Sdk) -> None:
    """Connections by state, the maximum and the waiting callers; two databases of the same name are added up."""
    databases = [Database(dataclasses.replace(database_settings, pool="service", pool_size=3)) for _ in range(2)]
    for database in databases:
        opentelemetry.instrument(database)
    first, second = databases

    def state() -> dict[tuple[str, str], int]:
        sdk.flush()
        return {
            (name.rpartition(".")[2], str(values(point.attributes).get("db.client.connection.state", ""))): point.as_int
            for name, metric in sdk.collector.metrics().items()
            for point in metric.sum.data_points
            if str(values(point.attributes).get("db.client.connection.pool.name")).endswith(f"/{first.settings.name}")
        }

    second.ping()
    with first.session() as session:
        session.execute(text("SELECT 1"))
        used = {("count", "idle"): 1, ("count", "used"): 1, ("max", ""): 6, ("pending_requests", ""): 0}
        assert state() == used
    first.dispose()
    assert state() == {**used, ("count", "used"): 0}
    second.dispose()


def _parent(span: Span, spans: list[Span]) -> str | None:
    """Return the name of the parent of *span*."""
    return next((each.name.split()[0] for each in spans if each.span_id == span.parent_span_id), None)
