"""The workflows of GitHub Actions and the Makefile."""

import re
import shlex
from typing import Any

import pytest
import yaml
from deployment.fake_cloud import MIGRATION_FAILED, ROOT, Cloud, deployment
from registration_infra import ENVIRONMENTS

WORKFLOWS = ROOT / ".github" / "workflows"


def workflow(name: str) -> dict[str, Any]:
    """Return the workflow of the file *name*; every value is a string."""
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    found = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 this loader creates only strings
    assert isinstance(found, dict)
    return found


NAMES = sorted(path.name for path in WORKFLOWS.iterdir())
DEPLOY, ENVIRONMENT = workflow("deploy.yml"), workflow("deploy-environment.yml")
STEPS = ENVIRONMENT["jobs"]["deploy"]["steps"]
MAKES = [step["run"] for step in STEPS if step.get("run", "").startswith("make ")]


def targets() -> dict[str, str]:
    """Return the documented targets of the Makefile and their descriptions."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*?## (.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_workflows_use_existing_targets(name: str) -> None:
    """Every `make` in a workflow names a target of the Makefile."""
    for job in workflow(name)["jobs"].values():
        for step in job.get("steps", []):
            for target in re.findall(r"\bmake (\$\{\{ matrix\.target }}|\S+)", step.get("run", "")):
                named = job["strategy"]["matrix"]["target"] if target.startswith("$") else [target]
                assert set(named) <= targets().keys(), step


@pytest.mark.parametrize("name", NAMES)
def test_workflows_follow_the_common_rules(name: str) -> None:
    """Jobs have a timeout, actions a major version, checkouts no credentials, and no run is cancelled."""
    found = workflow(name)
    assert found["permissions"]["contents"] == "read"
    for job in found["jobs"].values():
        assert "uses" in job or 0 < int(job["timeout-minutes"]) <= 60
        assert job.get("concurrency", {}).get("cancel-in-progress", "false") == "false"
        for step in job.get("steps", []):
            if "uses" in step:
                assert re.fullmatch(r"(actions|aws-actions)/[a-z-]+@v\d+", step["uses"])
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false"
    assert found.get("concurrency", {}).get("cancel-in-progress", "false") == "false"


def test_deploy_runs_on_main_and_manually() -> None:
    """Only main is deployed, after the tests."""
    assert DEPLOY["on"] == {"push": {"branches": ["main"]}, "workflow_dispatch": ""}
    assert DEPLOY["jobs"]["test"]["if"] == "github.ref == 'refs/heads/main'"
    assert DEPLOY["jobs"]["test"]["strategy"]["matrix"]["target"] == ["check", "infra-test"]
    assert ENVIRONMENT["on"].keys() == {"workflow_call"}


def test_deploy_tests_like_ci() -> None:
    """The tests before a deployment run in the same environment as those of CI."""
    ours, theirs = DEPLOY["jobs"]["test"], workflow("ci.yml")["jobs"]["check"]

    assert (ours["runs-on"], ours["env"]) == (theirs["runs-on"], theirs["env"])
    for index in (0, 2):
        assert ours["steps"][index] == theirs["steps"][index]
    check = ours["steps"][3]["run"].replace("${{ matrix.target }}", "check")
    assert check == theirs["steps"][3]["run"]


def test_environments_are_deployed_in_order() -> None:
    """Each environment needs the previous one, so that a failure ends the deployment."""
    jobs = DEPLOY["jobs"]

    assert list(jobs) == ["test", "dev", "staging", "production"]
    assert [jobs[name]["needs"] for name in ("dev", "staging", "production")] == ["test", "dev", "staging"]
    deployments = [job for name, job in jobs.items() if name != "test"]
    assert [job["with"]["environment"] for job in deployments] == [*ENVIRONMENTS] == ["dev", "staging", "prod"]
    for job in deployments:
        assert job["uses"] == "./.github/workflows/deploy-environment.yml"
        assert job.keys() == {"needs", "uses", "with", "permissions"}


def test_production_needs_approval() -> None:
    """The job uses the environment, whose reviewers approve it; the file says that they must be configured."""
    job = ENVIRONMENT["jobs"]["deploy"]
    comment = (WORKFLOWS / "deploy.yml").read_text(encoding="utf-8").partition("\nname:")[0]

    assert job["environment"] == "${{ inputs.environment }}"
    assert "Configure once" in comment
    assert "`prod` with required reviewers" in comment


def test_one_deployment_per_environment_at_a_time() -> None:
    """A second deployment waits, and a running one is never cancelled."""
    assert ENVIRONMENT["jobs"]["deploy"]["concurrency"] == {
        "group": "deploy-${{ inputs.environment }}",
        "cancel-in-progress": "false",
    }


def test_credentials_come_from_oidc() -> None:
    """Only the jobs that deploy get credentials, from OIDC, before the first step that needs them. No keys."""
    allowed = {"contents": "read", "id-token": "write"}
    assert DEPLOY["permissions"] == {"contents": "read"}
    assert "permissions" not in DEPLOY["jobs"]["test"]
    assert [job["permissions"] for name, job in DEPLOY["jobs"].items() if name != "test"] == [allowed] * 3
    assert ENVIRONMENT["permissions"] == allowed

    (index,) = [
        number for number, step in enumerate(STEPS) if step.get("uses", "").startswith("aws-actions/configure-aws")
    ]
    assert STEPS[index]["with"] == {
        "role-to-assume": "${{ vars.AWS_ROLE_ARN }}",
        "aws-region": "${{ vars.AWS_REGION }}",
    }
    assert index < min(number for number, step in enumerate(STEPS) if step.get("run", "").startswith("make "))
    for name in ("deploy.yml", "deploy-environment.yml"):
        assert "secrets." not in (WORKFLOWS / name).read_text(encoding="utf-8")


def test_workflow_runs_the_make_targets_in_order() -> None:
    """Each target is a step that runs only if all previous steps succeeded."""
    job = ENVIRONMENT["jobs"]["deploy"]

    assert MAKES == [
        "make infra-synth",
        "make deploy-database",
        "make bootstrap",
        "make migrate",
        "make deploy-application",
    ]
    assert [step.get("run") for step in STEPS[-len(MAKES) :]] == MAKES
    assert job["env"]["ENVIRONMENT"] == "${{ inputs.environment }}"
    for each in (job, *STEPS):
        assert not {"if", "continue-on-error", "shell"} & each.keys()


@pytest.mark.parametrize("failing", [None, "bootstrap", "upgrade"])
def test_workflow_steps_equal_make_deploy(cloud: Cloud, failing: str | None) -> None:
    """After the synth, the commands of the workflow make the same calls as `make deploy`, up to a failure."""
    if failing:
        cloud.replies[failing] = MIGRATION_FAILED
    for command in MAKES:
        _, *arguments = shlex.split(command)
        if cloud.make(*arguments, ENVIRONMENT="prod").code:
            break

    done = {None: 4, "bootstrap": 2, "upgrade": 3}[failing]
    assert cloud.summary == ["synth --quiet", *deployment("prod")[:done]]


def test_make_help_lists_all_targets(cloud: Cloud) -> None:
    """`make help` lists every documented target, including those of a deployment."""
    printed = cloud.make("help")

    documented = {line.split()[1]: line.split(maxsplit=2)[2] for line in printed.out}
    assert documented == targets()
    assert {command.removeprefix("make ") for command in MAKES} | {"deploy"} <= documented.keys()
