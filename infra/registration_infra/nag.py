"""The checks of cdk-nag (AWS Solutions), and the acknowledged findings with their reasons."""

from collections.abc import Iterator

from aws_cdk import Acknowledgment, App, Validations
from aws_cdk import aws_apigatewayv2 as gateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct

from registration_infra.config import EnvironmentConfig

_NAG = "AwsSolutions::AwsSolutions-"


def add_checks(app: App) -> None:
    """Make `app.synth()` fail on every finding that is not acknowledged."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def acknowledge_findings(app: App, config: EnvironmentConfig) -> None:
    """Acknowledge the accepted findings of all constructs in *app*."""
    for construct in app.node.find_all():
        for rule, reason in accepted_findings(construct, config):
            Validations.of(construct).acknowledge(Acknowledgment(id=rule, reason=reason))


def accepted_findings(construct: IConstruct, config: EnvironmentConfig) -> Iterator[tuple[str, str]]:
    """Yield the rules that *construct* breaks on purpose, each with the reason."""
    path = construct.node.path
    if isinstance(construct, rds.CfnDBCluster):
        if config.aurora is not None and not config.aurora.uses_iam:
            yield f"{_NAG}RDS6", "Logins come from Secrets Manager and rotate; no role is granted rds_iam."
        if config.aurora is not None and not config.aurora.deletion_protection:
            yield f"{_NAG}RDS10", "The environment file turns it off, which is allowed outside production only."
    elif isinstance(construct, lambda_.CfnFunction):
        yield f"{_NAG}L1", "The layer contains extension modules for Python 3.13."
    elif isinstance(construct, iam.CfnPolicy) and "/Role/DefaultPolicy" in path:
        yield (
            f"{_NAG}IAM5[Resource::*]",
            "The ids of the network interfaces that Lambda creates are not known; the code is denied these actions.",
        )
    elif isinstance(construct, iam.CfnRole) and "/Backup/Plan/" in path:
        policy = "arn:<AWS::Partition>:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
        yield f"{_NAG}IAM4[Policy::{policy}]", "AWS Backup documents this policy for backups and maintains it."
    elif isinstance(construct, gateway.CfnRoute):
        yield f"{_NAG}APIG4", "People who sign up have no account yet; the function checks the cookie of the others."
    elif isinstance(construct, secretsmanager.CfnSecret) and "-application/Secret/" in path:
        yield f"{_NAG}SMG4", "A rotation would end all sessions and make all codes wrong; no other service knows it."
    elif isinstance(construct, secretsmanager.CfnSecret) and "/MonitoringSecret/" in path:
        yield (
            f"{_NAG}SMG4",
            "The monitoring agent reads the secret once, at start-up; infra/README.md describes how to change it.",
        )
