"""`config.network_rules`: zones, gateways, and new and existing VPCs."""

from collections.abc import Mapping

import pytest
from environment_files import CLUSTER, DATADOG, EXISTING, EXISTING_VPC, accepted, problems, value_of
from key_values import REGION_WORDS


def test_zones_of_another_region_are_refused() -> None:
    """Each zone outside the region has its message."""
    zones = '["eu-central-1a", "eu-west-1b", "eu-west-1c"]'

    assert problems(CLUSTER, {"network.availability_zones": zones}) == (
        'network.availability_zones has "eu-west-1b": expected zones of eu-central-1',
        'network.availability_zones has "eu-west-1c": expected zones of eu-central-1',
    )


def test_an_existing_vpc_needs_subnets() -> None:
    """An existing VPC needs its subnets."""
    assert problems(CLUSTER, EXISTING_VPC, {"network.subnet_ids": None}) == (
        "network.subnet_ids is missing: expected it together with network.vpc_id",
    )


def test_subnets_need_their_vpc() -> None:
    """Existing subnets need their VPC."""
    assert problems(CLUSTER, EXISTING_VPC, {"network.vpc_id": None}) == (
        "network.vpc_id is missing: expected it together with network.subnet_ids",
        "network.secrets_endpoint_security_group_id is set: expected only together with network.vpc_id",
    )


@pytest.mark.parametrize(
    ("subnets", "zones", "problem"),
    [
        (3, 2, "network.subnet_ids has 3 subnets: expected one for each of the 2 zones"),
        (2, 3, "network.subnet_ids has 2 subnets: expected one for each of the 3 zones"),
    ],
)
def test_each_zone_needs_one_subnet(subnets: int, zones: int, problem: str) -> None:
    """The number of subnets must be the number of zones."""
    changes = {
        "network.subnet_ids": str([f"subnet-{number:08}" for number in range(subnets)]),
        "network.availability_zones": str([f"eu-central-1{letter}" for letter in "abc"[:zones]]),
    }

    assert problems(CLUSTER, EXISTING_VPC, changes) == (problem,)


def test_three_subnets_for_three_zones_are_accepted() -> None:
    """Three zones have three subnets."""
    changes = {
        "network.subnet_ids": '["subnet-00000001", "subnet-00000002", "subnet-00000003"]',
        "network.availability_zones": '["eu-central-1a", "eu-central-1b", "eu-central-1c"]',
    }

    assert value_of(accepted(CLUSTER, EXISTING_VPC, changes), "network.subnet_ids") == (
        "subnet-00000001",
        "subnet-00000002",
        "subnet-00000003",
    )


def test_gateways_in_an_existing_vpc_are_refused() -> None:
    """NAT gateways are only for a new VPC."""
    assert problems(CLUSTER, EXISTING_VPC, {"network.nat_gateways": "1"}) == (
        "network.nat_gateways is 1: expected 0 together with network.vpc_id",
    )
    assert value_of(accepted(CLUSTER, EXISTING_VPC, {"network.nat_gateways": "0"}), "network.nat_gateways") == 0


def test_more_gateways_than_zones_are_refused() -> None:
    """Each zone has at most one NAT gateway."""
    assert problems(CLUSTER, {"network.nat_gateways": "3"}) == (
        "network.nat_gateways is 3: expected 2 or fewer, one for each zone",
    )
    assert value_of(accepted(CLUSTER, {"network.nat_gateways": "2"}), "network.nat_gateways") == 2


def test_a_region_in_china_is_refused() -> None:
    """The service principals and host names of China are different, and not supported."""
    changes = {"region": '"cn-north-1"', "network.availability_zones": '["cn-north-1a", "cn-north-1b"]'}

    assert problems(CLUSTER, changes) == (f'region is "cn-north-1": expected {REGION_WORDS}',)


def test_a_cluster_in_an_existing_vpc_needs_its_endpoint() -> None:
    """A second endpoint would take over the name of the service in the whole VPC."""
    without = {"network.secrets_endpoint_security_group_id": None}

    (problem,) = problems(CLUSTER, EXISTING_VPC, without)
    assert problem == (
        "network.secrets_endpoint_security_group_id is missing: expected the security group of the endpoint for "
        "Secrets Manager in network.vpc_id, because a second endpoint would answer for the whole VPC and admit only "
        "our functions"
    )
    assert value_of(accepted(EXISTING, without), "network.vpc_id") == "vpc-12345678"


def test_the_group_of_an_endpoint_needs_an_existing_vpc() -> None:
    """The security group of an existing endpoint is refused for a new VPC."""
    group = {"network.secrets_endpoint_security_group_id": '"sg-12345678"'}

    assert problems(CLUSTER, group) == (
        "network.secrets_endpoint_security_group_id is set: expected only together with network.vpc_id",
    )
    assert (
        value_of(accepted(CLUSTER, EXISTING_VPC, group), "network.secrets_endpoint_security_group_id") == "sg-12345678"
    )


@pytest.mark.parametrize("gateways", ["0", None])
def test_datadog_needs_access_to_the_internet(gateways: str | None) -> None:
    """In a new VPC without NAT gateways, the extension cannot reach Datadog."""
    assert problems(CLUSTER, DATADOG, {"network.nat_gateways": gateways}) == (
        "network.nat_gateways is 0: expected 1 or more with [datadog], whose extension needs the internet",
    )


@pytest.mark.parametrize("kind", [{**CLUSTER, **EXISTING_VPC}, EXISTING], ids=["cluster", "existing"])
def test_datadog_in_an_existing_vpc_is_accepted(kind: Mapping[str, str | None]) -> None:
    """Whether an existing VPC has access to the internet is not checked."""
    assert accepted(kind, DATADOG, {"network.nat_gateways": None}).datadog is not None
