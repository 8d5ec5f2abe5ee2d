"""The checks of cdk-nag (AWS Solutions), and the acknowledged findings with their reasons."""

from collections.abc import Iterator

from aws_cdk import Acknowledgment, App, Validations
from aws_cdk import aws_apigatewayv2 as gateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_stepfunctions as stepfunctions
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct

from registration_infra.config import EnvironmentConfig

_NAG = "AwsSolutions::AwsSolutions-"
_RESTORED = ("cluster:awsbackup-restore-test-*", "db:awsbackup-restore-test-*", "cluster-snapshot:awsbackup:*")


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
    if "-restore-testing/" in path:
        yield from _findings_of_restore_test(construct)
    if "-application/" in path:
        yield from _findings_of_application(construct)
    if isinstance(construct, rds.CfnDBCluster):
        if config.aurora is not None and not config.aurora.uses_iam:
            yield f"{_NAG}RDS6", "Logins come from Secrets Manager and rotate; no role is granted rds_iam."
        if config.aurora is not None and not config.aurora.deletion_protection:
            yield f"{_NAG}RDS10", "The environment file turns it off, which is allowed outside production only."
    elif isinstance(construct, lambda_.CfnFunction):
        yield f"{_NAG}L1", "The layer contains extension modules for Python 3.13."
    elif isinstance(construct, iam.CfnPolicy) and "/Role/DefaultPolicy" in path and "/Workflow/" not in path:
        yield (
            f"{_NAG}IAM5[Resource::*]",
            "The ids of the network interfaces that Lambda creates are not known; the code is denied these actions.",
        )
    elif isinstance(construct, iam.CfnRole) and "/Backup/Plan/" in path:
        policy = "arn:<AWS::Partition>:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
        yield f"{_NAG}IAM4[Policy::{policy}]", "AWS Backup documents this policy for backups and maintains it."
    elif isinstance(construct, secretsmanager.CfnSecret) and "/MonitoringSecret/" in path:
        yield (
            f"{_NAG}SMG4",
            "The monitoring agent reads the secret once, at start-up; infra/README.md describes how to change it.",
        )


def _findings_of_application(construct: IConstruct) -> Iterator[tuple[str, str]]:
    if isinstance(construct, gateway.CfnRoute):
        yield f"{_NAG}APIG4", "People who sign up have no account yet; the function checks the cookie of the others."
    elif isinstance(construct, secretsmanager.CfnSecret):
        yield f"{_NAG}SMG4", "A rotation would end all sessions and make all codes wrong; no other service knows it."


def _findings_of_restore_test(construct: IConstruct) -> Iterator[tuple[str, str]]:
    if isinstance(construct, stepfunctions.CfnStateMachine):
        yield f"{_NAG}SF1", "AWS keeps the history of each execution; a log would need rights on every log group."
        yield f"{_NAG}SF2", "It runs once a month and calls no service that takes part in a trace."
    elif isinstance(construct, iam.CfnPolicy):
        start = f"{_NAG}IAM5[Resource::arn:<AWS::Partition>"
        account = "<AWS::Region>:<AWS::AccountId>"
        for names in _RESTORED:
            yield (
                f"{start}:rds:{account}:{names}]",
                "AWS Backup chooses the end of the names.",
            )
        for defaults in ("og:default:*", "pg:default.*"):
            yield f"{start}:rds:{account}:{defaults}]", "The groups are AWS's own, and their names contain the version."
        secrets = f"{start}:secretsmanager:{account}:secret:rds!cluster-*]"
        yield secrets, "RDS chooses the name; only the secret of a restored cluster can be read, by its tag."
        yield (
            f"{start}:kms:{account}:key/*]",
            "The condition limits it to AWS's own key of Secrets Manager.",
        )
        yield f"{_NAG}IAM5[Resource::*]", "AWS Backup has no resources for reports of restore tests."
