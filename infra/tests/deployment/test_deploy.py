"""`deploy.py` and the targets of the Makefile: the order of a deployment, and what ends it.

They run unchanged, against the fake AWS of `fake_cloud.py`.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import deploy
import pytest
from deployment.fake_cloud import (
    AFTER,
    ANSWERS,
    BEFORE,
    EXISTING,
    INFRA,
    MIGRATION_FAILED,
    Cloud,
    answered,
    copy_infra,
    deployment,
    function,
)
from registration_infra import ENVIRONMENTS
from registration_infra.deploy_policies import EXECUTION_POLICIES


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_deploy_runs_all_steps_in_order(cloud: Cloud, environment: str) -> None:
    """`make deploy` runs the four steps of a deployment in order and prints them."""
    run = cloud.make("deploy", f"ENVIRONMENT={environment}")

    assert (run.code, run.err) == (0, [])
    assert cloud.summary == deployment(environment)
    assert run.out == [
        f"{environment}: Deploy the database stack, and the one of the restore test if the file asks for it.",
        "cdk was here",
        f"{environment}: Create the database roles and grant their privileges.",
        f'{environment}: bootstrap: {BEFORE}, unchanged {{"changes": ["a role"]}}',
        f"{environment}: Upgrade the schema to the newest revision.",
        f"{environment}: upgrade: {BEFORE} → {AFTER}",
        f"{environment}: Deploy the application stack.",
        "cdk was here",
    ]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("infra-synth", "synth --quiet"),
        ("deploy-database", "deploy registration-staging-database"),
        ("bootstrap", f"bootstrap {function('staging')}"),
        ("migrate", f"upgrade {function('staging')}"),
        ("deploy-application", "deploy registration-staging-application"),
    ],
)
def test_each_make_target_runs_one_step(cloud: Cloud, target: str, expected: str) -> None:
    """Each target of the Makefile runs one step in the environment of the variable ENVIRONMENT."""
    run = cloud.make(target, ENVIRONMENT="staging")

    assert (run.code, run.err) == (0, [])
    assert cloud.summary == [expected]


def test_default_environment_is_dev(cloud: Cloud) -> None:
    """Without ENVIRONMENT, the environment is dev."""
    assert cloud.make("migrate").out == [f"dev: upgrade: {BEFORE} → {AFTER}"]
    assert cloud.summary == [f"upgrade {function('dev')}"]


def test_prepare_account_and_destroy(cloud: Cloud) -> None:
    """`cdk bootstrap` limits CloudFormation to policies that exist already; `cdk destroy` runs without `--force`."""
    assert [cloud.make("prepare-account").code, cloud.make("destroy").code] == [0, 0]

    common = ["--context", "environment=dev", "--strict", "--no-notices"]
    start = "arn:aws:iam::111111111111:policy/registration-dev-execution-"
    policies = ",".join(f"{start}{name}" for name in EXECUTION_POLICIES)
    assert [call["cdk"] for call in cloud.calls] == [
        ["deploy", "registration-dev-deploy-role", "--app", "python deploy_role.py", *common],
        ["bootstrap", "aws://111111111111/eu-central-1", "--cloudformation-execution-policies", policies, *common],
        ["destroy", "--all", *common],
    ]


def test_cdk_runs_without_questions(cloud: Cloud) -> None:
    """`cdk deploy` deploys only the named stack, without approval; warnings are errors; `cdk synth` does no lookups."""
    for step in ("synth", "database", "application"):
        assert cloud.step(step).code == 0

    common = ["--context", "environment=dev", "--strict", "--no-notices"]
    without_approval = ["--exclusively", "--require-approval", "never"]
    assert [call["cdk"] for call in cloud.calls] == [
        ["synth", "--quiet", "--no-lookups", *common],
        ["deploy", "registration-dev-database", *without_approval, *common],
        ["deploy", "registration-dev-application", *without_approval, *common],
    ]
    assert {call["cwd"] for call in cloud.calls} == {str(INFRA)}
    assert {call["stdin"] for call in cloud.calls} == {""}


@pytest.mark.parametrize("by_make", [True, False])
@pytest.mark.parametrize(
    ("done", "action", "problem"),
    [
        (1, None, "cdk deploy for dev failed with exit code 7: see above"),
        (
            2,
            "bootstrap",
            (
                "registration-dev-migrate failed in bootstrap: "
                'RegistrationPersistenceError: upgrade failed: relation "people" already exists'
            ),
        ),
        (
            3,
            "upgrade",
            (
                "registration-dev-migrate failed in upgrade: "
                'RegistrationPersistenceError: upgrade failed: relation "people" already exists'
            ),
        ),
    ],
    ids=["database", "bootstrap", "migrate"],
)
def test_first_failure_ends_the_deployment(
    cloud: Cloud, done: int, action: str | None, problem: str, *, by_make: bool
) -> None:
    """If the database, the roles or the schema fail, no further step runs, and one line names the failure."""
    if action:
        cloud.replies[action] = MIGRATION_FAILED
    fails = "registration-dev-database" if action is None else ""

    run = cloud.make("deploy", FAKE_CDK_FAILS=fails) if by_make else cloud.step("all", FAKE_CDK_FAILS=fails)

    assert run.code == (2 if by_make else 1)
    assert [line for line in run.err if not line.startswith("make: ***")] == [f"deploy.py: {problem}"]
    assert cloud.summary == deployment("dev")[:done]


def test_failed_application_fails_the_deployment(cloud: Cloud) -> None:
    """A failure of the last step gives exit code 1 too."""
    run = cloud.step("all", FAKE_CDK_FAILS="registration-dev-application")

    assert (run.code, run.err) == (1, ["deploy.py: cdk deploy for dev failed with exit code 7: see above"])
    assert cloud.summary == deployment("dev")


def test_missing_cdk_is_one_line(cloud: Cloud, tmp_path: Path) -> None:
    """If `cdk` does not exist or is not executable, the error names the target that installs it."""
    missing, installation = tmp_path / "missing", ": run make infra-synth to install it"

    run = cloud.step("database", CDK=str(missing))
    assert run.code == 1
    assert run.err == [f"deploy.py: {missing} cannot be run (No such file or directory){installation}"]

    missing.write_text("", encoding="utf-8")
    assert cloud.step("database", CDK=str(missing)).err == [
        f"deploy.py: {missing} cannot be run (Permission denied){installation}"
    ]


def test_cdk_is_the_pinned_one(cloud: Cloud, tmp_path: Path) -> None:
    """Unless the variable CDK is set, `cdk` is the one of infra/node_modules."""
    infra = copy_infra(tmp_path, EXISTING)
    pinned = infra / "node_modules" / ".bin"
    pinned.mkdir(parents=True)
    cloud.cdk.rename(pinned / "cdk")

    assert cloud.step("application", infra=infra, CDK="").code == 0
    assert cloud.summary == ["deploy registration-dev-application"]


def test_interrupt_is_one_line(cloud: Cloud) -> None:
    """Ctrl-C gives exit code 130 and one line, which says that operations in AWS continue."""
    cloud.answering.clear()
    command = ["env", "--default-signal=INT", sys.executable, str(INFRA / "deploy.py"), "all", "dev"]
    with subprocess.Popen(command, env=cloud.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert cloud.requested.wait(30)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)

    assert process.returncode == 130
    assert error.decode().splitlines() == ["deploy.py: interrupted: operations that AWS has already started continue"]
    assert cloud.summary == deployment("dev")[:2]


@pytest.mark.parametrize(
    ("step", "answer", "printed"),
    [
        ("migrate", {"before": None, "after": AFTER}, f"dev: upgrade: no revision → {AFTER}"),
        ("migrate", {"before": AFTER, "after": AFTER}, f"dev: upgrade: {AFTER}, unchanged"),
        ("current", ANSWERS["current"], f'dev: current: {AFTER}, unchanged {{"newest": "{AFTER}"}}'),
        ("check", ANSWERS["check"], f'dev: check: {AFTER}, unchanged {{"in_step": true}}'),
    ],
)
def test_answer_is_printed_in_one_line(cloud: Cloud, step: str, answer: Mapping[str, Any], printed: str) -> None:
    """The revisions come first, and all other values follow as JSON."""
    cloud.replies["upgrade" if step == "migrate" else step] = answered(answer)

    run = cloud.step(step)

    assert (run.code, run.out, run.err) == (0, [printed], [])


def test_success_on_a_terminal_without_unicode(cloud: Cloud) -> None:
    """If the terminal cannot print the arrow, the exit code is still 0."""
    run = cloud.step("migrate", PYTHONIOENCODING="ascii")

    assert (run.code, run.out, run.err) == (0, [f"dev: upgrade: {BEFORE} ? {AFTER}"], [])


def test_check_fails_if_the_database_differs(cloud: Cloud) -> None:
    """`check` gives exit code 1 if the database differs from the migrations, and prints the difference."""
    cloud.replies["check"] = answered({**ANSWERS["check"], "in_step": False, "differs": "add_column people.age"})

    run = cloud.step("check")

    assert (run.code, run.out) == (1, [])
    assert run.err == ["deploy.py: the database of dev differs from the migrations: add_column people.age"]


def test_existing_database_is_left_alone(cloud: Cloud, tmp_path: Path) -> None:
    """With an existing database, only the application is deployed, and the output names the commands to run."""
    run = cloud.step("all", infra=copy_infra(tmp_path, EXISTING))

    assert (run.code, run.err) == (0, [])
    assert cloud.summary == ["deploy registration-dev-application"]
    skipped = "dev: skipped, because the environment uses an existing database"
    assert run.out == [
        "dev: Deploy the database stack, and the one of the restore test if the file asks for it.",
        skipped,
        "dev: Create the database roles and grant their privileges.",
        f"{skipped}: run `registration-persistence bootstrap` where that database can be reached",
        "dev: Upgrade the schema to the newest revision.",
        f"{skipped}: run `registration-persistence migrate` where that database can be reached",
        "dev: Deploy the application stack.",
        "cdk was here",
    ]


@pytest.mark.parametrize(("step", "environment"), [("everything", "dev"), ("all", "production"), ("all", "../dev")])
def test_unknown_step_or_environment_is_rejected(cloud: Cloud, step: str, environment: str) -> None:
    """An unknown argument gives exit code 2, and the error lists the valid ones."""
    run = cloud.step(step, environment)

    assert run.code == 2
    assert "invalid choice" in run.err[-1]
    assert all(name in run.err[-1] for name in (ENVIRONMENTS if step == "all" else deploy.STEPS))
    assert cloud.summary == []


def test_the_restore_test_is_deployed_after_the_database(cloud: Cloud, tmp_path: Path) -> None:
    """Only if the file asks for it, `make deploy-database` deploys the stack of the restore test too."""
    dev = (INFRA / "environments" / "dev.toml").read_text(encoding="utf-8")
    assert "[backup]" not in dev
    infra = copy_infra(tmp_path, f"{dev}\n[backup]\nown_plan = true\nrestore_test = true\n")

    assert cloud.step("database", infra=infra).code == 0
    assert cloud.summary == ["deploy registration-dev-database", "deploy registration-dev-restore-testing"]


def test_wrong_configuration_is_listed(cloud: Cloud, tmp_path: Path) -> None:
    """A file with two mistakes gives exit code 2 and a list of both; no request is sent."""
    dev = (INFRA / "environments" / "dev.toml").read_text(encoding="utf-8")
    infra = copy_infra(tmp_path, dev.replace("max_capacity = 1\n", "max_capacity = 0.7\nspeed = 3\n"))

    run = cloud.step("all", infra=infra)

    assert (run.code, run.out) == (2, [])
    assert run.err[0] == f"deploy.py: {infra}/environments/dev.toml is wrong:"
    assert ["  - ", "  - "] == [line[:4] for line in run.err[1:]]
    assert {"speed", "max_capacity"} <= set(re.findall(r"\w+", "\n".join(run.err[1:])))
    assert cloud.summary == []
