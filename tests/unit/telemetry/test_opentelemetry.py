"""`instrument` of OpenTelemetry: its argument, and what happens without the packages."""

import runpy
import sys
import threading

import pytest
from support import untyped

from registration_persistence import AsyncDatabase, Database, DatabaseSettings
from registration_persistence.telemetry import opentelemetry

SETTINGS = DatabaseSettings(host="127.0.0.1", name="x", environment="test", user="u", password="p")


@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
def test_a_database_is_instrumented_once(kind: type[Database | AsyncDatabase]) -> None:
    """A second call adds no observer and no subscriber; without an SDK, operations go on."""
    database = kind(SETTINGS)
    opentelemetry.instrument(database)
    opentelemetry.instrument(database)

    assert len(database.events.observers) == len(database.events._subscribers) == 1
    with database.events.observation("unit_of_work", "run"):
        pass
    assert database.events._failures == set()


def test_an_operation_may_end_in_another_thread(caplog: pytest.LogCaptureFixture) -> None:
    """OpenTelemetry is not asked to leave a context that is not current, which it would log."""
    database = Database(SETTINGS)
    opentelemetry.instrument(database)
    observation = database.events.observation("unit_of_work", "session")
    began = threading.Thread(target=observation.begin)
    began.start()
    began.join()
    observation.end(None)

    assert caplog.records == []


@pytest.mark.parametrize(
    "argument", [None, "postgresql://db", SETTINGS, Database, Database(SETTINGS).engine, "x" * 10**6]
)
def test_another_argument_is_refused(argument: object) -> None:
    """The error names the type and the fix, and not the value."""
    with pytest.raises(
        TypeError, match=r"the database is of type \w+: expected a Database or an AsyncDatabase"
    ) as raised:
        opentelemetry.instrument(untyped(argument))
    assert len(str(raised.value)) < 150


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"pip install 'registration-persistence\[opentelemetry\]'"):
        runpy.run_path(opentelemetry.__file__)
