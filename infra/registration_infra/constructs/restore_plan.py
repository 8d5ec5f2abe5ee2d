"""The restore testing plan of AWS Backup, and the role that restores."""

import json

from aws_cdk import Aws
from aws_cdk import aws_backup as backup
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.key import key_use
from registration_infra.constructs.restored_clusters import RESTORED, rds_arn

# On the first day of each month, one hour after the daily backup begins.
_SCHEDULE = "cron(0 5 1 * ? *)"
_START_WINDOW_HOURS = 4
# The state machine needs about one hour. AWS Backup deletes the cluster earlier if the result is reported.
_VALIDATION_HOURS = 6
_SELECTION_DAYS = 35


class RestorePlan(Construct):
    """Restores the newest recovery point of the cluster every month, into a security group that is closed.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        config: The environment.
        key_arn: The ARN of the key that encrypts the cluster and its recovery points.
        security_group: The security group of the restored cluster.

    Attributes:
        plan: The restore testing plan.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: EnvironmentConfig,
        key_arn: str,
        security_group: ec2.ISecurityGroup,
    ) -> None:
        super().__init__(scope, construct_id)
        assert config.aurora is not None
        # AWS Backup accepts letters, digits and underscores only.
        name = config.prefix.replace("-", "_")
        vault = f"arn:{Aws.PARTITION}:backup:{Aws.REGION}:{Aws.ACCOUNT_ID}:backup-vault:{config.prefix}"
        self.plan = backup.CfnRestoreTestingPlan(
            self,
            "Plan",
            restore_testing_plan_name=f"{name}_restore_test",
            schedule_expression=_SCHEDULE,
            start_window_hours=_START_WINDOW_HOURS,
            recovery_point_selection=backup.CfnRestoreTestingPlan.RestoreTestingRecoveryPointSelectionProperty(
                algorithm="LATEST_WITHIN_WINDOW",
                include_vaults=[vault],
                recovery_point_types=["SNAPSHOT"],
                selection_window_days=_SELECTION_DAYS,
            ),
        )
        selection = backup.CfnRestoreTestingSelection(
            self,
            "Cluster",
            restore_testing_plan_name=self.plan.ref,
            restore_testing_selection_name=f"{name}_cluster",
            protected_resource_type="Aurora",
            protected_resource_arns=[rds_arn("cluster", config.prefix)],
            iam_role_arn=self._role(config, key_arn).role_arn,
            validation_window_hours=_VALIDATION_HOURS,
            restore_metadata_overrides={
                "dbSubnetGroupName": config.prefix,
                "vpcSecurityGroupIds": json.dumps([security_group.security_group_id]),
                "dbClusterParameterGroupName": f"{config.prefix}-{config.aurora.major_version}",
            },
        )
        selection.node.add_dependency(self.plan)

    def _role(self, config: EnvironmentConfig, key_arn: str) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("backup.amazonaws.com"),
            description="AWS Backup restores the cluster for a test",
        )
        for statement in _restore_statements(config, key_arn):
            role.add_to_policy(statement)
        return role


def _restore_statements(config: EnvironmentConfig, key_arn: str) -> list[iam.PolicyStatement]:
    assert config.aurora is not None
    restored, snapshots = rds_arn("cluster", f"{RESTORED}*"), rds_arn("cluster-snapshot", "awsbackup:*")
    groups = [
        rds_arn("subgrp", config.prefix),
        rds_arn("cluster-pg", f"{config.prefix}-{config.aurora.major_version}"),
        rds_arn("og", "default:*"),
    ]
    return [
        iam.PolicyStatement(actions=["rds:RestoreDBClusterFromSnapshot"], resources=[restored, snapshots, *groups]),
        iam.PolicyStatement(
            actions=["rds:AddTagsToResource", "rds:DeleteDBCluster", "rds:ListTagsForResource"],
            resources=[restored],
        ),
        iam.PolicyStatement(
            actions=["rds:DescribeDBClusterSnapshots", "rds:DescribeDBClusters"],
            resources=[restored, snapshots, rds_arn("cluster", config.prefix)],
        ),
        iam.PolicyStatement(actions=["kms:DescribeKey"], resources=[key_arn]),
        key_use(key_arn, ["kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKey"], service="rds"),
    ]
