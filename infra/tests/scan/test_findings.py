"""`scan.findings`: the comparison of findings with the accepted ones."""

import tomllib
from pathlib import Path

import pytest
from scan.findings import ACCEPTED, Finding, problems_of

RULES = """
[[tool]]
rule = "R1"
resources = ["Key", "Topic"]
reason = "It is meant to be so."
"""


@pytest.fixture
def accepted(tmp_path: Path) -> Path:
    """A file that accepts one rule for two resources."""
    path = tmp_path / "accepted.toml"
    path.write_text(RULES, encoding="utf-8")
    return path


def test_accepted_findings_are_no_problem(accepted: Path) -> None:
    """A finding is accepted by its rule and the start of its logical id."""
    assert problems_of("tool", [Finding("R1", "Key9BCD29C7"), Finding("R1", "TopicA")], accepted) == []


def test_new_and_disappeared_findings_are_problems(accepted: Path) -> None:
    """A finding that is not listed is a problem, and so is a line without a finding."""
    assert problems_of("tool", [Finding("R1", "Key9BCD29C7"), Finding("R2", "KeyA"), Finding("R1", "B")], accepted) == [
        "tool: B breaks R1: fix it, or accept it with a reason",
        "tool: KeyA breaks R2: fix it, or accept it with a reason",
        "tool: no resource Topic… breaks R1: remove it",
    ]


def test_each_accepted_finding_has_a_reason() -> None:
    """Each reason is a sentence."""
    tools = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))

    assert tools.keys() == {"cfn-guard", "checkov", "policies"}
    for entry in (entry for entries in tools.values() for entry in entries):
        assert entry["reason"].endswith(".")
        assert len(entry["reason"]) > 40
