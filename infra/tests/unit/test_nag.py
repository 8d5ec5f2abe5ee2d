"""The rules that every template is checked against: none is broken, and what is broken on purpose is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from app import build_app
from aws_cdk import App
from aws_cdk import aws_rds as rds
from registration_infra.nag import accepted_findings
from templates import VARIANTS, config_of

HERE = Path(__file__).parents[2]
LINTED = ("dev", "everything", "proxy")


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_rule_is_broken(variant: str, tmp_path: Path) -> None:
    """cdk-nag's AwsSolutions and the CDK's own validation find nothing that is not acknowledged with a reason."""
    name, changes = VARIANTS[variant]
    config = config_of(name, changes)
    build_app(config, require_layer=False, outdir=tmp_path).synth()  # raises where something is found

    report = json.loads((tmp_path / "validation-report.json").read_text())
    suppressed = [one for plugin in report["pluginReports"] for one in plugin.get("suppressedViolations", [])]
    assert suppressed
    assert all(len(one["reason"]) > 20 for one in suppressed)
    assert [] == found(tmp_path)


def test_production_acknowledges_no_missing_protection() -> None:
    """RDS10, deletion protection, is broken in development alone."""
    rules = {
        name: {
            rule
            for construct in build_app(config_of(name), require_layer=False, run_checks=False).node.find_all()
            for rule, _ in accepted_findings(construct, config_of(name))
        }
        for name in ("dev", "prod")
    }

    assert "AwsSolutions::AwsSolutions-RDS10" in rules["dev"]
    assert "AwsSolutions::AwsSolutions-RDS10" not in rules["prod"]


@pytest.mark.parametrize(("attribute", "rule"), [("storage_encrypted", "RDS2"), ("deletion_protection", "RDS10")])
def test_a_rule_that_is_broken_stops_synth(attribute: str, rule: str, tmp_path: Path) -> None:
    """And is named."""
    app, cluster = production(tmp_path)
    setattr(cluster, attribute, False)

    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()

    assert [f"AwsSolutions-{rule}"] == found(tmp_path)


def test_a_template_that_cloudformation_would_refuse_stops_synth(tmp_path: Path) -> None:
    """The CDK's own validation runs too."""
    app, cluster = production(tmp_path)
    cluster.add_property_override("StorageEncrypted", "perhaps")

    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()

    assert ["F3012"] == found(tmp_path)


def production(outdir: Path) -> tuple[App, rds.CfnDBCluster]:
    """Return the app of production, with its checks, and its cluster."""
    app = build_app(config_of("prod"), require_layer=False, outdir=outdir)
    (cluster,) = (one for one in app.node.find_all() if isinstance(one, rds.CfnDBCluster))
    return app, cluster


def found(outdir: Path) -> list[str]:
    """Return the rules that a run of the checks found broken."""
    report = json.loads((outdir / "validation-report.json").read_text())
    return [one["ruleName"] for plugin in report["pluginReports"] for one in plugin["violations"]]


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    """Nor in what reaches most of the constructs; what is ignored is in .cfnlintrc, with its reason."""
    for number, variant in enumerate(LINTED):
        name, changes = VARIANTS[variant]
        build_app(
            config_of(name, changes), require_layer=False, run_checks=False, outdir=tmp_path / str(number)
        ).synth()
    templates = sorted(map(str, tmp_path.glob("*/*.template.json")))

    run = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), *templates], cwd=HERE, capture_output=True, text=True, check=False
    )

    assert len(templates) == 2 * len(LINTED)
    assert (0, "") == (run.returncode, run.stdout), run.stdout + run.stderr
