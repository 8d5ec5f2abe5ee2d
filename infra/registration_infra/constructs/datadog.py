"""Datadog's tracing of a Lambda function."""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct
from datadog_cdk_constructs_v2 import DatadogLambda

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.network import HTTPS
from registration_infra.constructs.secrets import is_complete_arn


def instrument(scope: Construct, function: lambda_.Function, *, config: EnvironmentConfig, service: str) -> None:
    """Trace *function* with Datadog's layers. Does nothing if the environment has no Datadog.

    SQL statements are tagged with the service name only. With a trace id, every statement would have a text of its
    own, and the driver could not prepare any.

    Args:
        scope: The parent construct of Datadog's resources.
        function: The function.
        config: The environment.
        service: The service name in Datadog.
    """
    if config.datadog is None:
        return
    datadog = DatadogLambda(
        scope,
        "Datadog",
        site=config.datadog.site,
        api_key_secret=_api_key(scope, config.datadog.api_key_secret_arn),
        python_layer_version=config.datadog.python_layer_version,
        extension_layer_version=config.datadog.extension_layer_version,
        env=config.name,
        service=service,
        source_code_integration=False,
    )
    datadog.add_lambda_functions([function])
    function.add_environment("DD_DBM_PROPAGATION_MODE", "service")
    if function.is_bound_to_vpc:
        function.connections.allow_to(ec2.Peer.any_ipv4(), HTTPS, "Datadog intake")


def _api_key(scope: Construct, arn: str) -> secretsmanager.ISecret:
    secret = secretsmanager.Secret
    imported = secret.from_secret_complete_arn if is_complete_arn(arn) else secret.from_secret_partial_arn
    return imported(scope, "DatadogApiKey", arn)
