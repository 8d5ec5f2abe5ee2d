"""The stack of a service that uses the database, as an example."""

from pathlib import Path

from aws_cdk import CfnOutput, Duration, Environment, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct
from registration_infra import EnvironmentConfig
from registration_infra.constructs.database_access import DatabaseAccess
from registration_infra.constructs.datadog import instrument
from registration_infra.constructs.function import PythonFunction
from registration_infra.constructs.http_api import HttpApi
from registration_infra.constructs.removal import removal_policy
from registration_infra.layer import package_layer

ROUTES = (
    "GET /",
    "GET /{file}",
    "POST /registrations",
    "POST /verifications",
    "POST /verifications/code",
    "POST /mails",
    "POST /registrations/{id}/mails",
    "POST /registrations/{id}/activation",
    "GET /me",
    "GET /me/export",
    "PATCH /me",
    "PUT /me/newsletter",
    "POST /me/cancellation",
    "DELETE /me",
    "DELETE /session",
)
"""The routes of `function/handler.py`."""

# One second more than the longest time that API Gateway waits.
_TIMEOUT = Duration.seconds(30)
_MEMORY_MIB = 512


class RegistrationServiceStack(Stack):
    """One function with access to the database, behind an HTTP API.

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
        key = kms.Key.from_key_arn(self, "Key", access.key_arn) if config.aurora and access.key_arn else None
        service = PythonFunction(
            self,
            "Service",
            name=f"{config.prefix}-service",
            description="Registers people",
            config=config,
            vpc=access.vpc,
            subnets=access.subnets,
            key=key,
            code=Path(__file__).parent / "function",
            handler="handler.handle",
            layer=package_layer(self, "Package", require_layer=require_layer),
            timeout=_TIMEOUT,
            memory_mib=_MEMORY_MIB,
            reserved_concurrency=config.application.reserved_concurrency,
        )
        access.environment_for(service.function, connections=config.application.connections)
        instrument(self, service.function, config=config, service=config.prefix)
        # With SnapStart, it is the alias, which an event source must invoke too.
        target = access.invocation_target(service.function)
        name = f"{config.prefix}-service"
        api = HttpApi(self, "Api", name=name, config=config, key=key, target=target, routes=ROUTES)
        service.function.add_environment("SIGNUP_URL", api.url)
        self._add_secret(service.function, config, key)
        CfnOutput(self, "FunctionName", value=target.function_name)
        CfnOutput(self, "Url", value=api.url)

    def _add_secret(self, function: lambda_.Function, config: EnvironmentConfig, key: kms.IKey | None) -> None:
        secret = secretsmanager.Secret(
            self,
            "Secret",
            secret_name=f"{config.path}/signup",
            description="Signs the cookies of the pages, and hashes codes",
            encryption_key=key,
            # 64 letters and digits are the base64 form of 48 bytes.
            generate_secret_string=secretsmanager.SecretStringGenerator(password_length=64, exclude_punctuation=True),
            removal_policy=removal_policy(config),
        )
        # CloudFormation reads the value when it deploys: a request at each cold start would take longer than the rest
        # of the initialisation, and functions that log in with IAM cannot reach Secrets Manager.
        function.add_environment("SIGNUP_SECRET", secret.secret_value.unsafe_unwrap())
