"""Rules for the policy statements of templates: which principals, accounts, actions and resources they name."""

from collections.abc import Iterator, Mapping
from typing import Any

from policy_evaluation import Statement, as_list
from scan.findings import Finding
from templates import VARIANTS, Template, templates_of, text_of

# With one of these, a statement for a service applies to one account only; their values are checked too.
_KEYS_OF_AN_ACCOUNT = (
    *("aws:SourceAccount", "aws:SourceArn", "aws:PrincipalAccount", "aws:ResourceAccount"),
    "kms:EncryptionContext:aws:logs:arn",
)


def findings() -> Iterator[Finding]:
    """Yield the findings of all variants."""
    for name, changes in VARIANTS.values():
        for template in templates_of(name, changes).stacks.values():
            yield from findings_of(template)


def findings_of(template: Template) -> Iterator[Finding]:
    """Yield the findings of *template*."""
    for logical_id, resource in template.body["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::EC2::VPCEndpoint" and "PolicyDocument" not in properties:
            yield Finding("endpoint-without-policy", logical_id)
        if properties.get("ManagedPolicyArns"):
            yield Finding("managed-policy", logical_id)
        for statement in _statements(properties):
            if statement["Effect"] == "Allow":
                yield from (Finding(rule, logical_id) for rule in broken_rules(statement))


def broken_rules(statement: Statement) -> Iterator[str]:
    """Yield the names of the rules that an `Allow` statement breaks."""
    conditions = _conditions(statement)
    principal = statement.get("Principal")
    if "NotAction" in statement or "NotResource" in statement or "NotPrincipal" in statement:
        yield "exclusion"
    if any("*" in text_of(action) for action in as_list(statement.get("Action", []))):
        yield "wildcard-in-action"
    if principal is None:
        if "*" in [text_of(each) for each in as_list(statement["Resource"])] and not conditions:
            yield "every-resource"
    elif principal == "*" or "*" in _principals(principal, "AWS"):
        if not conditions.keys() & {"aws:PrincipalAccount", "aws:SourceAccount"}:
            yield "every-principal"
    elif "Service" in principal:
        if not any(_names_an_account(conditions.get(key)) for key in _KEYS_OF_AN_ACCOUNT):
            yield "service-for-every-account"
    elif not conditions and _reads_with_key(statement["Action"]):
        yield "account-with-key"


def _reads_with_key(actions: Any) -> bool:
    # `kms:*` is found by its wildcard; the description of a key reveals no data.
    return any(action.startswith("kms:") and action not in {"kms:*", "kms:DescribeKey"} for action in as_list(actions))


def _names_an_account(value: Any) -> bool:
    text = str(value)
    return "AWS::AccountId" in text or any(part.isdigit() for part in text.split(":"))


def _conditions(statement: Statement) -> Mapping[str, Any]:
    return {key: value for each in statement.get("Condition", {}).values() for key, value in each.items()}


def _principals(principal: Any, kind: str) -> list[str]:
    return [text_of(each) for each in as_list(principal.get(kind, []))]


def _statements(value: Any) -> Iterator[Statement]:
    if isinstance(value, dict):
        if "Statement" in value and "Version" in value:
            yield from value["Statement"]
        for each in value.values():
            yield from _statements(each)
    elif isinstance(value, list):
        for each in value:
            yield from _statements(each)
