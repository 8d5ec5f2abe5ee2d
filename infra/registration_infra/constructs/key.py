"""The key that encrypts all data at rest."""

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.removal import removal_policy

# RDS copies an encrypted snapshot into another account with these actions, on behalf of AWS Backup in that account.
_COPY_ACTIONS = (
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
_GRANT_ACTIONS = ("kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant")
# In each region, because a copy into another region may be requested there. AWS's own policy of the role of AWS Backup
# has the same pattern:
# https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSBackupServiceLinkedRolePolicyForBackup.html
_THROUGH_RDS = {"kms:ViaService": "rds.*.amazonaws.com"}
_LOG_ACTIONS = ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*")


class DatabaseKey(Construct):
    """A customer-managed key, because an AWS-managed key cannot be shared with the central backup account.

    Attributes:
        key: The key; rotates every year and is kept as long as the data.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: EnvironmentConfig) -> None:
        super().__init__(scope, construct_id)
        self.key = kms.Key(
            self,
            "Key",
            alias=f"{config.prefix}-database",
            description=f"{config.prefix}: storage, secrets, logs and alarms of the database",
            enable_key_rotation=True,
            removal_policy=removal_policy(config),
        )
        self._allow_logs(config)
        if config.backup.central_account:
            self._allow_central_account(config.backup.central_account)

    def _allow_logs(self, config: EnvironmentConfig) -> None:
        groups = f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:/*/{config.prefix}*"
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="Logs",
                principals=[iam.ServicePrincipal(f"logs.{Aws.REGION}.amazonaws.com")],
                actions=[*_LOG_ACTIONS],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            )
        )

    def _allow_central_account(self, account: str) -> None:
        # Only through RDS, so the other account can copy snapshots, and can decrypt neither secrets nor logs.
        central = iam.AccountPrincipal(account)
        for sid, actions, conditions in (
            # Reveals no data, and AWS Backup calls it itself.
            ("CentralBackupDescribe", ["kms:DescribeKey"], None),
            ("CentralBackup", [*_COPY_ACTIONS], {"StringLike": _THROUGH_RDS}),
            (
                "CentralBackupGrants",
                [*_GRANT_ACTIONS],
                {"StringLike": _THROUGH_RDS, "Bool": {"kms:GrantIsForAWSResource": "true"}},
            ),
        ):
            self.key.add_to_resource_policy(
                iam.PolicyStatement(
                    sid=sid, principals=[central], actions=actions, resources=["*"], conditions=conditions
                )
            )


def key_use(key_arn: str, actions: Sequence[str], *, service: str) -> iam.PolicyStatement:
    """Return a statement that allows *actions* with a key only in requests of *service* on behalf of the role.

    Args:
        key_arn: The ARN of the key.
        actions: The actions, such as `kms:Decrypt`.
        service: The first part of the host name of the service, such as `secretsmanager`.
    """
    return iam.PolicyStatement(
        actions=[*actions],
        resources=[key_arn],
        conditions={"StringEquals": {"kms:ViaService": f"{service}.{Aws.REGION}.amazonaws.com"}},
    )
