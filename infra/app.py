"""The CDK app: `cdk synth --context environment=dev`; the only file that knows which environments there are."""

import json
import sys
from pathlib import Path

from aws_cdk import App, Tags

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "examples")]

from registration_infra import EnvironmentConfig, InfraConfigError, load  # noqa: E402 after the path is set
from registration_infra.nag import acknowledge, add_checks  # noqa: E402 after the path is set
from registration_infra.stacks.database import DatabaseStack  # noqa: E402 after the path is set
from registration_service.stack import RegistrationServiceStack  # noqa: E402 after the path is set


def build_app(config: EnvironmentConfig, *, built: bool, checked: bool = True, outdir: Path | None = None) -> App:
    """Return the app for one environment.

    Args:
        config: The environment.
        built: Whether the functions' layer must be there; see `package_layer`.
        checked: Whether `synth` applies the checks, which take some seconds.
        outdir: Where `synth` writes to.
    """
    context = json.loads((HERE / "cdk.json").read_text(encoding="utf-8"))["context"]
    app = App(
        context=context,
        outdir=None if outdir is None else str(outdir),
        analytics_reporting=False,
        builtin_cloud_formation_validation=checked,
    )
    application = RegistrationServiceStack(app, config=config, built=built)
    if config.provision_aurora:
        # Nothing in the templates says so, but the one is deployed after the other, and deleted before it.
        application.add_stack_dependency(DatabaseStack(app, config=config, built=built))
    for key, value in (("environment", config.name), ("service", "registration")):
        # The template of a target group knows no tags, though the CDK would write them.
        Tags.of(app).add(key, value, exclude_resource_types=["AWS::RDS::DBProxyTargetGroup"])
    acknowledge(app, config)
    if checked:
        add_checks(app)
    return app


def main() -> int:
    """Write the templates that the CDK's command line asks for."""
    asked = App(auto_synth=False).node
    name = asked.try_get_context("environment")
    if name is None:
        print("the context has no environment: expected --context environment=NAME", file=sys.stderr)
        return 2
    try:
        config = load(HERE / "environments" / f"{name}.toml")
        app = build_app(config, built=asked.try_get_context("layer") != "stand-in")
    except InfraConfigError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        app.synth()
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):
            raise
        return 1  # what was found has been printed
    return 0


if __name__ == "__main__":
    sys.exit(main())
