"""`Events`: the log lines and the counters."""

import logging
import re
from pathlib import Path
from typing import get_args

import pytest
from support import untyped

from registration_persistence.database import DatabaseEvent
from registration_persistence.database.events import CAUSES, EventCause, EventName, Events


def test_each_event_is_one_structured_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """The line has the event, its cause and its duration, as text and as fields."""
    caplog.set_level(logging.INFO)

    Events().emit(DatabaseEvent("connection_opened", "rotation", 0.25))

    (record,) = caplog.records
    assert record.getMessage() == "connection_opened (rotation) in 0.250 s"
    fields = vars(record)
    assert ("connection_opened", "rotation", 0.25) == (fields["event"], fields["cause"], fields["seconds"])
    assert ("registration_persistence.database", logging.INFO) == (record.name, record.levelno)


def test_the_page_for_datadog_lists_each_event_and_cause() -> None:
    """The table has each event and its causes, in alphabetical order, as the monitors may query them."""
    page = (Path(__file__).parents[3] / "docs" / "howto" / "datadog.md").read_text("utf-8")
    table = page.partition("| event | causes |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", line) for line in table.splitlines()]

    assert {row[0]: row[1:] for row in rows} == {name: sorted(causes) for name, causes in CAUSES.items()}
    assert set(CAUSES) == set(get_args(EventName))
    assert {cause for causes in CAUSES.values() for cause in causes} == set(_flat(EventCause))


def _flat(kind: object) -> list[str]:
    return [each for part in get_args(kind) for each in ([part] if isinstance(part, str) else _flat(part))]


def test_events_are_counted_by_cause() -> None:
    """A count is that of one cause, or of all causes."""
    events = Events()
    for cause in ("cold", "rotation", "rotation"):
        events.emit(DatabaseEvent("connection_opened", cause, 0))

    assert (1, 2, 3, 0) == (
        events.count("connection_opened", "cold"),
        events.count("connection_opened", "rotation"),
        events.count("connection_opened"),
        events.count("secret_read"),
    )


def test_a_subscriber_must_be_a_plain_function() -> None:
    """A coroutine would never be awaited, and the metric would be missing."""

    async def count(_event: DatabaseEvent) -> None:
        pass

    with pytest.raises(TypeError, match="the subscriber is a coroutine function"):
        Events().subscribe(untyped(count))
