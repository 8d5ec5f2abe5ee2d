"""A small evaluator of IAM policies: whether the statements of a template allow a request."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from templates import text_of

Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to AWS.

    Attributes:
        action: The action, such as `kms:Decrypt`.
        resource: The ARN of the resource.
        principal: The account, ARN or service of the caller; only policies of resources look at it.
        context: The values of condition keys; a key that is not in it is absent from the request.
    """

    action: str
    resource: str = "*"
    principal: str = ""
    context: Mapping[str, str] = field(default_factory=dict)


def resolved(value: Any, references: Mapping[str, str]) -> Any:
    """Return *value* of a template with its references replaced; *references* are by name, such as `AWS::Region`."""
    if isinstance(value, dict) and ({"Ref", "Fn::GetAtt", "Fn::Join"} & value.keys()):
        return re.sub(r"\{([^{}]+)\}", lambda match: references.get(match[1], match[0]), text_of(value))
    if isinstance(value, dict):
        return {key: resolved(each, references) for key, each in value.items()}
    if isinstance(value, list):
        return [resolved(each, references) for each in value]
    return value


def allows(statements: Iterable[Statement], request: Request) -> bool:
    """Return whether *statements* allow *request*: one allows it, and none denies it."""
    effects = {statement["Effect"] for statement in statements if _matches(statement, request)}
    return effects == {"Allow"}


def as_list(value: Any) -> list[Any]:
    """Return a value of a policy, which may be a list or a single value, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _matches(statement: Statement, request: Request) -> bool:
    assert not statement.keys() & {"NotAction", "NotResource", "NotPrincipal"}, "not needed so far"
    return (
        _like(request.action.lower(), [action.lower() for action in as_list(statement["Action"])])
        and _like(request.resource, as_list(statement.get("Resource", "*")))
        and _is_principal(request.principal, statement.get("Principal", "*"))
        and all(
            _holds(operator, request.context.get(key), as_list(values))
            for operator, condition in statement.get("Condition", {}).items()
            for key, values in condition.items()
        )
    )


def _is_principal(caller: str, principal: Any) -> bool:
    if principal == "*":
        return True
    named = [each for values in principal.values() for each in as_list(values)]
    # The root of an account stands for all its principals, whose own policies decide.
    accounts = [each.split(":")[4] for each in named if each.endswith(":root")]
    return "*" in named or caller in named or any(f":{account}:" in f":{caller}:" for account in accounts)


def _holds(operator: str, actual: str | None, expected: list[str]) -> bool:
    match operator:
        case "Null":
            return (actual is None) == (str(expected[0]).lower() == "true")
        case "StringNotEquals":
            return actual not in expected
        case "StringEquals" | "ArnEquals":
            return actual in expected
        case "StringLike" | "ArnLike":
            return actual is not None and _like(actual, expected)
        case "Bool":
            return actual is not None and actual.lower() == str(expected[0]).lower()
    raise AssertionError(f"the operator {operator} is unknown")


def _like(value: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
