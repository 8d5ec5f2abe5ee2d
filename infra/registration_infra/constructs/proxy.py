"""RDS Proxy in front of the cluster."""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.budget import RESERVED
from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.network import HTTPS, Network, closed_security_group, open_way


class Proxy(Construct):
    """A proxy that logs in with the application's secret, and asks its clients for the same.

    Attributes:
        proxy: The proxy, over TLS alone.
        security_group: Its group, closed until somebody is let in.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: EnvironmentConfig,
        network: Network,
        key: kms.IKey,
        cluster: rds.DatabaseCluster,
        secret: secretsmanager.ISecret,
    ) -> None:
        super().__init__(scope, construct_id)
        assert config.aurora is not None
        limit = config.aurora.max_connections
        self.security_group = closed_security_group(self, "SecurityGroup", network.vpc, "The proxy of the database")
        # The way to the cluster is opened by `DatabaseProxy`; EC2 refuses a second rule that says the same.
        open_way(self.security_group, network.endpoint_security_group, HTTPS, "The proxy to Secrets Manager")
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("rds.amazonaws.com"))
        self.proxy = rds.DatabaseProxy(
            self,
            "Proxy",
            db_proxy_name=config.prefix,
            proxy_target=rds.ProxyTarget.from_cluster(cluster),
            secrets=[secret],
            role=role,
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[*network.database_subnets]),
            security_groups=[self.security_group],
            client_password_auth_type=rds.ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256,
            require_tls=True,
            max_connections_percent=100 * (limit - RESERVED) // limit,
        )
        key.grant_decrypt(role)
