"""A backup plan in this account, for environments without a central backup account."""

from aws_cdk import Duration
from aws_cdk import aws_backup as backup
from aws_cdk import aws_events as events
from constructs import Construct

from registration_infra.config import BACKUP_TAG
from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.removal import removal_policy


class Backup(Construct):
    """A daily backup of every tagged resource into a vault of this account, with optional copies to another vault.

    Attributes:
        plan: The backup plan.
    """

    def __init__(self, scope: Construct, construct_id: str, *, context: DatabaseContext) -> None:
        super().__init__(scope, construct_id)
        config = context.config
        vault = backup.BackupVault(
            self,
            "Vault",
            backup_vault_name=config.prefix,
            encryption_key=context.key,
            removal_policy=removal_policy(config),
        )
        retention = Duration.days(config.backup.own_plan_retention_days)
        rule = backup.BackupPlanRule(
            rule_name="daily",
            backup_vault=vault,
            schedule_expression=events.Schedule.cron(hour="4", minute="0"),
            delete_after=retention,
            copy_actions=self._copies(config.backup.copy_to_vault_arn, retention),
        )
        self.plan = backup.BackupPlan(self, "Plan", backup_plan_name=config.prefix, backup_plan_rules=[rule])
        self.plan.add_selection("Tagged", resources=[backup.BackupResource.from_tag(*BACKUP_TAG)])

    def _copies(self, vault_arn: str | None, retention: Duration) -> list[backup.BackupPlanCopyActionProps]:
        if vault_arn is None:
            return []
        vault = backup.BackupVault.from_backup_vault_arn(self, "CopyTo", vault_arn)
        return [backup.BackupPlanCopyActionProps(destination_backup_vault=vault, delete_after=retention)]
