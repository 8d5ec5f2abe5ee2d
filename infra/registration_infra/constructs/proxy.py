"""RDS Proxy in front of the cluster."""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.budget import RESERVED
from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.key import key_use
from registration_infra.constructs.network import HTTPS, allow_connections, closed_security_group


class Proxy(Construct):
    """A proxy that logs in with the application's secret and requires the same login from its clients.

    Attributes:
        proxy: The proxy; requires TLS.
        security_group: The security group of the proxy. It allows no inbound traffic until a rule is added.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        context: DatabaseContext,
        cluster: rds.DatabaseCluster,
        secret: secretsmanager.ISecret,
    ) -> None:
        super().__init__(scope, construct_id)
        network = context.network
        self.security_group = closed_security_group(self, "SecurityGroup", network.vpc, "RDS Proxy of the database")
        # `DatabaseProxy` adds the rule to the cluster itself, and EC2 rejects a duplicate.
        allow_connections(self.security_group, network.endpoint_security_group, HTTPS, "RDS Proxy to Secrets Manager")
        role = self._role(context, secret)
        # `DatabaseProxy` would allow the role to decrypt outside of Secrets Manager too.
        self.proxy = self._proxy(context, cluster, secret, role.without_policy_updates())
        self.proxy.node.add_dependency(role)

    def _role(self, context: DatabaseContext, secret: secretsmanager.ISecret) -> iam.Role:
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("rds.amazonaws.com"))
        actions = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
        role.add_to_policy(iam.PolicyStatement(actions=actions, resources=[secret.secret_arn]))
        role.add_to_policy(key_use(context.key.key_arn, ["kms:Decrypt"], service="secretsmanager"))
        return role

    def _proxy(
        self, context: DatabaseContext, cluster: rds.DatabaseCluster, secret: secretsmanager.ISecret, role: iam.IRole
    ) -> rds.DatabaseProxy:
        limit = context.aurora.max_connections
        return rds.DatabaseProxy(
            self,
            "Proxy",
            db_proxy_name=context.config.prefix,
            proxy_target=rds.ProxyTarget.from_cluster(cluster),
            secrets=[secret],
            role=role,
            vpc=context.network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[*context.network.database_subnets]),
            security_groups=[self.security_group],
            client_password_auth_type=rds.ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256,
            require_tls=True,
            max_connections_percent=100 * (limit - RESERVED) // limit,
        )
