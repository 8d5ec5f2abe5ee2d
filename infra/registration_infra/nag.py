"""The rules of AWS Solutions that every template is checked against, and the findings that are meant to be."""

from collections.abc import Iterator

from aws_cdk import Acknowledgment, App, Validations
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct

from registration_infra.config import EnvironmentConfig

_NAG = "AwsSolutions::AwsSolutions-"


def add_checks(app: App) -> None:
    """Let `app.synth()` fail where a rule is broken that nothing acknowledges."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def acknowledge(app: App, config: EnvironmentConfig) -> None:
    """Acknowledge what is broken on purpose."""
    for construct in app.node.find_all():
        for rule, reason in acknowledged(construct, config):
            Validations.of(construct).acknowledge(Acknowledgment(id=rule, reason=reason))


def acknowledged(construct: IConstruct, config: EnvironmentConfig) -> Iterator[tuple[str, str]]:
    """Yield the rules that *construct* breaks on purpose, each with its reason."""
    path = construct.node.path
    if isinstance(construct, rds.CfnDBCluster):
        yield f"{_NAG}RDS6", "Logins come from Secrets Manager and rotate; no role is granted rds_iam."
        if config.name != "prod":
            yield f"{_NAG}RDS10", "The file says so, which is refused for production."
    elif isinstance(construct, lambda_.CfnFunction):
        yield f"{_NAG}L1", "The package is tested on Python 3.13 at the newest."
    elif isinstance(construct, iam.CfnPolicy) and "/Role/DefaultPolicy" in path:
        yield (
            f"{_NAG}IAM5[Resource::*]",
            "Lambda makes network interfaces in the VPC, with ids nobody knows before; the code itself is denied them.",
        )
    elif isinstance(construct, iam.CfnRole) and "/Backup/Plan/" in path:
        policy = "arn:<AWS::Partition>:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
        yield f"{_NAG}IAM4[Policy::{policy}]", "The policy that AWS Backup documents for backups, and keeps up to date."
    elif isinstance(construct, secretsmanager.CfnSecret) and "/MonitoringSecret/" in path:
        yield f"{_NAG}SMG4", "An agent reads it once, when it starts, and would be locked out by a rotation."
