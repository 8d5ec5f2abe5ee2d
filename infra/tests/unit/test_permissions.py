"""Security groups and roles: the permitted connections and actions of both stacks."""

import pytest
from policies import INTERFACES, connections, granted, parameter, plain, secret_statements
from templates import CLUSTERS, VARIANTS, Template, templates_of, text_of

LOOPBACK = "127.0.0.1/32"


TEMPLATES = [
    pytest.param(variant, stack, id=f"{variant}, {stack}")
    for variant in VARIANTS
    for stack in ("database", "application")
    if stack == "application" or variant in CLUSTERS
]


@pytest.mark.parametrize(("variant", "stack"), TEMPLATES)
def test_security_groups_are_closed(variant: str, stack: str) -> None:
    """No rule allows an address, except Datadog's intake for the service of an environment with Datadog."""
    template: Template = getattr(templates_of(*VARIANTS[variant]), stack)
    groups = template.all("EC2::SecurityGroup")

    assert bool(groups) == (variant != "express")
    for name, group in groups.items():
        assert "SecurityGroupIngress" not in group, name
        to = {(rule["CidrIp"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]}
        intake = {("0.0.0.0/0", 443)} if variant == "everything" and name.startswith("Service") else set()
        assert {(LOOPBACK, 1)} | intake == to, name


def test_only_rotation_and_migrations_reach_the_database() -> None:
    """In the database stack, only rotation and migrations may connect to the database and to Secrets Manager."""
    template = templates_of("dev").database
    database, endpoint, rotation, migrations = (
        next(f"{{{name}.GroupId}}" for name in template.all("EC2::SecurityGroup") if name.startswith(start))
        for start in ("Aurora", "NetworkEndpoint", "Rotation", "Migrations")
    )

    expected = {
        (client, server, port)
        for client in (rotation, migrations)
        for server, port in ((database, 5432), (endpoint, 443))
    }
    assert expected == connections(template, "Egress")
    assert expected == {(client, server, port) for server, client, port in connections(template, "Ingress")}


def test_service_reaches_only_database_and_secrets_manager() -> None:
    """The application stack contains the rules of both sides: port 5432 of the cluster, and 443 of the endpoint."""
    template = templates_of("dev").application
    ((service, _),) = template.all("EC2::SecurityGroup").items()

    expected = {
        (f"{{{service}.GroupId}}", parameter(template, "security_group_id"), 5432),
        (f"{{{service}.GroupId}}", parameter(template, "endpoint_security_group_id"), 443),
    }
    assert expected == connections(template, "Egress")
    assert expected == {(client, server, port) for server, client, port in connections(template, "Ingress")}
    function = template.one("Lambda::Function")
    assert [f"{{{service}.GroupId}}"] == [text_of(each) for each in function["VpcConfig"]["SecurityGroupIds"]]


def test_service_may_only_read_its_secret() -> None:
    """The role allows one secret, and one key through Secrets Manager; it has no managed policy."""
    template = templates_of("dev").application

    assert secret_statements([parameter(template, "secret_arn")], parameter(template, "key_arn")) == [
        plain(statement) for statement in granted(template, "ServiceRole")
    ]
    (role,) = template.all("IAM::Role").values()
    assert "ManagedPolicyArns" not in role
    assert "Policies" not in role
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert {"Service": "lambda.amazonaws.com"} == trust["Principal"]
    assert {"ApiGatewayV2", "EC2", "IAM", "Lambda", "Logs", "SecretsManager"} == {
        resource["Type"].split("::")[1] for resource in template.body["Resources"].values()
    }


@pytest.mark.parametrize(("variant", "stack"), TEMPLATES)
def test_keys_are_used_only_through_a_service(variant: str, stack: str) -> None:
    """No role may decrypt by itself: each statement with an action of KMS names the service."""
    template: Template = getattr(templates_of(*VARIANTS[variant]), stack)
    statements = [
        statement
        for policy in template.all("IAM::Policy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if "kms:" in str(statement["Action"])
    ]

    assert statements or stack == "application"
    for statement in statements:
        assert "kms:ViaService" in statement["Condition"]["StringEquals"], statement


@pytest.mark.parametrize("variant", CLUSTERS)
def test_services_act_for_this_account_only(variant: str) -> None:
    """No service may act here for another account as its confused deputy, if it tells for whom it acts."""
    template = templates_of(*VARIANTS[variant]).database
    documents = [
        *(template.one("KMS::Key")["KeyPolicy"], template.one("SNS::TopicPolicy")["PolicyDocument"]),
        *(role["AssumeRolePolicyDocument"] for role in template.all("IAM::Role").values()),
    ]
    # They act only for resources of the account that passed them the role.
    without_account = {"lambda.amazonaws.com", "rds.amazonaws.com", "backup.amazonaws.com"}

    for statement in (each for document in documents for each in document["Statement"]):
        principal = statement["Principal"]
        service = principal.get("Service") if isinstance(principal, dict) else None
        if service is not None and text_of(service) not in without_account:
            ((_, condition),) = statement["Condition"].items()
            (value,) = condition.values()
            assert "AWS::AccountId" in str(value), service


@pytest.mark.parametrize(("variant", "stack"), TEMPLATES)
def test_roles_have_no_wildcards(variant: str, stack: str) -> None:
    """No action contains a wildcard, and only the actions on network interfaces have the resource `*`."""
    template: Template = getattr(templates_of(*VARIANTS[variant]), stack)

    for policy in template.all("IAM::Policy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not [action for action in actions if "*" in action]
            assert statement["Resource"] != "*" or actions == INTERFACES
