"""Every policy statement of all environments: each that is wider than necessary is accepted with a reason."""

from typing import Any

import pytest
from scan.findings import problems_of
from scan.statements import broken_rules, findings, findings_of
from templates import Template

ACCOUNT = {"Ref": "AWS::AccountId"}
TO_SERVICE = {"Effect": "Allow", "Action": "sns:Publish", "Resource": "*", "Principal": {"Service": "s3.amazonaws.com"}}
TO_ANYBODY = {"Effect": "Allow", "Action": "sns:Publish", "Resource": "*", "Principal": {"AWS": "*"}}
OTHER_ACCOUNT = {
    "Effect": "Allow",
    "Action": "kms:Decrypt",
    "Resource": "*",
    "Principal": {"AWS": "arn:aws:iam::9:root"},
}
OF_ROLE = {"Effect": "Allow", "Action": "sns:Publish", "Resource": "*"}


def test_no_statement_is_wider_than_necessary() -> None:
    """A wildcard, or a principal without a condition, must be in `accepted_findings.toml`."""
    assert problems_of("policies", findings()) == []


@pytest.mark.parametrize(
    ("statement", "rules"),
    [
        (TO_SERVICE, ["service-for-every-account"]),
        ({**TO_SERVICE, "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}}}, []),
        ({**TO_SERVICE, "Condition": {"StringEquals": {"aws:SourceAccount": "*"}}}, ["service-for-every-account"]),
        ({**TO_SERVICE, "Condition": {"Bool": {"aws:SecureTransport": "true"}}}, ["service-for-every-account"]),
        (TO_ANYBODY, ["every-principal"]),
        ({**TO_ANYBODY, "Principal": "*"}, ["every-principal"]),
        ({**TO_ANYBODY, "Condition": {"StringEquals": {"aws:PrincipalAccount": ACCOUNT}}}, []),
        (OTHER_ACCOUNT, ["account-with-key"]),
        ({**OTHER_ACCOUNT, "Condition": {"StringLike": {"kms:ViaService": "rds.*.amazonaws.com"}}}, []),
        ({**OTHER_ACCOUNT, "Action": ["kms:DescribeKey"]}, []),
        (OF_ROLE, ["every-resource"]),
        ({**OF_ROLE, "Resource": "arn:aws:sns:eu-central-1:123456789012:topic"}, []),
        ({**OF_ROLE, "Action": ["sns:Get*"], "Resource": "a"}, ["wildcard-in-action"]),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "a"}, ["exclusion"]),
    ],
)
def test_rules_find_wide_statements(statement: dict[str, Any], rules: list[str]) -> None:
    """Each rule finds a statement without the condition, and none with it."""
    assert list(broken_rules(statement)) == rules


def test_rules_look_at_whole_resources() -> None:
    """An endpoint without a policy, a managed policy, and nested documents are found."""
    nested = {"Policies": [{"PolicyDocument": {"Version": "2012-10-17", "Statement": [OF_ROLE]}}]}
    template = Template(
        {
            "Resources": {
                "Endpoint": {"Type": "AWS::EC2::VPCEndpoint", "Properties": {}},
                "Role": {"Type": "AWS::IAM::Role", "Properties": {"ManagedPolicyArns": ["arn"], **nested}},
            }
        }
    )

    assert [*findings_of(template)] == [
        ("endpoint-without-policy", "Endpoint"),
        ("managed-policy", "Role"),
        ("every-resource", "Role"),
    ]
