"""The steps of a deployment, each also a target of the Makefile: `python pipeline.py STEP ENVIRONMENT`.

The database is deployed first, then its roles are made and its schema is brought up to date, and only then the
application is deployed. A step that fails ends it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from registration_infra import ENVIRONMENTS, EnvironmentConfig, InfraConfigError, load  # noqa: E402 after the path is set

# Seconds: as long as a function of Lambda can run, and a little.
_LONGEST_MIGRATION = 930
FAILED, WRONG_USE = 1, 2


class StepFailed(Exception):
    """A step of the deployment failed; the message says what to do."""


def synth(config: EnvironmentConfig) -> None:
    """Write the templates to `cdk.out` and check them, without asking the account anything."""
    _cdk("synth", config, "--quiet", "--no-lookups")


def database(config: EnvironmentConfig) -> None:
    """Deploy the stack of the database."""
    if config.provision_aurora:
        _deploy(config, "database")
    else:
        print(f"{config.name}: the database is somebody else's, so that none is deployed")


def bootstrap(config: EnvironmentConfig) -> None:
    """Make the roles, and give them what they need."""
    _migrate(config, "bootstrap")


def migrate(config: EnvironmentConfig) -> None:
    """Bring the schema up to date."""
    _migrate(config, "upgrade")


def current(config: EnvironmentConfig) -> None:
    """Print the revision that the database is at."""
    _migrate(config, "current")


def check(config: EnvironmentConfig) -> None:
    """Compare the database with the newest revision and the models."""
    _migrate(config, "check")


def application(config: EnvironmentConfig) -> None:
    """Deploy the stack of the application."""
    _deploy(config, "application")


def everything(config: EnvironmentConfig) -> None:
    """Do all that a deployment takes, in its order."""
    for step in (database, bootstrap, migrate, application):
        print(f"{config.name}: {(step.__doc__ or '').splitlines()[0]}", flush=True)
        step(config)


STEPS: Mapping[str, Callable[[EnvironmentConfig], None]] = {
    "synth": synth,
    "database": database,
    "bootstrap": bootstrap,
    "migrate": migrate,
    "current": current,
    "check": check,
    "application": application,
    "all": everything,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Take one step and return the exit code: 0 done, 1 failed, 2 wrong arguments or configuration."""
    parser = argparse.ArgumentParser(description="Take one step of a deployment.")
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("environment", choices=ENVIRONMENTS)
    options = parser.parse_args(arguments)
    try:
        STEPS[options.step](load(HERE / "environments" / f"{options.environment}.toml"))
    except InfraConfigError as error:
        return _complain(error, WRONG_USE)
    except StepFailed as error:
        return _complain(error, FAILED)
    return 0


def _complain(error: Exception, code: int) -> int:
    print(f"{Path(__file__).name}: {error}", file=sys.stderr)
    return code


def _deploy(config: EnvironmentConfig, stack: str) -> None:
    # Whoever approves a deployment does it before this runs, so nobody is asked here.
    _cdk("deploy", config, f"{config.prefix}-{stack}", "--exclusively", "--require-approval", "never")


def _cdk(command: str, config: EnvironmentConfig, *arguments: str) -> None:
    cdk = os.environ.get("CDK", str(HERE / "node_modules" / ".bin" / "cdk"))
    run = subprocess.run(  # noqa: S603 the command line that package.json pins
        [cdk, command, *arguments, "--context", f"environment={config.name}", "--strict", "--no-notices"],
        cwd=HERE,
        check=False,
    )
    if run.returncode:
        raise StepFailed(f"cdk {command} for {config.name} failed with exit code {run.returncode}: see above")


def _migrate(config: EnvironmentConfig, action: str) -> None:
    if not config.provision_aurora:
        print(
            f"{config.name}: the database is somebody else's: run `registration-persistence migrate` where it can be "
            f"reached, in place of {action}"
        )
        return
    print(json.dumps(_invoke(config, action)))


def _invoke(config: EnvironmentConfig, action: str) -> Any:
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    name = f"{config.prefix}-migrate"
    client = Session(region_name=config.region).client(
        "lambda",
        # Asked again, it would run again; and a connection that is silent for minutes must not be taken for idle.
        config=Config(read_timeout=_LONGEST_MIGRATION, retries={"total_max_attempts": 1}, tcp_keepalive=True),
    )
    try:
        answer = client.invoke(FunctionName=name, Payload=json.dumps({"action": action}).encode())
    except client.exceptions.TooManyRequestsException:
        raise StepFailed(f"{name} is running already, and only one may: wait until it is done") from None
    except (BotoCoreError, ClientError) as error:
        raise StepFailed(f"{name} could not be invoked for {action}: {error}") from error
    payload = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise StepFailed(f"{name} failed in {action}: {payload.get('errorType')}: {payload.get('errorMessage')}")
    return payload


if __name__ == "__main__":
    sys.exit(main())
