"""The steps of a deployment, each also a target of the Makefile: `python deploy.py STEP ENVIRONMENT`.

The order is: database, roles, schema, application. A step that fails ends the deployment.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from registration_infra import ENVIRONMENTS, EnvironmentConfig, InfraConfigError, load
from registration_infra.deploy_policies import execution_policy_arns
from registration_infra.migrate_client import Action, InvocationFailed, invoke

_INFRA = Path(__file__).parent
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class StepFailed(Exception):
    """A step of the deployment failed; the message says what to do."""


def prepare(config: EnvironmentConfig) -> None:
    """Create the policies and the role of deployments, and prepare the region for the CDK; needed once."""
    # Without the policies, the CDK would let CloudFormation act as an administrator.
    _cdk("deploy", config, f"{config.prefix}-deploy-role", "--app", "python deploy_role.py")
    policies = ",".join(execution_policy_arns(config))
    address = f"aws://{config.account}/{config.region}"
    _cdk("bootstrap", config, address, "--cloudformation-execution-policies", policies)


def synth(config: EnvironmentConfig) -> None:
    """Write the templates to `cdk.out` and check them, without any request to AWS."""
    _cdk("synth", config, "--quiet", "--no-lookups")


def database(config: EnvironmentConfig) -> None:
    """Deploy the database stack, and the one of the restore test if the file asks for it."""
    if config.provision_aurora:
        _cdk_deploy(config, "database")
        if config.backup.restore_test:
            _cdk_deploy(config, "restore-testing")
    else:
        _print(config, "skipped, because the environment uses an existing database")


def bootstrap(config: EnvironmentConfig) -> None:
    """Create the database roles and grant their privileges."""
    _migrate(config, "bootstrap", command="bootstrap")


def migrate(config: EnvironmentConfig) -> None:
    """Upgrade the schema to the newest revision."""
    _migrate(config, "upgrade", command="migrate")


def current(config: EnvironmentConfig) -> None:
    """Print the revision of the database."""
    _migrate(config, "current", command="current")


def check(config: EnvironmentConfig) -> None:
    """Compare the database with the newest revision and the models."""
    _migrate(config, "check", command="check")


def application(config: EnvironmentConfig) -> None:
    """Deploy the application stack."""
    _cdk_deploy(config, "application")


def destroy(config: EnvironmentConfig) -> None:
    """Delete all stacks, after a confirmation."""
    _cdk("destroy", config, "--all")


def deploy_all(config: EnvironmentConfig) -> None:
    """Run all steps of a deployment in order."""
    for step in (database, bootstrap, migrate, application):
        _print(config, (step.__doc__ or "").splitlines()[0])
        step(config)


STEPS: Mapping[str, Callable[[EnvironmentConfig], None]] = {
    "prepare": prepare,
    "synth": synth,
    "database": database,
    "bootstrap": bootstrap,
    "migrate": migrate,
    "current": current,
    "check": check,
    "application": application,
    "all": deploy_all,
    "destroy": destroy,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step and return the exit code: 0 success, 1 failure, 2 wrong arguments or configuration."""
    parser = argparse.ArgumentParser(description="Run one step of a deployment.")
    parser.add_argument("step", choices=STEPS, help="the step")
    parser.add_argument("environment", choices=ENVIRONMENTS, help="the environment; its file is in environments/")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        # A successful migration must not fail because the terminal cannot print the arrow between two revisions.
        sys.stdout.reconfigure(errors="replace")
    try:
        STEPS[options.step](load(_INFRA / "environments" / f"{options.environment}.toml"))
    except InfraConfigError as error:
        return _fail(str(error), EXIT_USAGE)
    except (StepFailed, InvocationFailed) as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted: operations that AWS has already started continue", EXIT_INTERRUPTED)
    return 0


def _fail(problem: str, exit_code: int) -> int:
    print(f"{Path(__file__).name}: {problem}", file=sys.stderr)
    return exit_code


def _print(config: EnvironmentConfig, message: str) -> None:
    # Flushed, because the output of cdk must come after it.
    print(f"{config.name}: {message}", flush=True)


def _cdk_deploy(config: EnvironmentConfig, stack: str) -> None:
    # Approval, if it is required, happens before this command runs.
    _cdk("deploy", config, f"{config.prefix}-{stack}", "--exclusively", "--require-approval", "never")


def _cdk(command: str, config: EnvironmentConfig, *arguments: str) -> None:
    cdk = os.environ.get("CDK", str(_INFRA / "node_modules" / ".bin" / "cdk"))
    try:
        run = subprocess.run(  # noqa: S603 the version of cdk that package.json pins
            [cdk, command, *arguments, "--context", f"environment={config.name}", "--strict", "--no-notices"],
            cwd=_INFRA,
            check=False,
        )
    except OSError as error:
        raise StepFailed(f"{cdk} cannot be run ({error.strerror}): run make infra-synth to install it") from error
    if run.returncode:
        raise StepFailed(f"cdk {command} for {config.name} failed with exit code {run.returncode}: see above")


def _migrate(config: EnvironmentConfig, action: Action, *, command: str) -> None:
    if not config.provision_aurora:
        _print(
            config,
            "skipped, because the environment uses an existing database: run `registration-persistence "
            f"{command}` where that database can be reached",
        )
        return
    answer = invoke(config, action)
    if answer.get("in_step") is False:
        raise StepFailed(f"the database of {config.name} differs from the migrations: {answer.get('differs')}")
    _print(config, f"{action}: {_summary(answer)}")


def _summary(answer: Mapping[str, Any]) -> str:
    before, after = (answer.get(key) or "no revision" for key in ("before", "after"))
    details = {key: value for key, value in answer.items() if key not in {"action", "before", "after"}}
    revisions = f"{before}, unchanged" if before == after else f"{before} → {after}"
    return f"{revisions} {json.dumps(details)}" if details else revisions


if __name__ == "__main__":
    sys.exit(main())
