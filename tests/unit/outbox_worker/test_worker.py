"""`OutboxWorker`: its arguments, which are checked without a database."""

import math
from datetime import timedelta
from typing import Any

import pytest

from registration_persistence import Database, DatabaseSettings, OutboxWorker
from registration_persistence.errors import InvalidInput


@pytest.fixture
def database() -> Database:
    """A database that does not exist."""
    settings = DatabaseSettings(environment="test", host="nowhere.invalid", name="x", user="x", password="x")
    return Database(settings)


@pytest.mark.parametrize(
    "arguments",
    [
        {"lease": timedelta(seconds=0.5)},
        {"lease": 60},
        {"lease": 0.5},
        {"first_delay": 1.5, "longest_delay": timedelta(hours=1)},
        {"first_delay": timedelta(seconds=1), "longest_delay": 365 * 86_400},
        {"first_delay": 60, "longest_delay": 60},
        {"longest_pause": 0.5},
    ],
)
def test_durations_are_timedeltas_or_seconds(database: Database, arguments: dict[str, Any]) -> None:
    """Every duration accepts both."""
    assert OutboxWorker(database, print, **arguments).counts == {}


@pytest.mark.parametrize("name", ["lease", "first_delay", "longest_delay", "longest_pause"])
@pytest.mark.parametrize("duration", ["60", None, True, math.nan, math.inf, 0, -1, timedelta(0)])
def test_other_values_are_rejected(database: Database, name: str, duration: object) -> None:
    """The error names the argument."""
    arguments: dict[str, Any] = {name: duration}
    with pytest.raises(InvalidInput, match=name):
        OutboxWorker(database, print, **arguments)
