"""`datadog.marks`: monitors and dashboards without our mark stay as they are."""

from copy import deepcopy
from typing import Any

import pytest
from datadog.marks import OWNER
from datadog_command import Command
from fake_datadog import FakeDatadog


def test_the_owner_tag_stays() -> None:
    """A release with another owner tag would no longer find the monitors and dashboards of earlier ones."""
    assert OWNER == "managed_by:registration_persistence"


@pytest.mark.parametrize("filters", [True, False])
def test_monitors_of_others_stay_as_they_are(command: Command, datadog: FakeDatadog, *, filters: bool) -> None:
    """A monitor without all three of our tags is neither changed nor deleted, even if Datadog's filter returns it."""
    datadog.filters = filters
    for tags in (
        [],
        [OWNER, "monitor_id:gone", "env:prod"],
        [OWNER, "monitor_id:gone"],
        [OWNER, "env:dev"],
        [OWNER, "env:dev", "monitor_id:gone", "monitor_id:cpu"],
        ["managed_by:somebody", "monitor_id:gone", "env:dev"],
        ["monitor_id:gone", "env:dev"],
    ):
        datadog.add_monitor({"name": "theirs", "type": "log alert", "query": "x > 1", "tags": tags})
    theirs = deepcopy(datadog.monitors)

    assert len(command.apply(datadog)) == 17
    assert command.apply(datadog) == []

    assert {number: datadog.monitors[number] for number in theirs} == theirs
    assert {method for method, _ in datadog.changes} == {"POST"}


def test_dashboards_of_others_stay_as_they_are(command: Command, datadog: FakeDatadog) -> None:
    """A dashboard is neither changed nor deleted if it does not end with our line for this environment."""
    for description in (
        None,
        "theirs",
        f"{OWNER} dashboard_id:gone env:prod digest:0",
        f"{OWNER} dashboard_id:gone env:dev",
        f"copied from {OWNER} dashboard_id:gone env:dev digest:0\nand changed",
        "managed_by:somebody dashboard_id:gone env:dev digest:0",
    ):
        body: dict[str, Any] = {"title": "theirs", "description": description, "layout_type": "ordered", "widgets": []}
        datadog.add_dashboard(body)
    theirs = deepcopy(datadog.dashboards)

    assert len(command.apply(datadog)) == 17
    assert command.apply(datadog) == []

    assert {name: datadog.dashboards[name] for name in theirs} == theirs
    assert {method for method, _ in datadog.changes} == {"POST"}
