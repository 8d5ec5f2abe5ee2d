"""The partitions of AWS: `aws`, and those whose regions have a prefix of their own."""

from collections.abc import Mapping
from typing import Final

_PARTITIONS: Final[Mapping[str, str]] = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "eusc-": "aws-eusc",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
}
_PARTITIONS_OF_AMAZONAWS_COM: Final = ("aws", "aws-us-gov")


def partition_of(region: str) -> str:
    """Return the partition of *region*; that of an unknown region is `aws`."""
    return next((name for prefix, name in _PARTITIONS.items() if region.startswith(prefix)), "aws")


def is_possible_partition(partition: str, region: str) -> bool:
    """Return whether *region* can be in *partition*; AWS may add a partition that is not in this list."""
    expected = partition_of(region)
    return partition == expected or (expected == "aws" and partition not in _PARTITIONS.values())


def has_hosts_in_amazonaws_com(region: str) -> bool:
    """Return whether the host names and service principals of *region* end in `amazonaws.com`."""
    return partition_of(region) in _PARTITIONS_OF_AMAZONAWS_COM
