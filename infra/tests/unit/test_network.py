"""`registration_infra.constructs.network`: the VPC, its subnets and its endpoint."""

import pytest
from policy_evaluation import Request, allows, resolved
from templates import DATADOG, EXISTING_NETWORK, VARIANTS, templates_of, text_of


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_network_has_no_route_to_the_internet(name: str) -> None:
    """The subnets are isolated, in the zones of the file; the only connection to AWS is one endpoint."""
    template = templates_of(name).database

    assert {"eu-central-1a", "eu-central-1b"} == {
        subnet["AvailabilityZone"] for subnet in template.all("EC2::Subnet").values()
    }
    assert {False} == {subnet["MapPublicIpOnLaunch"] for subnet in template.all("EC2::Subnet").values()}
    for kind in ("InternetGateway", "NatGateway", "Route", "EIP", "VPCGatewayAttachment"):
        assert {} == template.all(f"EC2::{kind}")
    endpoint = template.one("EC2::VPCEndpoint")
    assert ("com.amazonaws.eu-central-1.secretsmanager", "Interface", True) == (
        endpoint["ServiceName"],
        endpoint["VpcEndpointType"],
        endpoint["PrivateDnsEnabled"],
    )
    subnets = {f"{{{logical_id}}}" for logical_id in template.all("EC2::Subnet")}
    assert subnets == {text_of(subnet) for subnet in endpoint["SubnetIds"]}
    assert subnets == {text_of(subnet) for subnet in template.one("RDS::DBSubnetGroup")["SubnetIds"]}


def test_rejected_traffic_is_logged() -> None:
    """The flow log records rejected traffic in a log group."""
    template = templates_of("dev").database

    flow = template.one("EC2::FlowLog")
    assert ("REJECT", "VPC") == (flow["TrafficType"], flow["ResourceType"])
    assert "/vpc/registration-dev" == template.named("Logs::LogGroup", "NetworkFlowLogs")["LogGroupName"]


def test_nat_gateway_is_for_functions_only() -> None:
    """With a NAT gateway, only the subnets of functions have a route to the internet, not those of the database."""
    template = templates_of("prod", DATADOG).database
    gateway = set(template.all("EC2::NatGateway"))
    database = {text_of(subnet) for subnet in template.one("RDS::DBSubnetGroup")["SubnetIds"]}
    tables_of = {
        text_of(one["SubnetId"]): text_of(one["RouteTableId"])
        for one in template.all("EC2::SubnetRouteTableAssociation").values()
    }
    routed = {text_of(route["RouteTableId"]) for route in template.all("EC2::Route").values()}
    functions = text_of(template.named("SSM::Parameter", "ParameterSubnetIds")["Value"]).split(",")

    assert 1 == len(gateway)
    assert database.isdisjoint(functions)
    assert routed.isdisjoint(tables_of[subnet] for subnet in database)
    assert routed >= {tables_of[subnet] for subnet in functions}


@pytest.mark.parametrize("cidr", ["10.0.0.0/16", "10.0.0.0/24"])
def test_subnets_keep_their_addresses(cidr: str) -> None:
    """Gateways and zones can be added later without a change of existing subnets."""

    def addresses(**network: object) -> dict[str, str]:
        found = templates_of("prod", {"network": {"cidr": cidr, **network}}).database.all("EC2::Subnet")
        return {name: subnet["CidrBlock"] for name, subnet in found.items()}

    zones = [f"eu-central-1{letter}" for letter in "abcd"]
    isolated, with_gateway = addresses(), addresses(nat_gateways=2)
    largest = addresses(nat_gateways=4, availability_zones=zones)

    assert (2, 6, 12) == (len(isolated), len(with_gateway), len(largest))
    assert isolated.items() <= with_gateway.items() <= largest.items()
    assert len(set(largest.values())) == 12


OWN, OTHER = "222222222222", "888888888888"
SECRET_ACTIONS = ("DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage")


def passes_endpoint(action: str, *, caller: str, secret: str | None = None, resource: str = "*") -> bool:
    """Return whether the endpoint of staging passes a request of account *caller* on a secret of account *secret*."""
    policy = templates_of("staging", DATADOG).database.one("EC2::VPCEndpoint")["PolicyDocument"]["Statement"]
    context = {"aws:PrincipalAccount": caller} | ({} if secret is None else {"aws:ResourceAccount": secret})
    request = Request(action=f"secretsmanager:{action}", resource=resource, principal="anybody", context=context)
    return allows(resolved(policy, {}), request)


def test_endpoint_passes_only_this_account() -> None:
    """An attacker's credentials, and secrets of another account, cannot be used through the endpoint."""
    for action in SECRET_ACTIONS:
        assert passes_endpoint(action, caller=OWN, secret=OWN)
        assert not passes_endpoint(action, caller=OTHER, secret=OTHER), action
        assert not passes_endpoint(action, caller=OWN, secret=OTHER), action
        assert not passes_endpoint(action, caller=OTHER, secret=OWN), action
    for action in (
        "CreateSecret",
        "DeleteSecret",
        "GetRandomPassword",
        "PutResourcePolicy",
        "ListSecrets",
        "ReplicateSecretToRegions",
    ):
        assert not passes_endpoint(action, caller=OWN, secret=OWN), action


def test_endpoint_passes_the_api_key_of_another_account() -> None:
    """Datadog's extension may read its key in another account, and nothing else there, with credentials of this one."""
    arn = DATADOG["datadog"]["api_key_secret_arn"]
    account = arn.split(":")[4]

    assert passes_endpoint("GetSecretValue", caller=OWN, secret=account, resource=arn)
    assert not passes_endpoint("PutSecretValue", caller=OWN, secret=account, resource=arn)
    assert not passes_endpoint("GetSecretValue", caller=account, secret=account, resource=arn)
    assert not passes_endpoint("GetSecretValue", caller=OWN, secret=account, resource=f"{arn}-or-another")
    own = templates_of("prod", {}).database.one("EC2::VPCEndpoint")["PolicyDocument"]["Statement"]
    assert [statement["Sid"] for statement in own] == ["SecretsOfThisAccount"]


def test_existing_vpc_is_not_changed() -> None:
    """In an existing VPC, only security groups and rules are created, including those for its endpoint."""
    template = templates_of("dev", {"network": EXISTING_NETWORK}).database

    for kind in ("VPC", "Subnet", "RouteTable", "FlowLog", "VPCEndpoint"):
        assert {} == template.all(f"EC2::{kind}")
    assert EXISTING_NETWORK["subnet_ids"] == template.one("RDS::DBSubnetGroup")["SubnetIds"]
    assert "sg-87654321" == template.named("SSM::Parameter", "ParameterEndpoint")["Value"]
    assert "sg-87654321" in {
        text_of(rule["DestinationSecurityGroupId"]) for rule in template.all("EC2::SecurityGroupEgress").values()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_looked_up(variant: str) -> None:
    """The synth needs no lookup in AWS: no context key is missing, and the templates contain no dummy value."""
    templates = templates_of(*VARIANTS[variant])

    assert "missing" not in templates.manifest
    for text in templates.texts.values():
        assert "dummy" not in text
        assert 'vpc-12345"' not in text
