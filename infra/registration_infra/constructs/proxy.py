"""RDS Proxy in front of the cluster."""

from aws_cdk import Fn
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.budget import RESERVED
from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.iam_login import IAM_LOGIN, login_statement
from registration_infra.constructs.key import key_use
from registration_infra.constructs.network import HTTPS, allow_connections, closed_security_group


class Proxy(Construct):
    """A proxy that logs in like its clients: with the application's secret, or with IAM and without any secret.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        context: The environment, the key and the network.
        cluster: The cluster.
        secret: The secret of the application; `None` if clients and proxy log in with IAM.

    Attributes:
        proxy: The proxy; requires TLS.
        reader_host: The read-only endpoint of the proxy; `None` if the cluster has no readers.
        resource_id: The resource id of the proxy, `prx-…`.
        security_group: The security group of the proxy. It allows no inbound traffic until a rule is added.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        context: DatabaseContext,
        cluster: rds.DatabaseCluster,
        secret: secretsmanager.ISecret | None,
    ) -> None:
        super().__init__(scope, construct_id)
        network = context.network
        self.security_group = closed_security_group(self, "SecurityGroup", network.vpc, "RDS Proxy of the database")
        # `DatabaseProxy` adds the rule to the cluster itself, and EC2 rejects a duplicate.
        if secret is not None:
            endpoint = network.endpoint_security_group
            allow_connections(self.security_group, endpoint, HTTPS, "RDS Proxy to Secrets Manager")
        role = self._role(context, cluster, secret)
        # `DatabaseProxy` would allow the role to decrypt outside of Secrets Manager too.
        self.proxy = self._proxy(context, cluster, secret, role.without_policy_updates())
        self.proxy.node.add_dependency(role)
        self.resource_id = Fn.select(6, Fn.split(":", self.proxy.db_proxy_arn))
        self.reader_host = self._reader_endpoint(context) if context.aurora.readers else None

    def _role(
        self, context: DatabaseContext, cluster: rds.DatabaseCluster, secret: secretsmanager.ISecret | None
    ) -> iam.Role:
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("rds.amazonaws.com"))
        if secret is None:
            role.add_to_policy(login_statement(cluster.cluster_resource_identifier, IAM_LOGIN))
            return role
        actions = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
        role.add_to_policy(iam.PolicyStatement(actions=actions, resources=[secret.secret_arn]))
        role.add_to_policy(key_use(context.key.key_arn, ["kms:Decrypt"], service="secretsmanager"))
        return role

    def _reader_endpoint(self, context: DatabaseContext) -> str:
        endpoint = self.proxy.add_endpoint(
            "Reader",
            db_proxy_endpoint_name=f"{context.config.prefix}-reader",
            vpc=context.network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[*context.network.database_subnets]),
            security_groups=[self.security_group],
            target_role=rds.ProxyEndpointTargetRole.READ_ONLY,
        )
        return endpoint.endpoint

    def _proxy(
        self,
        context: DatabaseContext,
        cluster: rds.DatabaseCluster,
        secret: secretsmanager.ISecret | None,
        role: iam.IRole,
    ) -> rds.DatabaseProxy:
        limit = context.aurora.max_connections
        return rds.DatabaseProxy(
            self,
            "Proxy",
            db_proxy_name=context.config.prefix,
            proxy_target=rds.ProxyTarget.from_cluster(cluster),
            secrets=None if secret is None else [secret],
            default_auth_scheme=rds.DefaultAuthScheme.IAM_AUTH if secret is None else None,
            role=role,
            vpc=context.network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[*context.network.database_subnets]),
            security_groups=[self.security_group],
            client_password_auth_type=(None if secret is None else rds.ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256),
            require_tls=True,
            max_connections_percent=100 * (limit - RESERVED) // limit,
        )
