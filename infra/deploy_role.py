"""The CDK app of the policies and the role that deploy an environment; `deploy.py prepare` deploys it."""

import sys
from pathlib import Path

from aws_cdk import App
from registration_infra import EnvironmentConfig, InfraConfigError, load
from registration_infra.stacks.deploy_role import DeployRoleStack

_INFRA = Path(__file__).parent


def build_app(config: EnvironmentConfig, *, outdir: Path | None = None) -> App:
    """Return the app of one environment; *outdir* is the folder that `synth` writes to."""
    app = App(outdir=None if outdir is None else str(outdir), analytics_reporting=False)
    DeployRoleStack(app, config=config)
    return app


def main() -> int:
    """Write the template of the environment in the context; return the exit code."""
    name = App(auto_synth=False).node.try_get_context("environment")
    if name is None:
        print("the context has no environment: expected --context environment=NAME", file=sys.stderr)
        return 2
    try:
        build_app(load(_INFRA / "environments" / f"{name}.toml")).synth()
    except InfraConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
