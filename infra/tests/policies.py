"""Security group rules and IAM statements of templates."""

from typing import Any

from templates import Template, text_of

INTERFACES = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
]


def parameter(template: Template, name: str) -> str:
    """Return the reference to the parameter *name* of the database in the template of an application."""
    ((logical_id, _),) = (
        (logical_id, one)
        for logical_id, one in template.body["Parameters"].items()
        if one.get("Default") == f"/registration/dev/database/{name}"
    )
    return f"{{{logical_id}}}"


def connections(template: Template, direction: str) -> set[tuple[str, str, int]]:
    """Return the rules between two security groups as (owner, peer, port); *direction* is `Ingress` or `Egress`."""
    other = "SourceSecurityGroupId" if direction == "Ingress" else "DestinationSecurityGroupId"
    found = set()
    for rule in template.all(f"EC2::SecurityGroup{direction}").values():
        assert ("tcp", rule["FromPort"]) == (rule["IpProtocol"], rule["ToPort"])
        found.add((text_of(rule["GroupId"]), text_of(rule[other]), rule["FromPort"]))
    return found


def granted(template: Template, role: str) -> list[dict[str, Any]]:
    """Return the statements of a role, after checking those that all functions have: logs and network interfaces."""
    logs, interfaces, denied, *others = template.statements(role)
    assert (["logs:CreateLogStream", "logs:PutLogEvents"], "Allow") == (logs["Action"], logs["Effect"])
    assert text_of(logs["Resource"]).endswith(".Arn}")
    assert (INTERFACES, "Allow", "*") == (interfaces["Action"], interfaces["Effect"], interfaces["Resource"])
    assert (INTERFACES, "Deny", "*") == (denied["Action"], denied["Effect"], denied["Resource"])
    (condition,) = denied["Condition"].values()
    latest, versions = map(text_of, condition["lambda:SourceFunctionArn"])
    assert versions == f"{latest}:*"
    assert latest.rpartition(":")[2] in {one["FunctionName"] for one in template.all("Lambda::Function").values()}
    return others


def secret_statements(secrets: list[str], key: str) -> list[dict[str, Any]]:
    """Return the statements that allow to read *secrets*, and to decrypt with *key* through Secrets Manager."""
    service = {"StringEquals": {"kms:ViaService": "secretsmanager.{AWS::Region}.amazonaws.com"}}
    allowed = [{"Action": "secretsmanager:GetSecretValue", "Effect": "Allow", "Resource": secret} for secret in secrets]
    return [*allowed, {"Action": "kms:Decrypt", "Effect": "Allow", "Resource": key, "Condition": service}]


def plain(statement: dict[str, Any]) -> dict[str, Any]:
    """Return a statement with its references as text."""
    result = {**statement, "Resource": text_of(statement["Resource"])}
    if "Condition" in result:
        ((operator, condition),) = result["Condition"].items()
        result["Condition"] = {operator: {name: text_of(value) for name, value in condition.items()}}
    return result
