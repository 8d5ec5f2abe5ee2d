"""Types of values that several keys share, with their patterns and the words for them."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from registration_infra.config.partitions import is_possible_partition
from registration_infra.config.table import Expected

REGION_PATTERN: Final = "[a-z]+(-[a-z]+)+-[0-9]+"
"""The name of an AWS region, as part of a pattern; patterns are ASCII, which `\\d` and `\\w` are not."""

ARN_START: Final = "^arn:aws(-[a-z]+)*"
"""The start of an ARN in any partition, as part of a pattern."""


def with_partition_of_region(arn: str) -> str:
    """Return *arn*, whose pattern has been checked.

    Raises:
        ValueError: The partition does not contain the region.
    """
    _, partition, _, region, _ = arn.split(":", 4)
    if not is_possible_partition(partition, region):
        raise ValueError("the partition does not contain the region")
    return arn


AccountId = Annotated[str, Field(pattern="^[0-9]{12}$"), Expected("the 12 digits of an AWS account, in quotes")]
SecurityGroupId = Annotated[str, Field(pattern="^sg-[0-9a-f]{8,17}$"), Expected("a security group's id, sg-…")]
SecretArn = Annotated[
    str,
    # RDS names the secrets that it manages `rds!cluster-…` and `rds!db-…`.
    Field(pattern=f"{ARN_START}:secretsmanager:{REGION_PATTERN}:[0-9]{{12}}:secret:[A-Za-z0-9_/+=.@!-]+$"),
    AfterValidator(with_partition_of_region),
    Expected("arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, with the partition of the region"),
]
KeyArn = Annotated[
    str,
    Field(pattern=f"{ARN_START}:kms:{REGION_PATTERN}:[0-9]{{12}}:key/[A-Za-z0-9_-]+$"),
    AfterValidator(with_partition_of_region),
    Expected("arn:PARTITION:kms:REGION:ACCOUNT:key/ID, with the partition of the region"),
]
Days = Annotated[int, Expected("a whole number of days, {ge} to {le}")]
Seconds = Annotated[int, Expected("a whole number of seconds, {ge} to {le}")]
