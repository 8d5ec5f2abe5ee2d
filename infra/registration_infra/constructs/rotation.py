"""The rotation of the secrets of the administrator and of the application."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct, IDependable

from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.logs import encrypted_log_group
from registration_infra.constructs.network import HTTPS, POSTGRESQL, allow_connections, closed_security_group
from registration_infra.constructs.secrets import EXCLUDED_CHARACTERS


class Rotation(Construct):
    """Rotates the secrets of the cluster and of the application, with functions that AWS maintains.

    The deployment starts no rotation, because `bootstrap` creates the login of the application only afterwards.

    Attributes:
        security_group: The security group of the rotation functions.
        requirements: The resources that a rotation needs: log groups, instances, endpoint and security group rules.
            Secrets Manager tests the functions as soon as the schedules exist, and the test logs in to the database.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        context: DatabaseContext,
        cluster: rds.DatabaseCluster,
        cluster_security_group: ec2.ISecurityGroup,
        cluster_secret: secretsmanager.ISecret,
        application_secret: secretsmanager.ISecret,
    ) -> None:
        super().__init__(scope, construct_id)
        self._context = context
        network = context.network
        self.security_group = closed_security_group(self, "SecurityGroup", network.vpc, "Rotation of secrets")
        allow_connections(self.security_group, cluster_security_group, POSTGRESQL, "Rotation to the database")
        allow_connections(self.security_group, network.endpoint_security_group, HTTPS, "Rotation to Secrets Manager")
        # Without the log groups, Lambda would create them itself, without encryption and retention period.
        self.requirements: Sequence[IDependable] = [
            *(self._log_group("Cluster"), self._log_group("Application")),
            *(cluster, cluster_security_group, self.security_group, network.endpoint_security_group),
            *([network.endpoint] if network.endpoint else []),
        ]
        self._rotate("Cluster", cluster_secret, None)
        master = cluster_secret if context.aurora.rotation == "alternating" else None
        self._rotate("Application", application_secret, master)

    def _rotate(self, name: str, secret: secretsmanager.ISecret, master: secretsmanager.ISecret | None) -> None:
        secret.add_rotation_schedule(
            name,
            hosted_rotation=self._single_user(name) if master is None else self._alternating_users(name, master),
            automatically_after=Duration.days(self._context.aurora.rotation_days),
            rotate_immediately_on_update=False,
        )

    def _log_group(self, name: str) -> logs.LogGroup:
        return encrypted_log_group(
            self,
            f"{name}Logs",
            name=f"/aws/lambda/{self._function_name(name)}",
            config=self._context.config,
            key=self._context.key,
        )

    def _function_name(self, name: str) -> str:
        return f"{self._context.config.prefix}-rotate-{name.lower()}"

    def _single_user(self, name: str) -> secretsmanager.HostedRotation:
        return secretsmanager.HostedRotation.postgre_sql_single_user(
            function_name=self._function_name(name),
            vpc=self._context.network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[*self._context.network.database_subnets]),
            security_groups=[self.security_group],
            exclude_characters=EXCLUDED_CHARACTERS,
        )

    def _alternating_users(self, name: str, master: secretsmanager.ISecret) -> secretsmanager.HostedRotation:
        return secretsmanager.HostedRotation.postgre_sql_multi_user(
            function_name=self._function_name(name),
            master_secret=master,
            vpc=self._context.network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[*self._context.network.database_subnets]),
            security_groups=[self.security_group],
            exclude_characters=EXCLUDED_CHARACTERS,
        )
