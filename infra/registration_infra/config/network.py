"""`NetworkConfig`: the table [network]."""

from ipaddress import IPv4Network
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from registration_infra.config.key_types import REGION_PATTERN, SecurityGroupId
from registration_infra.config.table import Expected, Table

MIN_ZONES: Final = 2
MAX_ZONES: Final = 4
# AWS accepts /16 to /28, and four subnets must fit.
_VPC_PREFIX_LENGTHS = range(16, 25)


def _without_duplicates(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a value is in the list twice")
    return values


def _vpc_addresses(value: str) -> str:
    network = IPv4Network(value)
    # Written back, because Python also reads 10.0.0.0/255.255.0.0.
    if str(network) != value or network.prefixlen not in _VPC_PREFIX_LENGTHS:
        raise ValueError("no network of the accepted sizes")
    return value


_Zone = Annotated[str, Field(pattern=f"^{REGION_PATTERN}[a-z]$")]
_Zones = Annotated[
    tuple[_Zone, ...],
    Field(strict=False, min_length=MIN_ZONES, max_length=MAX_ZONES),
    AfterValidator(_without_duplicates),
    Expected("a list of {min_length} to {max_length} different zones, such as eu-central-1a"),
]
_SubnetId = Annotated[str, Field(pattern="^subnet-[0-9a-f]{8,17}$")]
_SubnetIds = Annotated[
    tuple[_SubnetId, ...],
    Field(strict=False, min_length=MIN_ZONES, max_length=MAX_ZONES),
    AfterValidator(_without_duplicates),
    Expected("a list of different subnets' ids, subnet-…, one for each zone"),
]
_VpcId = Annotated[str, Field(pattern="^vpc-[0-9a-f]{8,17}$"), Expected("a VPC's id, vpc-…")]
_Cidr = Annotated[str, AfterValidator(_vpc_addresses), Expected("an IPv4 network of /16 to /24, such as 10.0.0.0/16")]


class NetworkConfig(Table):
    """The VPC of the database and its functions: either a new one or an existing one."""

    availability_zones: _Zones = Field(description="The zones of the subnets; no account is asked for them.")
    cidr: _Cidr = Field(default="10.0.0.0/16", description="The addresses of a new VPC.")
    nat_gateways: int = Field(
        default=0,
        ge=0,
        le=MAX_ZONES,
        description="NAT gateways of a new VPC. They give the functions, never the database, access to the internet.",
    )
    vpc_id: _VpcId | None = Field(default=None, description="An existing VPC to use instead of a new one.")
    subnet_ids: _SubnetIds | None = Field(default=None, description="The subnets of `network.vpc_id`.")
    secrets_endpoint_security_group_id: SecurityGroupId | None = Field(
        default=None,
        description="The security group of the endpoint for Secrets Manager in `network.vpc_id`. "
        "Required with `network.vpc_id` if `provision_aurora` is true.",
    )
