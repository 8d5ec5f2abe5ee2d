"""The CDK app: `cdk synth --context environment=dev`. cdk.json puts `examples/` on the import path."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from aws_cdk import App, Tags
from registration_infra import EnvironmentConfig, InfraConfigError, load, production_gaps
from registration_infra.config.engine_support import support_warnings
from registration_infra.config.pause_obstacles import pause_obstacles
from registration_infra.deploy_policies import boundary_name
from registration_infra.nag import acknowledge_findings, add_checks
from registration_infra.stacks.database import DatabaseStack
from registration_infra.stacks.restore_testing import RestoreTestingStack
from registration_service.stack import RegistrationServiceStack

_INFRA = Path(__file__).parent
# CloudFormation's schema of a target group has no tags, although the CDK would write them.
_TYPES_WITHOUT_TAGS = ["AWS::RDS::DBProxyTargetGroup"]

_BOUNDARY_KEY = "@aws-cdk/core:permissionsBoundary"


def build_app(
    config: EnvironmentConfig, *, require_layer: bool, run_checks: bool = True, outdir: Path | None = None
) -> App:
    """Return the app of one environment.

    Args:
        config: The environment.
        require_layer: Whether the Lambda layer must have been built; see `package_layer`.
        run_checks: Whether `synth` runs cdk-nag and the CDK's own validation, which take some seconds.
        outdir: The folder that `synth` writes to. Defaults to the one that `cdk` sets, or a temporary one.
    """
    flags = json.loads((_INFRA / "cdk.json").read_text(encoding="utf-8"))["context"]
    app = App(
        # CloudFormation may create roles only with this boundary.
        context={**flags, _BOUNDARY_KEY: {"name": boundary_name(config)}},
        outdir=None if outdir is None else str(outdir),
        analytics_reporting=False,
        builtin_cloud_formation_validation=run_checks,
    )
    application = RegistrationServiceStack(app, config=config, require_layer=require_layer)
    if config.provision_aurora:
        # The templates do not refer to each other, but the database is deployed first and deleted last.
        database = DatabaseStack(app, config=config, require_layer=require_layer)
        application.add_stack_dependency(database)
        if config.backup.restore_test:
            RestoreTestingStack(app, config=config, require_layer=require_layer).add_stack_dependency(database)
    Tags.of(app).add("environment", config.name, exclude_resource_types=_TYPES_WITHOUT_TAGS)
    Tags.of(app).add("service", "registration", exclude_resource_types=_TYPES_WITHOUT_TAGS)
    acknowledge_findings(app, config)
    if run_checks:
        add_checks(app)
    return app


def main() -> int:
    """Write the templates of the environment in the context; return the exit code."""
    context = App(auto_synth=False).node
    name = context.try_get_context("environment")
    if name is None:
        print("the context has no environment: expected --context environment=NAME", file=sys.stderr)
        return 2
    try:
        file = _INFRA / "environments" / f"{name}.toml"
        config = load(file)
        today = datetime.now(UTC).date()
        for warning in (*production_gaps(config), *support_warnings(config, today=today), *pause_obstacles(config)):
            print(f"warning: {file}: {warning}", file=sys.stderr)
        build_app(config, require_layer=context.try_get_context("layer") != "placeholder").synth()
    except InfraConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):
            raise
        return 1  # the findings have been printed
    return 0


if __name__ == "__main__":
    sys.exit(main())
