"""Principals of policies."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam


def service_in_this_account(service: str) -> iam.IPrincipal:
    """Return the principal of an AWS service that acts for this account.

    Without the condition, another account could make the service act here as its confused deputy. Some services do not
    send the key: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html names EventBridge.
    """
    return iam.ServicePrincipal(service, conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}})
