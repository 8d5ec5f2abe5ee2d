"""`Events`: the log lines and the counters."""

import logging

import pytest
from support import untyped

from registration_persistence.database import DatabaseEvent
from registration_persistence.database.events import Events


def test_each_event_is_one_structured_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """The line has the event, its cause and its duration, as text and as fields."""
    caplog.set_level(logging.INFO)

    Events().emit(DatabaseEvent("connection_opened", "rotation", 0.25))

    (record,) = caplog.records
    assert record.getMessage() == "connection_opened (rotation) in 0.250 s"
    fields = vars(record)
    assert ("connection_opened", "rotation", 0.25) == (fields["event"], fields["cause"], fields["seconds"])
    assert ("registration_persistence.database", logging.INFO) == (record.name, record.levelno)


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
