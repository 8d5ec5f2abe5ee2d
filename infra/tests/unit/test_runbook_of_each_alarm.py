"""Each alarm names a runbook, and each runbook has an alarm."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from templates import EVERYTHING, Template, templates_of

ROOT = Path(__file__).parents[3]
RUNBOOKS = {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README"}
OF_EVENTS = {"restore-from-the-central-backup"}
"""The runbooks of RDS events, which have no text of their own: the cluster was deleted."""


def runbooks_in(text: str) -> set[str]:
    """Return the runbooks that a text names."""
    return set(re.findall(r"docs/runbooks/([a-z-]+)\.md", text))


def starts_a_state_machine(template: Template, rule: dict[str, Any]) -> bool:
    """Return whether a rule of EventBridge starts a state machine, whose own alarm reports a failure."""
    machines = template.all("StepFunctions::StateMachine")
    return all(target["Arn"].get("Ref") in machines for target in rule["Targets"])


def alarms() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each alarm of CloudWatch and EventBridge, in all stacks, and of Datadog."""
    for template in templates_of("prod", EVERYTHING).stacks.values():
        for name, alarm in template.all("CloudWatch::Alarm").items():
            yield name, alarm["AlarmDescription"]
        for name, rule in template.all("Events::Rule").items():
            if not starts_a_state_machine(template, rule):
                yield name, rule["Description"]
    for path in sorted((ROOT / "infra/datadog/monitors").glob("*.json")):
        yield path.stem, json.loads(path.read_text(encoding="utf-8"))["message"]


def test_each_alarm_names_its_runbook() -> None:
    """The text of an alarm names one runbook or more, and each of them exists."""
    for name, text in alarms():
        assert runbooks_in(text), name
        assert runbooks_in(text) <= RUNBOOKS, name


def test_the_alarms_are_those_of_all_stacks() -> None:
    """The stack of the restore test has one alarm, and none of its two rules is an alarm."""
    template = templates_of("prod", EVERYTHING).restore_testing
    (name,) = template.all("CloudWatch::Alarm")
    found = [each for each, _ in alarms()]

    assert name in found
    assert 2 == len(template.all("Events::Rule"))
    assert not template.all("Events::Rule").keys() & set(found)


def test_each_runbook_has_an_alarm() -> None:
    """An alarm, a rule or a monitor names each runbook; RDS reports that the cluster was deleted."""
    named = set().union(*(runbooks_in(text) for _, text in alarms()))
    subscription = templates_of("prod").database.named("RDS::EventSubscription", "AlarmsEventsdbcluster")

    assert named | OF_EVENTS == RUNBOOKS
    assert not named & OF_EVENTS
    assert "deletion" in subscription["EventCategories"]
