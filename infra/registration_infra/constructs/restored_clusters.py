"""The definition of the restore test, and the names that AWS Backup gives to restored clusters."""

from pathlib import Path
from typing import Final

from aws_cdk import Aws

DEFINITION: Final = Path(__file__).parents[2] / "restore_test" / "state_machine.asl.json"
"""The state machine in the States Language, with placeholders for the ARNs of the function and the plan."""

RESTORED: Final = "awsbackup-restore-test-"
"""The start of the names of clusters that a restore testing plan has restored."""


def rds_arn(kind: str, name: str) -> str:
    """Return the ARN of a resource of RDS in this account and region.

    Args:
        kind: The kind of the resource as in ARNs, such as `cluster` or `db`.
        name: The name; it may end in `*`.
    """
    return f"arn:{Aws.PARTITION}:rds:{Aws.REGION}:{Aws.ACCOUNT_ID}:{kind}:{name}"
