"""Where the database is, and that nothing is looked up for it."""

import json
from pathlib import Path

import pytest
from app import build_app
from templates import DATADOG, THERE, VARIANTS, config_of, templates_of, text_of


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_the_network_has_no_way_to_the_internet(name: str) -> None:
    """Isolated subnets in the zones that the file names, one endpoint, and nothing that leads out or in."""
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


def test_what_is_refused_is_logged() -> None:
    """By the flow log, with the key."""
    template = templates_of("dev").database

    flow = template.one("EC2::FlowLog")
    assert ("REJECT", "VPC") == (flow["TrafficType"], flow["ResourceType"])
    assert "/vpc/registration-dev" == template.named("Logs::LogGroup", "NetworkFlowLogs")["LogGroupName"]


def test_functions_get_a_way_out_and_the_database_does_not() -> None:
    """With a NAT gateway, as Datadog needs it: the routes are those of other subnets than the database's."""
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
def test_subnets_stay_where_they_are(cidr: str) -> None:
    """With a gateway or without, with two zones or four: a subnet under a cluster cannot be moved."""

    def places(**network: object) -> dict[str, str]:
        found = templates_of("prod", {"network": {"cidr": cidr, **network}}).database.all("EC2::Subnet")
        return {name: subnet["CidrBlock"] for name, subnet in found.items()}

    zones = [f"eu-central-1{letter}" for letter in "abcd"]
    alone, with_gateway = places(), places(nat_gateways=2)
    largest = places(nat_gateways=4, availability_zones=zones)

    assert (2, 6, 12) == (len(alone), len(with_gateway), len(largest))
    assert alone.items() <= with_gateway.items() <= largest.items()
    assert len(set(largest.values())) == 12


def test_a_vpc_that_is_there_is_used_as_it_is() -> None:
    """Nothing of a network is made but the groups, and its endpoint lets ours in."""
    template = templates_of("dev", {"network": THERE}).database

    for kind in ("VPC", "Subnet", "RouteTable", "FlowLog", "VPCEndpoint"):
        assert {} == template.all(f"EC2::{kind}")
    assert THERE["subnet_ids"] == template.one("RDS::DBSubnetGroup")["SubnetIds"]
    assert "sg-87654321" == template.named("SSM::Parameter", "ParameterEndpoint")["Value"]
    assert "sg-87654321" in {
        text_of(rule["DestinationSecurityGroupId"]) for rule in template.all("EC2::SecurityGroupEgress").values()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_looked_up(variant: str, tmp_path: Path) -> None:
    """The CDK asks no account for anything: no key of the context is missing, and no value is a stand-in."""
    name, changes = VARIANTS[variant]
    build_app(config_of(name, changes), require_layer=False, run_checks=False, outdir=tmp_path).synth()

    assert "missing" not in json.loads((tmp_path / "manifest.json").read_text())
    for template in tmp_path.glob("*.template.json"):
        assert "dummy" not in template.read_text()
        assert 'vpc-12345"' not in template.read_text()
