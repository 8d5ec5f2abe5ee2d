"""The steps of a deployment, each also a target of the Makefile: `python deploy.py STEP ENVIRONMENT`.

The database is deployed first, then its roles are made and its schema is brought up to date, and only then the
application is deployed. A step that fails ends it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from io import TextIOWrapper
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from registration_infra import ENVIRONMENTS, EnvironmentConfig, InfraConfigError, load  # noqa: E402 after the path is set

# Seconds: as long as a function of Lambda can run, and a little.
_LONGEST_MIGRATION = 930
# Bytes of an answer that is not understood.
_EXCERPT = 200
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


class StepFailed(Exception):
    """A step of the deployment failed; the message says what to do."""


def prepare(config: EnvironmentConfig) -> None:
    """Prepare the account and the region for the CDK, once."""
    _cdk("bootstrap", config, f"aws://{config.account}/{config.region}")


def synth(config: EnvironmentConfig) -> None:
    """Write the templates to `cdk.out` and check them, without asking the account anything."""
    _cdk("synth", config, "--quiet", "--no-lookups")


def database(config: EnvironmentConfig) -> None:
    """Deploy the stack of the database."""
    if config.provision_aurora:
        _deploy(config, "database")
    else:
        _say(config, "the database is somebody else's, so that none is deployed")


def bootstrap(config: EnvironmentConfig) -> None:
    """Make the roles, and give them what they need."""
    _migrate(config, "bootstrap", command="bootstrap")


def migrate(config: EnvironmentConfig) -> None:
    """Bring the schema up to date."""
    _migrate(config, "upgrade", command="migrate")


def current(config: EnvironmentConfig) -> None:
    """Print the revision that the database is at."""
    _migrate(config, "current", command="current")


def check(config: EnvironmentConfig) -> None:
    """Compare the database with the newest revision and the models."""
    _migrate(config, "check", command="check")


def application(config: EnvironmentConfig) -> None:
    """Deploy the stack of the application."""
    _deploy(config, "application")


def destroy(config: EnvironmentConfig) -> None:
    """Delete both stacks, after asking."""
    _cdk("destroy", config, "--all")


def everything(config: EnvironmentConfig) -> None:
    """Do all that a deployment takes, in its order."""
    for step in (database, bootstrap, migrate, application):
        _say(config, (step.__doc__ or "").splitlines()[0])
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
    "all": everything,
    "destroy": destroy,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Take one step and return the exit code: 0 done, 1 failed, 2 wrong arguments or configuration."""
    parser = argparse.ArgumentParser(description="Take one step of a deployment.")
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("environment", choices=ENVIRONMENTS)
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a migration that worked must not fail for an arrow
    try:
        STEPS[options.step](load(HERE / "environments" / f"{options.environment}.toml"))
    except InfraConfigError as error:
        return _complain(str(error), WRONG_USE)
    except StepFailed as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted; what AWS has begun, it goes on with", INTERRUPTED)
    return 0


def _complain(problem: str, code: int) -> int:
    print(f"{Path(__file__).name}: {problem}", file=sys.stderr)
    return code


def _say(config: EnvironmentConfig, what: str) -> None:
    # At once, for what cdk prints must not come before it.
    print(f"{config.name}: {what}", flush=True)


def _deploy(config: EnvironmentConfig, stack: str) -> None:
    # Whoever approves a deployment does it before this runs, so nobody is asked here.
    _cdk("deploy", config, f"{config.prefix}-{stack}", "--exclusively", "--require-approval", "never")


def _cdk(command: str, config: EnvironmentConfig, *arguments: str) -> None:
    cdk = os.environ.get("CDK", str(HERE / "node_modules" / ".bin" / "cdk"))
    try:
        run = subprocess.run(  # noqa: S603 the command line that package.json pins
            [cdk, command, *arguments, "--context", f"environment={config.name}", "--strict", "--no-notices"],
            cwd=HERE,
            check=False,
        )
    except OSError as error:
        raise StepFailed(f"{cdk} cannot be run ({error.strerror}): make infra-synth installs it") from error
    if run.returncode:
        raise StepFailed(f"cdk {command} for {config.name} failed with exit code {run.returncode}: see above")


def _migrate(config: EnvironmentConfig, action: str, *, command: str) -> None:
    if not config.provision_aurora:
        _say(
            config,
            "the database is somebody else's, and nothing here reaches it: run `registration-persistence "
            f"{command}` where it can be reached",
        )
        return
    answer = _invoke(config, action)
    if answer.get("in_step") is False:
        raise StepFailed(f"the database of {config.name} is not what the revisions make: {answer.get('differs')}")
    _say(config, f"{action}: {_readable(answer)}")


def _readable(answer: Mapping[str, Any]) -> str:
    before, after = (answer.get(key) or "no revision" for key in ("before", "after"))
    others = {key: value for key, value in answer.items() if key not in {"action", "before", "after"}}
    revisions = f"{before}, as before" if before == after else f"{before} → {after}"
    return f"{revisions} {json.dumps(others)}" if others else revisions


def _invoke(config: EnvironmentConfig, action: str) -> dict[str, Any]:
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError

    name = f"{config.prefix}-migrate"
    try:
        client = Session(region_name=config.region).client(
            "lambda",
            # Asked again, it would run again; and a connection that is silent for minutes must not be taken for idle.
            config=Config(read_timeout=_LONGEST_MIGRATION, retries={"total_max_attempts": 1}, tcp_keepalive=True),
        )
        answer = client.invoke(
            # With its account, so that credentials of another one find no namesake there.
            FunctionName=f"{config.account}:function:{name}",
            Payload=json.dumps({"action": action}).encode(),
        )
        content = answer["Payload"].read()
    except NoCredentialsError:
        raise StepFailed("there are no AWS credentials: sign in (aws sso login), or set AWS_PROFILE") from None
    except HTTPClientError as error:
        raise StepFailed(_unknown(config, name, action, str(error))) from error
    except ClientError as error:
        raise StepFailed(_refused(config, name, action, error.response)) from error
    except BotoCoreError as error:
        raise StepFailed(f"{name} could not be invoked for {action}: {error}") from error
    return _understood(name, action, content, failed="FunctionError" in answer)


def _refused(config: EnvironmentConfig, name: str, action: str, response: Mapping[str, Any]) -> str:
    code, problem = (response["Error"].get(key, "") for key in ("Code", "Message"))
    if response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unknown(config, name, action, f"{code}: {problem}")
    if code == "ResourceNotFoundException":
        return (
            f"{name} does not exist in {config.account}, {config.region}: deploy the database first, with "
            f"make deploy-database ENVIRONMENT={config.name}"
        )
    if code == "TooManyRequestsException":
        return f"{name} is running already, and only one may: wait until it is done"
    return f"{name} could not be invoked for {action}: {code}: {problem}"


def _unknown(config: EnvironmentConfig, name: str, action: str, problem: str) -> str:
    return (
        f"{name} was asked for {action}, and may be running still: {problem}; its log is /aws/lambda/{name}, and "
        f"`python {Path(__file__).name} current {config.name}` says what the database is at"
    )


def _understood(name: str, action: str, content: bytes, *, failed: bool) -> dict[str, Any]:
    try:
        payload = json.loads(content)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise StepFailed(f"{name} answered {action} with what is no JSON object: {content[:_EXCERPT]!r}")
    if failed:
        message = " ".join(str(payload.get("errorMessage")).split())
        raise StepFailed(f"{name} failed in {action}: {payload.get('errorType')}: {message}")
    return payload


if __name__ == "__main__":
    sys.exit(main())
