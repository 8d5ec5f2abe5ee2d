"""cfn-guard with the rules of AWS Control Tower reports nothing that `accepted_findings.toml` does not explain."""

import io
import json
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from scan.findings import Finding, problems_of, write_templates

_RESOURCE = re.compile(r"/Resources/([^/]+)")
_RULE = re.compile(r"\[(CT\.[A-Z0-9.]+)\]")
_MIN_NUMBER_OF_RULES = 237


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of cfn-guard and its rules, unpacked from the CDK's validator."""
    folder = tmp_path_factory.mktemp("guard")
    (archive,) = (
        each for each in files("cdklabs.cdk_validator_cfnguard._jsii").iterdir() if each.name.endswith(".jsii.tgz")
    )
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as content:
        content.extractall(folder, filter="data")
    return folder / "package"


@pytest.mark.nightly
def test_each_finding_is_explained(guard: Path, tmp_path: Path) -> None:
    """Each finding of all rules is listed with its reason, and each line of the list has a finding."""
    templates = write_templates(tmp_path)

    report = run(guard, tmp_path)

    assert len(report) == len(templates) == 11
    assert (
        sum(len(report[0][status]) for status in ("not_compliant", "compliant", "not_applicable"))
        >= _MIN_NUMBER_OF_RULES
    )
    assert problems_of("cfn-guard", findings(report)) == []


def test_a_finding_is_found(guard: Path, tmp_path: Path) -> None:
    """A cluster without encryption is a finding, so the rules are applied."""
    (tmp_path / "cluster.json").write_text(
        '{"Resources": {"Database": {"Type": "AWS::RDS::DBCluster", "Properties": {"StorageEncrypted": false}}}}',
        encoding="utf-8",
    )

    assert Finding("CT.RDS.PR.16", "Database") in set(findings(run(guard, tmp_path)))


def run(guard: Path, templates: Path) -> list[dict[str, Any]]:
    """Return the report of cfn-guard on the templates in a folder, with one entry for each template."""
    system = "macos" if sys.platform == "darwin" else "ubuntu"
    machine = "aarch64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    program = guard / "bin" / system / machine / "cfn-guard"
    program.chmod(0o755)
    rules = guard / "rules" / "control-tower" / "cfn-guard"
    command: list[str | Path] = [program, "validate", "--rules", rules, "--data", templates]
    options = ["--output-format", "json", "--show-summary", "none", "--structured"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=300)
    report = json.loads(done.stdout or "null")
    assert isinstance(report, list), done.stderr
    return report


def findings(report: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield the findings of a report of cfn-guard."""
    for rule in (rule for template in report for rule in template["not_compliant"]):
        name = _RULE.search(json.dumps(rule))
        assert name is not None, rule
        for path in _paths(rule):
            if match := _RESOURCE.match(path):
                yield Finding(name[1], match[1])


def _paths(value: Any) -> Iterator[str]:
    """Yield each value of a key `path` in a report, at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str):
            yield value["path"]
        for each in value.values():
            yield from _paths(each)
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each)
