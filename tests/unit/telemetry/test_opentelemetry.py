"""`instrument` of OpenTelemetry: its argument, and what happens without the packages."""

import os
import runpy
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import context
from support import untyped

from registration_persistence import AsyncDatabase, Database, DatabaseSettings
from registration_persistence.database.operations import Observation
from registration_persistence.telemetry import opentelemetry
from registration_persistence.telemetry.attachment import attach

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


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_attaches_does_not_hang() -> None:
    """The child can attach an integration, although the thread that held the lock does not exist there."""
    began, may_end = threading.Event(), threading.Event()

    def slow_integration(*_arguments: object) -> Any:
        began.set()
        may_end.wait(20)
        raise LookupError("not attached")

    def attach_slowly() -> None:
        with pytest.raises(LookupError):
            attach(Database(SETTINGS), slow_integration)

    thread = threading.Thread(target=attach_slowly)
    thread.start()
    assert began.wait(20)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)
            opentelemetry.instrument(Database(SETTINGS))
            code = 0
        finally:
            os._exit(code)
    may_end.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


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


def test_a_span_that_has_ended_is_no_parent(caplog: pytest.LogCaptureFixture) -> None:
    """Sessions end in any order and in other threads; the next span belongs to the span of the service."""
    database = Database(SETTINGS)
    opentelemetry.instrument(database)
    outside = context.set_value("of the service", 1)

    def begun() -> Observation:
        observation = database.events.observation("unit_of_work", "session")
        observation.begin()
        return observation

    def next_surroundings() -> context.Context:
        begun().end(None)
        return context.get_current()

    token = context.attach(outside)
    first, second = begun(), begun()
    first.end(None)
    second.end(None)
    assert context.get_current() is outside
    context.detach(token)
    with ThreadPoolExecutor(1, initializer=context.attach, initargs=(outside,)) as thread:
        thread.submit(begun).result().end(None)
        assert thread.submit(next_surroundings).result() is outside
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
