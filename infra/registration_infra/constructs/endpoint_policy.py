"""The policy of the VPC endpoint for Secrets Manager."""

from aws_cdk import aws_iam as iam

from registration_infra.config import EnvironmentConfig

# All actions that functions, the rotation and Datadog's extension call.
_ACTIONS_ON_SECRETS = (
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecretVersionStage",
)


def endpoint_statements(config: EnvironmentConfig) -> list[iam.PolicyStatement]:
    """Return the statements of the endpoint: the credentials and the secrets of this account only.

    An endpoint without a policy allows everything. A function that an attacker controls could then store data in a
    secret of another account, with credentials of that account.

    Args:
        config: The environment.
    """
    own = {"aws:PrincipalAccount": config.account}
    statements = [
        _statement(
            "SecretsOfThisAccount",
            actions=[*_ACTIONS_ON_SECRETS],
            conditions={"StringEquals": {**own, "aws:ResourceAccount": config.account}},
        ),
    ]
    api_key = config.datadog and config.datadog.api_key_secret_arn
    if api_key and api_key.split(":")[4] != config.account:
        # With and without the suffix that Secrets Manager adds to each name.
        statements.append(
            _statement(
                "DatadogApiKeyOfAnotherAccount",
                actions=["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
                resources=[api_key, f"{api_key}-??????"],
                conditions={"StringEquals": own},
            )
        )
    return statements


def _statement(
    sid: str, *, actions: list[str], conditions: dict[str, dict[str, str]], resources: list[str] | None = None
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=sid,
        principals=[iam.AnyPrincipal()],
        actions=actions,
        resources=resources or ["*"],
        conditions=conditions,
    )
