"""The key that encrypts all data at rest."""

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from registration_infra.config import EnvironmentConfig
from registration_infra.constructs.removal import removal_policy

# The actions that AWS Backup and RDS need to copy an encrypted snapshot into another account.
_COPY_ACTIONS = ("kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*", "kms:ReEncrypt*")


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
                actions=["kms:Decrypt*", "kms:Describe*", "kms:Encrypt*", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            )
        )

    def _allow_central_account(self, account: str) -> None:
        central = iam.AccountPrincipal(account)
        self.key.add_to_resource_policy(
            iam.PolicyStatement(sid="CentralBackup", principals=[central], actions=[*_COPY_ACTIONS], resources=["*"])
        )
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="CentralBackupGrants",
                principals=[central],
                actions=["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
                resources=["*"],
                conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
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
