"""The workflows of GitHub Actions and the Makefile."""

import re
import shlex

import pytest
from deployment.fake_cloud import MIGRATION_FAILED, ROOT, Cloud, deployment
from deployment.workflow_files import WORKFLOWS, read_yaml, workflow
from registration_infra import ENVIRONMENTS
from registration_infra.config import AuroraConfig

NAMES = sorted(path.name for path in WORKFLOWS.iterdir())
# `uses` of a step, with the version as a comment, which Dependabot updates too.
PINNED = re.compile(r" *(?:- )?uses: (?:actions|aws-actions|pypa)/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# The jobs of release.yml that write; test_release_workflow.py has their permissions.
PUBLISHING = {"attest", "publish", "github"}
CREDENTIALS = "aws-actions/configure-aws-credentials@"
DEPLOY, ENVIRONMENT = workflow("deploy.yml"), workflow("deploy-environment.yml")
STEPS = ENVIRONMENT["jobs"]["deploy"]["steps"]
MAKES = [step["run"] for step in STEPS if step.get("run", "").startswith("make ")]


def targets() -> dict[str, str]:
    """Return the documented targets of the Makefile and their descriptions."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*?## (.*)$", text, re.MULTILINE))


def prerequisites(target: str) -> set[str]:
    """Return everything that a target of the Makefile makes first."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = {
        name: line.partition("##")[0].split() for name, line in re.findall(r"^([^\s#:=]+): *(.*)$", text, re.MULTILINE)
    }
    needed, pending = set[str](), [target]
    while pending:
        new = set(found.get(pending.pop(), [])) - needed
        needed |= new
        pending += new
    return needed


@pytest.mark.parametrize("name", NAMES)
def test_workflows_use_existing_targets(name: str) -> None:
    """Every `make` in a workflow names a target of the Makefile."""
    for job in workflow(name)["jobs"].values():
        for step in job.get("steps", []):
            for target in re.findall(r"\bmake (\S+)", step.get("run", "")):
                named = job["strategy"]["matrix"]["target"] if target == '"$TARGET"' else [target]
                assert set(named) <= targets().keys(), step


@pytest.mark.parametrize("name", NAMES)
def test_workflows_follow_the_common_rules(name: str) -> None:
    """Jobs have a timeout, checkouts leave no credentials behind, no run is cancelled, and no command has a secret."""
    found = workflow(name)
    for job in (found, *found["jobs"].values()):
        assert job.get("concurrency", {}).get("cancel-in-progress", "false") == "false"
    for job in found["jobs"].values():
        assert "uses" in job or 0 < int(job["timeout-minutes"]) <= 60
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", "")  # it would be replaced before the shell parses the command
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": "false"}
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    assert "secrets." not in text
    assert not re.search(r"pull_request_target|workflow_run|curl|wget|pip install|npm install|npx", text)


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_pinned_by_commit(name: str) -> None:
    """A tag can be moved to other code; a commit cannot. The comment names the version of the commit."""
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    used = [line for line in text.splitlines() if "uses:" in line and "uses: ./.github/workflows/" not in line]

    assert [line for line in used if not PINNED.fullmatch(line)] == []
    steps = [step for job in workflow(name)["jobs"].values() for step in job.get("steps", []) if "uses" in step]
    assert len(steps) == len(used)
    assert not re.search(r"^ *(?:container|services|image):", text, re.MULTILINE)


def test_every_workflow_pins_the_same_commits() -> None:
    """Each action has one commit, and each commit one version."""
    lines = {
        line.strip().removeprefix("- ")
        for name in NAMES
        for line in (WORKFLOWS / name).read_text(encoding="utf-8").splitlines()
        if PINNED.fullmatch(line)
    }

    assert len(lines) == len({line.partition("@")[0] for line in lines}) == 7


@pytest.mark.parametrize("name", NAMES)
def test_each_job_has_its_own_permissions(name: str) -> None:
    """The workflow grants nothing. A job may read the code; only a job that deploys or releases may do more."""
    found = workflow(name)

    assert found["permissions"] == {}
    for job_name, job in found["jobs"].items():
        is_deployment = job.get("uses", "").endswith("/deploy-environment.yml") or name == "deploy-environment.yml"
        allowed = {"contents": "read", "id-token": "write"} if is_deployment else {"contents": "read"}
        if name != "release.yml" or job_name not in PUBLISHING:
            assert job["permissions"] == allowed
        gets_credentials = any(step.get("uses", "").startswith(CREDENTIALS) for step in job.get("steps", []))
        assert not gets_credentials or is_deployment


def test_vulnerabilities_are_searched_every_night() -> None:
    """The nightly workflow searches the locked packages; Dependabot proposes newer ones of each kind after days."""
    nightly = workflow("nightly.yml")
    updates = read_yaml(WORKFLOWS.parent / "dependabot.yml")["updates"]

    assert "schedule" in nightly["on"]
    assert [step["run"] for step in nightly["jobs"]["audit"]["steps"] if "run" in step] == ["make audit"]
    found = {each["package-ecosystem"]: each.get("directories", [each.get("directory")]) for each in updates}
    assert found == {
        "github-actions": ["/"],
        "pip": ["/requirements", "/infra"],
        "npm": ["/infra"],
        "docker": ["/.devcontainer"],
    }
    assert all(int(each["cooldown"]["default-days"]) >= 7 for each in updates)


def test_deploy_runs_on_main_and_manually() -> None:
    """Only main is deployed, after the tests."""
    assert DEPLOY["on"] == {"push": {"branches": ["main"]}, "workflow_dispatch": ""}
    assert DEPLOY["jobs"]["test"]["if"] == "github.ref == 'refs/heads/main'"
    assert DEPLOY["jobs"]["test"]["strategy"]["matrix"]["target"] == ["check", "infra-test"]
    assert ENVIRONMENT["on"].keys() == {"workflow_call"}


def test_deploy_tests_like_ci() -> None:
    """The tests before a deployment run in the same environment as those of CI, on the version of a new cluster."""
    ours, theirs = DEPLOY["jobs"]["test"], workflow("ci.yml")["jobs"]["check"]

    assert ours["runs-on"] == theirs["runs-on"]
    version = AuroraConfig.model_fields["engine_version"].default.partition(".")[0]
    assert ours["env"] == {**theirs["env"], "TARGET": "${{ matrix.target }}", "TEST_POSTGRES_VERSION": version}
    for index in (0, 2):
        assert ours["steps"][index] == theirs["steps"][index]
    check = ours["steps"][3]["run"].replace('"$TARGET"', "check")
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
        assert job.keys() == {"name", "needs", "uses", "with", "permissions"}


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
    """The credentials of the role are the only ones, and no step after them but those of the deployment gets them."""
    (index,) = [number for number, step in enumerate(STEPS) if step.get("uses", "").startswith(CREDENTIALS)]

    assert STEPS[index]["with"] == {
        "role-to-assume": "${{ vars.AWS_ROLE_ARN }}",
        "aws-region": "${{ vars.AWS_REGION }}",
    }
    assert [step.get("run") for step in STEPS[index + 1 :]] == MAKES[1:]


def test_everything_is_installed_before_there_are_credentials() -> None:
    """The targets that run with credentials need only what `make infra-synth` has installed before."""
    (index,) = [number for number, step in enumerate(STEPS) if step.get("uses", "").startswith(CREDENTIALS)]
    installed = prerequisites("infra-synth")

    assert [step["run"] for step in STEPS[:index] if step.get("run", "").startswith("make ")] == ["make infra-synth"]
    assert {"infra/node_modules/.installed", "$(INFRA_VENV)/.installed", "infra-build"} <= installed
    for command in MAKES[1:]:
        assert prerequisites(command.removeprefix("make ")) <= installed


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
