"""The function that makes the roles and runs the migrations, invoked by the pipeline."""

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.database_access import variables
from registration_infra.constructs.function import VpcFunction
from registration_infra.constructs.network import HTTPS, POSTGRESQL, Network, open_way
from registration_infra.constructs.secrets import allow_secret
from registration_infra.layer import INFRA

_OWNER_ROLE = "registration_owner"
_LONGEST = Duration.minutes(15)
_MEMORY_MIB = 512


class Migrations(Construct):
    """A function that logs in as the cluster's administrator, one at a time.

    It goes to the cluster itself, never through a proxy, which would lose the lock that keeps two of them apart.

    Attributes:
        function: The function; its actions are `bootstrap`, `upgrade`, `current` and `check`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: EnvironmentConfig,
        network: Network,
        key: kms.IKey,
        layer: lambda_.ILayerVersion,
        address: Mapping[str, str],
        database_security_group: ec2.ISecurityGroup,
        secrets: Mapping[str, secretsmanager.ISecret],
    ) -> None:
        """Make the function.

        Args:
            scope: What it belongs to.
            construct_id: Its name there.
            config: The environment.
            network: Where it is.
            key: What secrets and logs are encrypted with.
            layer: The package.
            address: `host`, `port`, `name` and `sslmode` of the cluster.
            database_security_group: The group of the cluster.
            secrets: By the variable that names them, those that it reads.
        """
        super().__init__(scope, construct_id)
        made = VpcFunction(
            self,
            "Function",
            name=f"{config.prefix}-migrate",
            description="Makes the roles of the database and runs its migrations",
            config=config,
            vpc=network.vpc,
            subnets=network.database_subnets,
            key=key,
            code=INFRA / "migrate_function",
            handler="handler.handle",
            layer=layer,
            timeout=_LONGEST,
            memory_mib=_MEMORY_MIB,
            reserved_concurrency=1,
        )
        self.function = made.function
        environment = variables(config.name, address) | {"APP_DATABASE_OWNER_ROLE": _OWNER_ROLE}
        for name, value in environment.items():
            self.function.add_environment(name, value)
        for variable, secret in secrets.items():
            self.function.add_environment(variable, secret.secret_arn)
            allow_secret(self.function, secret.secret_arn, key.key_arn)
        open_way(made.security_group, database_security_group, POSTGRESQL, "Migrations to the database")
        open_way(made.security_group, network.endpoint_security_group, HTTPS, "Migrations to Secrets Manager")
