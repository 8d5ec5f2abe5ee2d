"""The network of the database and its functions: a new VPC, or an existing one."""

from collections.abc import Sequence

from aws_cdk import Acknowledgment, Validations
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from registration_infra.config import MAX_ZONES, EnvironmentConfig, NetworkConfig
from registration_infra.constructs.endpoint_policy import endpoint_statements
from registration_infra.constructs.logs import encrypted_log_group
from registration_infra.constructs.principals import service_in_this_account

DATABASE = "database"
FUNCTIONS = "functions"
# Sixteen subnets: three in each of up to four zones.
_SUBNET_BITS = 4
_NO_ROUTE_TABLE = "Annotation::@aws-cdk/aws-ec2:noSubnetRouteTableId"
_LOOPBACK = ec2.Peer.ipv4("127.0.0.1/32")
HTTPS, POSTGRESQL = ec2.Port.tcp(443), ec2.Port.tcp(5432)


class Network(Construct):
    """Subnets without a route to the internet, and a VPC endpoint for Secrets Manager.

    Attributes:
        vpc: The VPC.
        database_subnets: The subnets of the cluster; isolated if the VPC is a new one.
        function_subnets: The subnets of functions: those of the cluster, or, with NAT gateways, subnets that have a
            route to the internet.
        endpoint_security_group: The security group of the endpoint for Secrets Manager. It allows no traffic until a
            rule is added.
        endpoint: The endpoint for Secrets Manager, for credentials and secrets of this account only; `None` if the VPC
            is an existing one, which has its own.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: EnvironmentConfig, key: kms.IKey) -> None:
        super().__init__(scope, construct_id)
        network = config.network
        assert network is not None
        if network.vpc_id is None:
            self.vpc: ec2.IVpc = self._new_vpc(network, config.prefix)
            self._log_rejected_traffic(config, key)
            self.database_subnets: Sequence[ec2.ISubnet] = self.vpc.select_subnets(subnet_group_name=DATABASE).subnets
            self.function_subnets: Sequence[ec2.ISubnet] = (
                self.vpc.select_subnets(subnet_group_name=FUNCTIONS).subnets
                if network.nat_gateways
                else self.database_subnets
            )
        else:
            self.vpc = existing_vpc(self, network, network.vpc_id, network.subnet_ids or ())
            self.database_subnets = self.function_subnets = self.vpc.isolated_subnets
        self.endpoint: ec2.InterfaceVpcEndpoint | None = None
        self.endpoint_security_group = self._endpoint(config, network.secrets_endpoint_security_group_id)

    def _new_vpc(self, network: NetworkConfig, name: str) -> ec2.Vpc:
        return ec2.Vpc(
            self,
            "Vpc",
            vpc_name=name,
            ip_addresses=ec2.IpAddresses.cidr(network.cidr),
            availability_zones=[*network.availability_zones],
            nat_gateways=network.nat_gateways,
            subnet_configuration=_subnets(network),
            reserved_azs=MAX_ZONES - len(network.availability_zones),
            # It would need a custom resource whose function may change any security group. The default group is unused.
            restrict_default_security_group=False,
        )

    def _log_rejected_traffic(self, config: EnvironmentConfig, key: kms.IKey) -> None:
        group = encrypted_log_group(self, "FlowLogs", name=f"/vpc/{config.prefix}", config=config, key=key)
        role = iam.Role(self, "FlowLogsRole", assumed_by=service_in_this_account("vpc-flow-logs.amazonaws.com"))
        self.vpc.add_flow_log(
            "FlowLog",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group, role),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )

    def _endpoint(self, config: EnvironmentConfig, existing: str | None) -> ec2.ISecurityGroup:
        if existing is not None:
            return ec2.SecurityGroup.from_security_group_id(self, "EndpointSecurityGroup", existing)
        group = closed_security_group(self, "EndpointSecurityGroup", self.vpc, "VPC endpoint for Secrets Manager")
        self.endpoint = self.vpc.add_interface_endpoint(
            "SecretsManager",
            service=ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
            subnets=ec2.SubnetSelection(subnets=[*self.database_subnets]),
            security_groups=[group],
            open=False,
        )
        for statement in endpoint_statements(config):
            self.endpoint.add_to_policy(statement)
        return group


def _subnets(network: NetworkConfig) -> list[ec2.SubnetConfiguration]:
    # Addresses are reserved for subnets that may be added later, because a subnet with a cluster in it cannot be moved.
    mask = int(network.cidr.partition("/")[2]) + _SUBNET_BITS
    isolated_only = network.nat_gateways == 0
    return [
        ec2.SubnetConfiguration(name=DATABASE, subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=mask),
        ec2.SubnetConfiguration(
            name="public",
            subnet_type=ec2.SubnetType.PUBLIC,
            cidr_mask=mask,
            map_public_ip_on_launch=False,
            reserved=isolated_only,
        ),
        ec2.SubnetConfiguration(
            name=FUNCTIONS, subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=mask, reserved=isolated_only
        ),
    ]


def existing_vpc(scope: Construct, network: NetworkConfig, vpc_id: str, subnet_ids: Sequence[str]) -> ec2.IVpc:
    """Return the existing VPC *vpc_id*, with one of *subnet_ids* per availability zone, without a lookup in AWS."""
    vpc = ec2.Vpc.from_vpc_attributes(
        scope,
        "Vpc",
        vpc_id=vpc_id,
        availability_zones=[*network.availability_zones],
        isolated_subnet_ids=[*subnet_ids],
    )
    # Acknowledged here, not in the app, because `cdk synth --strict` would otherwise fail in every app that uses this.
    for subnet in vpc.isolated_subnets:
        reason = "No route is added to the subnets."
        Validations.of(subnet).acknowledge(Acknowledgment(id=_NO_ROUTE_TABLE, reason=reason))
    return vpc


def closed_security_group(scope: Construct, construct_id: str, vpc: ec2.IVpc, description: str) -> ec2.SecurityGroup:
    """Return a security group that allows no inbound and no outbound traffic until a rule is added.

    A security group without an egress rule of its own allows all outbound traffic, and a rule between two groups is
    a separate resource. Hence the rule to the loopback address, as the reference of `AWS::EC2::SecurityGroup` advises.
    """
    group = ec2.SecurityGroup(scope, construct_id, vpc=vpc, description=description, allow_all_outbound=False)
    group.add_egress_rule(_LOOPBACK, ec2.Port.tcp(1), "No other outbound traffic")
    return group


def allow_connections(client: ec2.ISecurityGroup, server: ec2.ISecurityGroup, port: ec2.Port, description: str) -> None:
    """Allow connections from *client* to *port* of *server*, in both security groups."""
    client.add_egress_rule(server, port, description)
    server.add_ingress_rule(client, port, description)
