"""`BackupConfig`: the table [backup]."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from registration_infra.config.key_types import (
    ARN_START,
    REGION_PATTERN,
    AccountId,
    Days,
    with_partition_of_region,
)
from registration_infra.config.table import Expected, Table

BACKUP_TAG: Final = ("backup", "enabled")
"""The key and value of the tag by which a central backup plan selects every cluster; no file can change it."""

_VaultArn = Annotated[
    str,
    Field(pattern=f"{ARN_START}:backup:{REGION_PATTERN}:[0-9]{{12}}:backup-vault:[A-Za-z0-9_-]{{2,50}}$"),
    AfterValidator(with_partition_of_region),
    Expected("arn:PARTITION:backup:REGION:ACCOUNT:backup-vault:NAME, with the partition of the region"),
]


class BackupConfig(Table):
    """Backups in addition to the cluster's own."""

    central_account: AccountId | None = Field(
        default=None,
        description="The account that may use the key, to copy the encrypted snapshots of the cluster. "
        f"It finds the cluster by the tag `{': '.join(BACKUP_TAG)}`.",
    )
    own_plan: bool = Field(
        default=False,
        description="Whether this stack has its own plan of AWS Backup, for example if there is no central account.",
    )
    own_plan_retention_days: Days = Field(
        default=35, ge=1, le=36_500, description="The retention period of the daily backups of `backup.own_plan`."
    )
    copy_to_vault_arn: _VaultArn | None = Field(
        default=None,
        description="A second vault, usually in another region or account, for copies of the backups of "
        "`backup.own_plan`.",
    )
    restore_test: bool = Field(
        default=False,
        description="Whether the newest backup of `backup.own_plan` is restored and checked every month. "
        "A stack of its own does this.",
    )
    restore_test_min_registrations: int = Field(
        default=1, ge=0, le=1_000_000_000, description="The restore test fails if it finds fewer registrations."
    )
