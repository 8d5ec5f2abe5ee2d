"""The stack of a service that uses the database, as an example."""

from pathlib import Path

from aws_cdk import CfnOutput, Duration, Environment, Stack
from aws_cdk import aws_kms as kms
from constructs import Construct
from registration_infra import EnvironmentConfig
from registration_infra.constructs.database_access import DatabaseAccess
from registration_infra.constructs.datadog import instrument
from registration_infra.constructs.function import PythonFunction
from registration_infra.layer import package_layer

# One second more than the longest time that API Gateway waits.
_TIMEOUT = Duration.seconds(30)
_MEMORY_MIB = 512


class RegistrationServiceStack(Stack):
    """One function with access to the database.

    Args:
        scope: The app.
        config: The environment.
        require_layer: Whether the Lambda layer must have been built; see `package_layer`.
    """

    def __init__(self, scope: Construct, *, config: EnvironmentConfig, require_layer: bool) -> None:
        super().__init__(
            scope,
            f"{config.prefix}-application",
            description=f"Service on the database {config.prefix}",
            env=Environment(account=config.account, region=config.region),
        )
        access = DatabaseAccess(self, "Database", config=config)
        service = PythonFunction(
            self,
            "Service",
            name=f"{config.prefix}-service",
            description="Registers people",
            config=config,
            vpc=access.vpc,
            subnets=access.subnets,
            key=kms.Key.from_key_arn(self, "Key", access.key_arn) if config.aurora and access.key_arn else None,
            code=Path(__file__).parent / "function",
            handler="handler.handle",
            layer=package_layer(self, "Package", require_layer=require_layer),
            timeout=_TIMEOUT,
            memory_mib=_MEMORY_MIB,
            reserved_concurrency=config.application.reserved_concurrency,
        )
        access.environment_for(service.function, connections=config.application.connections)
        instrument(self, service.function, config=config, service=config.prefix)
        # With SnapStart, the name ends in the alias, which an API or an event source must invoke too.
        CfnOutput(self, "FunctionName", value=access.invocation_target(service.function).function_name)
