"""Log groups that end, and that only the key opens."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from registration_infra.config import EnvironmentConfig


def encrypted_log_group(
    scope: Construct, construct_id: str, *, name: str, config: EnvironmentConfig, key: kms.IKey | None
) -> logs.LogGroup:
    """Return the log group *name*, whose entries are kept for as long as *config* says."""
    group = logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        encryption_key=key,
        removal_policy=RemovalPolicy.DESTROY if config.keeps_nothing else RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    )
    resource = group.node.default_child
    assert isinstance(resource, logs.CfnLogGroup)
    resource.retention_in_days = config.log_retention_days
    return group
