"""An HTTP API of API Gateway in front of a function."""

import json
from collections.abc import Sequence
from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_apigatewayv2 as gateway
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.logs import encrypted_log_group

INTEGRATION_SECONDS: Final = 29
"""How long API Gateway waits for the function; its limit is 30 s."""

# Neither path, query string, address nor browser of the client: a path can contain an id, and a query string a token.
_ACCESS_LOG_FIELDS: Final = ("requestId", "requestTime", "routeKey", "status", "responseLatency", "integrationStatus")


class HttpApi(Construct):
    """A public HTTP API whose routes all invoke one function, with a limit of requests and an access log.

    It answers no request of another origin (CORS), because a page of the same function needs none.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        name: The name of the API; that of the access log is made from it.
        config: The environment.
        key: The key that encrypts the access log; `None` leaves the encryption to CloudWatch Logs.
        target: The function or alias that each request invokes.
        routes: The routes, such as `POST /registrations`. API Gateway answers any other request with 404.

    Attributes:
        url: The address of the API, without a slash at its end.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        config: EnvironmentConfig,
        key: kms.IKey | None,
        target: lambda_.IFunction,
        routes: Sequence[str],
    ) -> None:
        super().__init__(scope, construct_id)
        api = gateway.HttpApi(self, "Api", api_name=name, create_default_stage=False)
        self.url = api.api_endpoint
        integration = HttpLambdaIntegration(
            "Function",
            target,
            payload_format_version=gateway.PayloadFormatVersion.VERSION_2_0,
            timeout=Duration.seconds(INTEGRATION_SECONDS),
            # One permission for the API, because the policy of a function has a limited size.
            scope_permission_to_route=False,
        )
        for route in routes:
            method, _, path = route.partition(" ")
            api.add_routes(path=path, methods=[gateway.HttpMethod[method]], integration=integration)
        self._stage(api, name, config, key)

    def _stage(self, api: gateway.HttpApi, name: str, config: EnvironmentConfig, key: kms.IKey | None) -> None:
        limit = config.application.requests_per_second
        stage = gateway.HttpStage(
            self,
            "Stage",
            http_api=api,
            stage_name="$default",
            auto_deploy=True,
            throttle=gateway.ThrottleSettings(rate_limit=limit, burst_limit=limit),
        )
        # With this start of the name, API Gateway needs no policy of its own for each log group.
        logs = encrypted_log_group(self, "Logs", name=f"/aws/vendedlogs/{name}", config=config, key=key)
        resource = stage.node.default_child
        assert isinstance(resource, gateway.CfnStage)
        resource.access_log_settings = gateway.CfnStage.AccessLogSettingsProperty(
            destination_arn=logs.log_group_arn,
            format=json.dumps({field: f"$context.{field}" for field in _ACCESS_LOG_FIELDS}),
        )
