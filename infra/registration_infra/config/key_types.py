"""Types of values that several keys share, with their patterns and the words for them."""

from typing import Annotated, Final

from pydantic import Field

from registration_infra.config.table import Expected

REGION_PATTERN: Final = "[a-z]{2}(-[a-z]+)+-[0-9]"
"""The name of an AWS region, as part of a pattern; patterns are ASCII, which `\\d` and `\\w` are not."""

AccountId = Annotated[str, Field(pattern="^[0-9]{12}$"), Expected("the 12 digits of an AWS account, in quotes")]
SecurityGroupId = Annotated[str, Field(pattern="^sg-[0-9a-f]{8,17}$"), Expected("a security group's id, sg-…")]
SecretArn = Annotated[
    str,
    Field(
        pattern=f"^arn:(aws|aws-cn|aws-us-gov):secretsmanager:{REGION_PATTERN}:[0-9]{{12}}:secret:[A-Za-z0-9_/+=.@-]+$"
    ),
    Expected("arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, in partition aws, aws-cn or aws-us-gov"),
]
KeyArn = Annotated[
    str,
    Field(pattern=f"^arn:aws[a-z-]*:kms:{REGION_PATTERN}:[0-9]{{12}}:key/[A-Za-z0-9_-]+$"),
    Expected("arn:PARTITION:kms:REGION:ACCOUNT:key/ID"),
]
Days = Annotated[int, Expected("a whole number of days, {ge} to {le}")]
Seconds = Annotated[int, Expected("a whole number of seconds, {ge} to {le}")]
