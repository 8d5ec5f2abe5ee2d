"""The Lambda function that creates the database roles and runs the migrations, invoked by `deploy.py`."""

from collections.abc import Mapping
from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.function import PythonFunction
from registration_infra.constructs.network import HTTPS, POSTGRESQL, allow_connections
from registration_infra.constructs.secrets import allow_secret
from registration_infra.layer import MIGRATE_FUNCTION
from registration_infra.parameters import IDLE_SESSION_TIMEOUT_SECONDS, environment_variables

OWNER_ROLE: Final = "registration_owner"
"""The role that owns the schema."""

# The longest timeout that Lambda offers.
_TIMEOUT = Duration.minutes(15)
_MEMORY_MIB = 512


class Migrations(Construct):
    """A function that logs in as the administrator of the cluster. At most one invocation runs at a time.

    It connects to the cluster itself, never through RDS Proxy, because a proxy may end the idle session that holds the
    lock against two migrations at the same time.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        context: The environment, the key and the network.
        layer: The layer with the package.
        address: The `host`, `port`, `name` and `sslmode` of the cluster.
        database_security_group: The security group of the cluster.
        secrets: The secrets that the function reads, by the environment variable that contains their ARN.
        iam_login: The login of the services with IAM; `None` if they log in with a secret.

    Attributes:
        function: The function; its actions are `bootstrap`, `upgrade`, `current`, `check` and `doctor`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        context: DatabaseContext,
        layer: lambda_.ILayerVersion,
        address: Mapping[str, str],
        database_security_group: ec2.ISecurityGroup,
        secrets: Mapping[str, secretsmanager.ISecret],
        iam_login: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        migrate = self._function(context, layer)
        self.function = migrate.function
        for name, value in _variables(context, address, iam_login).items():
            self.function.add_environment(name, value)
        for name, secret in secrets.items():
            self.function.add_environment(name, secret.secret_arn)
            allow_secret(self.function, secret.secret_arn, context.key.key_arn)
        assert migrate.security_group is not None
        endpoint = context.network.endpoint_security_group
        allow_connections(migrate.security_group, database_security_group, POSTGRESQL, "Migrations to the database")
        allow_connections(migrate.security_group, endpoint, HTTPS, "Migrations to Secrets Manager")

    def _function(self, context: DatabaseContext, layer: lambda_.ILayerVersion) -> PythonFunction:
        return PythonFunction(
            self,
            "Function",
            name=f"{context.config.prefix}-migrate",
            description="Creates the roles of the database and runs its migrations",
            config=context.config,
            vpc=context.network.vpc,
            subnets=context.network.database_subnets,
            key=context.key,
            code=MIGRATE_FUNCTION,
            handler="handler.handle",
            layer=layer,
            timeout=_TIMEOUT,
            memory_mib=_MEMORY_MIB,
            reserved_concurrency=1,
        )


def _variables(context: DatabaseContext, address: Mapping[str, str], iam_login: str | None) -> dict[str, str]:
    # With the limit, `bootstrap` sets it on the logins of the services too.
    pause = {"idle_session_timeout": IDLE_SESSION_TIMEOUT_SECONDS} if context.aurora.pauses else {}
    variables = environment_variables(context.config.name, {**address, **pause})
    variables["APP_DATABASE_OWNER_ROLE"] = OWNER_ROLE
    if iam_login is not None:
        variables["APP_DATABASE_APPLICATION_USER"] = iam_login
    return variables
