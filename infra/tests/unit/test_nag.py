"""`registration_infra.nag`: cdk-nag, the CDK's validation and cfn-lint report no finding that is not acknowledged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from app import build_app
from aws_cdk import App
from aws_cdk import aws_rds as rds
from registration_infra.nag import accepted_findings
from templates import VARIANTS, config_of, templates_of

INFRA = Path(__file__).parents[2]
LINTED = ("dev", "everything", "proxy", "iam proxy", "express")


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_unacknowledged_finding(variant: str, tmp_path: Path) -> None:
    """All findings of cdk-nag's AwsSolutions and of the CDK's own validation are acknowledged with a reason."""
    name, changes = VARIANTS[variant]
    config = config_of(name, changes)
    build_app(config, require_layer=False, outdir=tmp_path).synth()  # raises if there is a finding

    report = json.loads((tmp_path / "validation-report.json").read_text())
    suppressed = [one for plugin in report["pluginReports"] for one in plugin.get("suppressedViolations", [])]
    assert suppressed
    assert all(len(one["reason"]) > 20 for one in suppressed)
    assert [] == findings(tmp_path)


def test_missing_deletion_protection_is_acknowledged_only_if_the_file_turns_it_off() -> None:
    """RDS10 is acknowledged in dev; staging and production cannot lose deletion protection unnoticed."""
    rules = {
        name: {
            rule
            for construct in build_app(config_of(name), require_layer=False, run_checks=False).node.find_all()
            for rule, _ in accepted_findings(construct, config_of(name))
        }
        for name in ("dev", "staging", "prod")
    }

    assert "AwsSolutions::AwsSolutions-RDS10" in rules["dev"]
    assert "AwsSolutions::AwsSolutions-RDS10" not in rules["staging"]
    assert "AwsSolutions::AwsSolutions-RDS10" not in rules["prod"]


@pytest.mark.parametrize(("attribute", "rule"), [("storage_encrypted", "RDS2"), ("deletion_protection", "RDS10")])
def test_finding_fails_the_synth(attribute: str, rule: str, tmp_path: Path) -> None:
    """The synth of a template with a finding fails, and the report names the rule."""
    app, cluster = production(tmp_path)
    setattr(cluster, attribute, False)

    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()

    assert [f"AwsSolutions-{rule}"] == findings(tmp_path)


def test_invalid_template_fails_the_synth(tmp_path: Path) -> None:
    """The CDK's own validation rejects a value that CloudFormation would reject."""
    app, cluster = production(tmp_path)
    cluster.add_property_override("StorageEncrypted", "perhaps")

    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()

    assert ["F3012"] == findings(tmp_path)


def production(outdir: Path) -> tuple[App, rds.CfnDBCluster]:
    """Return the app of production with its checks, and its cluster."""
    app = build_app(config_of("prod"), require_layer=False, outdir=outdir)
    (cluster,) = (one for one in app.node.find_all() if isinstance(one, rds.CfnDBCluster))
    return app, cluster


def findings(outdir: Path) -> list[str]:
    """Return the names of the rules in the validation report."""
    report = json.loads((outdir / "validation-report.json").read_text())
    return [one["ruleName"] for plugin in report["pluginReports"] for one in plugin["violations"]]


def test_cfn_lint_has_no_findings(tmp_path: Path) -> None:
    """cfn-lint reports nothing; .cfnlintrc lists the ignored checks with their reasons."""
    for variant in LINTED:
        for name, text in templates_of(*VARIANTS[variant]).texts.items():
            (tmp_path / f"{variant}-{name}").write_text(text, encoding="utf-8")
    templates = sorted(map(str, tmp_path.glob("*.template.json")))

    run = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), *templates], cwd=INFRA, capture_output=True, text=True, check=False
    )

    assert len(templates) == 2 * len(LINTED)  # an express cluster has no stack, and "everything" has a third one
    assert (0, "") == (run.returncode, run.stdout), run.stdout + run.stderr
