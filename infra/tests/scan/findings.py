"""The templates to scan, and the comparison of findings with `accepted_findings.toml`."""

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from templates import VARIANTS, templates_of

ACCEPTED = Path(__file__).parents[2] / "accepted_findings.toml"
# Together they contain every resource, and every value of a setting that a rule looks at.
SCANNED = ("dev", "everything", "proxy", "existing", "iam proxy", "express")


class Finding(NamedTuple):
    """A rule, and the logical id of a resource that breaks it."""

    rule: str
    resource: str


def write_templates(folder: Path) -> list[Path]:
    """Write the templates of the scanned variants into *folder*, and return their paths."""
    paths = []
    for variant in SCANNED:
        name, changes = VARIANTS[variant]
        for stack, template in templates_of(name, changes).stacks.items():
            path = folder / f"{variant}-{stack}.template.json"
            path.write_text(json.dumps(template.body), encoding="utf-8")
            paths.append(path)
    return paths


def problems_of(tool: str, findings: Iterable[Finding], accepted: Path = ACCEPTED) -> list[str]:
    """Return each finding of *tool* that is not accepted, and each accepted rule and resource without a finding."""
    entries = tomllib.loads(accepted.read_text(encoding="utf-8"))[tool]
    reasons = {(entry["rule"], start): entry["reason"] for entry in entries for start in entry["resources"]}
    unused, problems = dict(reasons), []
    for finding in sorted(set(findings)):
        matching = [key for key in reasons if key[0] == finding.rule and finding.resource.startswith(key[1])]
        if not matching:
            problems.append(f"{tool}: {finding.resource} breaks {finding.rule}: fix it, or accept it with a reason")
        for key in matching:
            unused.pop(key, None)
    return [*problems, *(f"{tool}: no resource {start}… breaks {rule}: remove it" for rule, start in unused)]
