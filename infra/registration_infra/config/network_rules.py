"""Rules across the keys of [network], and between them and the keys of the environment."""

from collections.abc import Iterator

from registration_infra.config.network import NetworkConfig
from registration_infra.config.table import expected_table
from registration_infra.config.toml_text import toml_text
from registration_infra.config.valid_values import Values, is_left_out


def network_problems(environment: Values) -> Iterator[str]:
    """Yield the problems of the network, for the valid values of an environment."""
    network = environment.get("network")
    if network is None:
        if is_left_out(environment, "network") and not _logs_in_with_iam(environment):
            yield f"network is missing: expected {expected_table('network', NetworkConfig)}"
        return
    yield from _zone_problems(environment.get("region"), network)
    yield from _gateway_problems(network)
    if is_left_out(network, "vpc_id"):
        yield from _new_vpc_problems(environment, network)
    else:
        yield from _existing_vpc_problems(environment, network)


def _logs_in_with_iam(environment: Values) -> bool:
    # Only then, the database may be one that is reached without a VPC.
    return (environment.get("existing") or {}).get("auth") == "iam"


def _zone_problems(region: str | None, network: Values) -> Iterator[str]:
    if region is None:
        return
    for zone in network.get("availability_zones", ()):
        if zone[:-1] != region:
            yield f"network.availability_zones has {toml_text(zone)}: expected zones of {region}"


def _gateway_problems(network: Values) -> Iterator[str]:
    zones, gateways = network.get("availability_zones"), network.get("nat_gateways", 0)
    if zones and gateways > len(zones):
        yield f"network.nat_gateways is {gateways}: expected {len(zones)} or fewer, one for each zone"


def _new_vpc_problems(environment: Values, network: Values) -> Iterator[str]:
    if _logs_in_with_iam(environment):
        yield (
            "network.vpc_id is missing: expected the VPC of the existing database, or no table [network] for a "
            "database that is reached without a VPC"
        )
    elif not environment["provision_aurora"]:
        yield "network.vpc_id is missing: expected the VPC of the existing database, because provision_aurora is false"
    elif not is_left_out(network, "subnet_ids"):
        yield "network.vpc_id is missing: expected it together with network.subnet_ids"
    elif environment.get("datadog") is not None and network.get("nat_gateways") == 0:
        yield "network.nat_gateways is 0: expected 1 or more with [datadog], whose extension needs the internet"
    if not is_left_out(network, "secrets_endpoint_security_group_id"):
        yield "network.secrets_endpoint_security_group_id is set: expected only together with network.vpc_id"


def _existing_vpc_problems(environment: Values, network: Values) -> Iterator[str]:
    zones, subnets = network.get("availability_zones"), network.get("subnet_ids")
    if is_left_out(network, "subnet_ids"):
        yield "network.subnet_ids is missing: expected it together with network.vpc_id"
    elif subnets and zones and len(subnets) != len(zones):
        yield f"network.subnet_ids has {len(subnets)} subnets: expected one for each of the {len(zones)} zones"
    if network.get("nat_gateways"):
        yield f"network.nat_gateways is {network['nat_gateways']}: expected 0 together with network.vpc_id"
    if environment["provision_aurora"] and is_left_out(network, "secrets_endpoint_security_group_id"):
        yield (
            "network.secrets_endpoint_security_group_id is missing: expected the security group of the endpoint for "
            "Secrets Manager in network.vpc_id, because a second endpoint would answer for the whole VPC and admit "
            "only our functions"
        )
