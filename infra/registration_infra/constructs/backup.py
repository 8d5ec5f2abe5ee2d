"""A backup plan of our own, where no central account has one."""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_backup as backup
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from constructs import Construct

from registration_infra.config import BACKUP_TAG, EnvironmentConfig


class Backup(Construct):
    """Backs up, every day, what has the tag, into a vault of this account, and copies it where the file says.

    Attributes:
        plan: The plan.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: EnvironmentConfig, key: kms.IKey) -> None:
        super().__init__(scope, construct_id)
        vault = backup.BackupVault(
            self,
            "Vault",
            backup_vault_name=config.prefix,
            encryption_key=key,
            removal_policy=RemovalPolicy.DESTROY if config.keeps_nothing else RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        kept = Duration.days(config.backup.own_plan_retention_days)
        copy_to = config.backup.copy_to_vault_arn
        self.plan = backup.BackupPlan(
            self,
            "Plan",
            backup_plan_name=config.prefix,
            backup_plan_rules=[
                backup.BackupPlanRule(
                    rule_name="daily",
                    backup_vault=vault,
                    schedule_expression=events.Schedule.cron(hour="4", minute="0"),
                    delete_after=kept,
                    copy_actions=[]
                    if copy_to is None
                    else [
                        backup.BackupPlanCopyActionProps(
                            destination_backup_vault=backup.BackupVault.from_backup_vault_arn(self, "CopyTo", copy_to),
                            delete_after=kept,
                        )
                    ],
                )
            ],
        )
        self.plan.add_selection("Tagged", resources=[backup.BackupResource.from_tag(*BACKUP_TAG)])
