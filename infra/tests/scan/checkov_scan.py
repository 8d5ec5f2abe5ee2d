"""checkov reports nothing that `accepted_findings.toml` does not explain; `make infra-scan` runs this module.

The name keeps it out of `make infra-test`, because checkov has a virtual environment of its own.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from scan.findings import Finding, problems_of, write_templates

CHECKOV = Path(__file__).parents[3] / ".venv-checkov" / "bin" / "checkov"


def test_each_finding_is_explained(tmp_path: Path) -> None:
    """Each finding is listed with its reason, and each line of the list has a finding."""
    templates = write_templates(tmp_path)

    done = subprocess.run(
        [CHECKOV, "--directory", tmp_path, "--framework", "cloudformation", "--skip-download", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 100
    assert {Path(each["file_path"]).name for each in report["results"]["passed_checks"]} == {
        path.name for path in templates
    }
    assert problems_of("checkov", findings(report["results"]["failed_checks"])) == []


def findings(failed_checks: list[dict[str, str]]) -> Iterator[Finding]:
    """Yield the findings in a report of checkov; it names a resource with its type before a dot."""
    for check in failed_checks:
        yield Finding(check["check_id"], check["resource"].rpartition(".")[2])
