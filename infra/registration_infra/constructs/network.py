"""Where the database and its functions are: a VPC of our own, or one that is there."""

from collections.abc import Sequence

from aws_cdk import Acknowledgment, Validations
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from registration_infra.config import MOST_ZONES, EnvironmentConfig, NetworkConfig
from registration_infra.constructs.logs import encrypted_log_group

DATABASE = "database"
FUNCTIONS = "functions"
# Sixteen subnets: three in each of up to four zones.
_BITS_FOR_SUBNETS = 4
_NO_ROUTES = "Annotation::@aws-cdk/aws-ec2:noSubnetRouteTableId"
_NOWHERE = ec2.Peer.ipv4("127.0.0.1/32")
HTTPS, POSTGRESQL = ec2.Port.tcp(443), ec2.Port.tcp(5432)


class Network(Construct):
    """Subnets that have no way to the internet, and the one endpoint that a function there needs.

    Attributes:
        vpc: The VPC.
        database_subnets: Where the cluster is; isolated where the VPC is ours.
        function_subnets: Where functions are: the same ones, or with a way out where there are NAT gateways.
        endpoint_security_group: The group of the endpoint for Secrets Manager, which lets in whom it is told to.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: EnvironmentConfig, key: kms.IKey) -> None:
        super().__init__(scope, construct_id)
        network = config.network
        if network.vpc_id is None:
            self.vpc: ec2.IVpc = self._make_vpc(config, key)
            self.database_subnets: Sequence[ec2.ISubnet] = self.vpc.select_subnets(subnet_group_name=DATABASE).subnets
            self.function_subnets: Sequence[ec2.ISubnet] = (
                self.vpc.select_subnets(subnet_group_name=FUNCTIONS).subnets
                if network.nat_gateways
                else self.database_subnets
            )
        else:
            self.vpc = vpc_that_is_there(self, network, network.vpc_id, network.subnet_ids or ())
            self.database_subnets = self.function_subnets = self.vpc.isolated_subnets
        self.endpoint_security_group = self._endpoint(network.secrets_endpoint_security_group_id)

    def _make_vpc(self, config: EnvironmentConfig, key: kms.IKey) -> ec2.Vpc:
        network = config.network
        # Every subnet has its place from the start, also those that come later: none can be moved under a cluster.
        mask = int(network.cidr.partition("/")[2]) + _BITS_FOR_SUBNETS
        closed = network.nat_gateways == 0
        subnets = [
            ec2.SubnetConfiguration(name=DATABASE, subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=mask),
            ec2.SubnetConfiguration(
                name="public",
                subnet_type=ec2.SubnetType.PUBLIC,
                cidr_mask=mask,
                map_public_ip_on_launch=False,
                reserved=closed,
            ),
            ec2.SubnetConfiguration(
                name=FUNCTIONS, subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=mask, reserved=closed
            ),
        ]
        vpc = ec2.Vpc(
            self,
            "Vpc",
            vpc_name=config.prefix,
            ip_addresses=ec2.IpAddresses.cidr(network.cidr),
            availability_zones=[*network.availability_zones],
            nat_gateways=network.nat_gateways,
            subnet_configuration=subnets,
            reserved_azs=MOST_ZONES - len(network.availability_zones),
            # It takes a custom resource with a function that may change any group; nothing is in the default group.
            restrict_default_security_group=False,
        )
        group = encrypted_log_group(self, "FlowLogs", name=f"/vpc/{config.prefix}", config=config, key=key)
        role = iam.Role(self, "FlowLogsRole", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        vpc.add_flow_log(
            "FlowLog",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group, role),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
        return vpc

    def _endpoint(self, existing: str | None) -> ec2.ISecurityGroup:
        if existing is not None:
            return ec2.SecurityGroup.from_security_group_id(self, "EndpointSecurityGroup", existing)
        group = closed_security_group(self, "EndpointSecurityGroup", self.vpc, "The endpoint for Secrets Manager")
        self.vpc.add_interface_endpoint(
            "SecretsManager",
            service=ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
            subnets=ec2.SubnetSelection(subnets=[*self.database_subnets]),
            security_groups=[group],
            open=False,
        )
        return group


def vpc_that_is_there(scope: Construct, network: NetworkConfig, vpc_id: str, subnet_ids: Sequence[str]) -> ec2.IVpc:
    """Return the VPC *vpc_id* with one of *subnet_ids* for each zone, without asking the account about it."""
    vpc = ec2.Vpc.from_vpc_attributes(
        scope,
        "Vpc",
        vpc_id=vpc_id,
        availability_zones=[*network.availability_zones],
        isolated_subnet_ids=[*subnet_ids],
    )
    # Here and not for our own app alone: with `--strict` the warning would fail everybody else's.
    for subnet in vpc.isolated_subnets:
        Validations.of(subnet).acknowledge(Acknowledgment(id=_NO_ROUTES, reason="No route is added to the subnets."))
    return vpc


def closed_security_group(scope: Construct, construct_id: str, vpc: ec2.IVpc, description: str) -> ec2.SecurityGroup:
    """Return a group that lets nothing in and nothing out until it is told to.

    A group without a rule of its own for what goes out lets out everything, and the rules between two groups are not
    its own but resources beside it. So it has one that leads nowhere, as the reference of `AWS::EC2::SecurityGroup`
    advises.
    """
    group = ec2.SecurityGroup(scope, construct_id, vpc=vpc, description=description, allow_all_outbound=False)
    group.add_egress_rule(_NOWHERE, ec2.Port.tcp(1), "Nothing else gets out")
    return group


def open_way(client: ec2.ISecurityGroup, server: ec2.ISecurityGroup, port: ec2.Port, what: str) -> None:
    """Let *client* reach *port* of *server*, on both sides."""
    client.add_egress_rule(server, port, what)
    server.add_ingress_rule(client, port, what)
