"""Encrypted log groups with a retention period."""

from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.removal import removal_policy


def encrypted_log_group(
    scope: Construct, construct_id: str, *, name: str, config: EnvironmentConfig, key: kms.IKey | None
) -> logs.LogGroup:
    """Return the log group *name*, with the retention period of *config*.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        name: The name of the log group.
        config: The environment.
        key: The key that encrypts the log events; `None` leaves the encryption to CloudWatch Logs.
    """
    group = logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        encryption_key=key,
        removal_policy=removal_policy(config),
    )
    resource = group.node.default_child
    assert isinstance(resource, logs.CfnLogGroup)
    # The property of `LogGroup` accepts only the values of an enum.
    resource.retention_in_days = config.log_retention_days
    return group
