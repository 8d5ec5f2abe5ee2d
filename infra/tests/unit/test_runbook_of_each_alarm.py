"""Each alarm names a runbook, and each runbook has an alarm."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from templates import EVERYTHING, templates_of

ROOT = Path(__file__).parents[3]
RUNBOOKS = {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README"}
OF_EVENTS = {"restore-from-the-central-backup"}
"""The runbooks of RDS events, which have no text of their own: the cluster was deleted."""


def runbooks_in(text: str) -> set[str]:
    """Return the runbooks that a text names."""
    return set(re.findall(r"docs/runbooks/([a-z-]+)\.md", text))


def alarms() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each alarm of CloudWatch, of EventBridge and of Datadog."""
    template = templates_of("prod", EVERYTHING).database
    for name, alarm in template.all("CloudWatch::Alarm").items():
        yield name, alarm["AlarmDescription"]
    for name, rule in template.all("Events::Rule").items():
        yield name, rule["Description"]
    for path in sorted((ROOT / "infra/datadog/monitors").glob("*.json")):
        yield path.stem, json.loads(path.read_text(encoding="utf-8"))["message"]


def test_each_alarm_names_its_runbook() -> None:
    """The text of an alarm names one runbook or more, and each of them exists."""
    for name, text in alarms():
        assert runbooks_in(text), name
        assert runbooks_in(text) <= RUNBOOKS, name


def test_each_runbook_has_an_alarm() -> None:
    """An alarm, a rule or a monitor names each runbook; RDS reports that the cluster was deleted."""
    named = set().union(*(runbooks_in(text) for _, text in alarms()))
    subscription = templates_of("prod").database.named("RDS::EventSubscription", "AlarmsEventsdbcluster")

    assert named | OF_EVENTS == RUNBOOKS
    assert not named & OF_EVENTS
    assert "deletion" in subscription["EventCategories"]
