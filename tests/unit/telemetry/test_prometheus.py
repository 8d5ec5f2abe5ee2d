"""The arguments of Prometheus' `instrument`; `tests/integration/telemetry` scrapes the metrics."""

import pytest
from prometheus_client import CollectorRegistry
from support import untyped

from registration_persistence import Database, DatabaseSettings
from registration_persistence.telemetry import prometheus


def test_bad_arguments_are_refused() -> None:
    """The error names the type, and nothing is registered."""
    database = Database(DatabaseSettings(host="127.0.0.1", name="x", environment="test", user="u", password="p"))
    registry = CollectorRegistry()
    for wrong in ("ada@example.com", Database, None):
        with pytest.raises(TypeError, match=r"^the database is of type \w+: expected a Database or an AsyncDatabase"):
            prometheus.instrument(untyped(wrong), registry=registry)
    with pytest.raises(TypeError, match=r"^the registry is of type str: expected a CollectorRegistry$"):
        prometheus.instrument(database, registry=untyped("ada@example.com"))

    assert not database.events.observers
    assert not list(registry.collect())
