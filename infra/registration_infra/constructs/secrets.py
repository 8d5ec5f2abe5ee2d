"""Who logs in: the secrets of the cluster, of the application and of a monitoring agent, and their rotation."""

import json

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.logs import encrypted_log_group
from registration_infra.constructs.network import HTTPS, POSTGRESQL, Network, closed_security_group, open_way

ADMIN = "registration_admin"
APPLICATION = "registration_app"
MONITORING = "datadog"

# What AWS's rotation functions leave out as well, among it all that URLs and shells read in their own way.
_EXCLUDED = " %+~`#$&*()|[]{}:;<>?!'/@\"\\"
_LENGTH = 32


class DatabaseSecret(Construct):
    """A user name with a password that AWS makes up.

    Attributes:
        secret: The secret, encrypted with the database's key.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        username: str,
        key: kms.IKey,
        keep: bool,
        master: secretsmanager.ISecret | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        # Without `ssl`, AWS's rotation functions fall back to a connection without TLS.
        template: dict[str, object] = {"username": username, "ssl": True}
        if master is not None:
            template["masterarn"] = master.secret_arn
        self.secret = secretsmanager.Secret(
            self,
            "Secret",
            secret_name=name,
            description=f"The login {username}",
            encryption_key=key,
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if keep else RemovalPolicy.DESTROY,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                secret_string_template=json.dumps(template),
                generate_string_key="password",
                password_length=_LENGTH,
                exclude_characters=_EXCLUDED,
            ),
        )


class Rotation(Construct):
    """Rotates the secrets of the cluster and of the application with functions that AWS maintains.

    No rotation starts with the deployment, for the application's login is made only afterwards, by `bootstrap`.

    Attributes:
        security_group: The group of the functions.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: EnvironmentConfig,
        network: Network,
        key: kms.IKey,
        cluster_security_group: ec2.ISecurityGroup,
        cluster_secret: secretsmanager.ISecret,
        application_secret: secretsmanager.ISecret,
    ) -> None:
        super().__init__(scope, construct_id)
        assert config.aurora is not None
        self.security_group = closed_security_group(self, "SecurityGroup", network.vpc, "The rotation of secrets")
        open_way(self.security_group, cluster_security_group, POSTGRESQL, "Rotation to the database")
        open_way(self.security_group, network.endpoint_security_group, HTTPS, "Rotation to Secrets Manager")
        subnets = ec2.SubnetSelection(subnets=[*network.database_subnets])

        def single_user(what: str) -> secretsmanager.HostedRotation:
            return secretsmanager.HostedRotation.postgre_sql_single_user(
                function_name=f"{config.prefix}-rotate-{what}",
                vpc=network.vpc,
                vpc_subnets=subnets,
                security_groups=[self.security_group],
                exclude_characters=_EXCLUDED,
            )

        def alternating_users(what: str) -> secretsmanager.HostedRotation:
            return secretsmanager.HostedRotation.postgre_sql_multi_user(
                function_name=f"{config.prefix}-rotate-{what}",
                master_secret=cluster_secret,
                vpc=network.vpc,
                vpc_subnets=subnets,
                security_groups=[self.security_group],
                exclude_characters=_EXCLUDED,
            )

        logs = [
            encrypted_log_group(
                self,
                f"{what.capitalize()}Logs",
                name=f"/aws/lambda/{config.prefix}-rotate-{what}",
                config=config,
                key=key,
            )
            for what in ("cluster", "application")
        ]
        alternating = config.aurora.rotation == "alternating"
        for secret, name, rotation in (
            (cluster_secret, "Cluster", single_user("cluster")),
            (application_secret, "Application", (alternating_users if alternating else single_user)("application")),
        ):
            schedule = secret.add_rotation_schedule(
                name,
                hosted_rotation=rotation,
                automatically_after=Duration.days(config.aurora.rotation_days),
                rotate_immediately_on_update=False,
            )
            schedule.node.add_dependency(*logs)  # or Lambda makes the groups itself, without key and end


def allow_secret(function: lambda_.Function, secret_arn: str, key_arn: str | None) -> None:
    """Let *function* read a secret, and decrypt it through Secrets Manager alone.

    On the side of the function, for a statement in the key's policy would tie the stack of the key to that of the
    function.
    """
    function.add_to_role_policy(iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[secret_arn]))
    if key_arn is not None:
        function.add_to_role_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt"],
                resources=[key_arn],
                conditions={"StringEquals": {"kms:ViaService": f"secretsmanager.{Aws.REGION}.amazonaws.com"}},
            )
        )
