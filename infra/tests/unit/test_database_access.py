"""Who may do what, and who reaches whom: security groups, roles, and what `environment_for` gives."""

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Environment, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from registration_infra import InfraConfigError
from registration_infra.constructs.database_access import DatabaseAccess
from registration_infra.parameters import PARAMETERS
from templates import DATADOG, EXISTING, KEY, PROXY, SECRET, THERE, VARIANTS, Template, config_of, templates_of, text_of

NOWHERE = "127.0.0.1/32"
INTERFACES = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
]
TEMPLATES = [
    pytest.param(variant, stack, id=f"{variant}, {stack}")
    for variant in VARIANTS
    for stack in ("database", "application")
    if (variant, stack) != ("existing", "database")
]


def parameter(template: Template, name: str) -> str:
    """Return the reference by which a template of an application has one of the database's parameters."""
    ((logical_id, _),) = (
        (logical_id, one)
        for logical_id, one in template.body["Parameters"].items()
        if one.get("Default") == f"/registration/dev/database/{name}"
    )
    return f"{{{logical_id}}}"


def ways(template: Template, direction: str) -> set[tuple[str, str, int]]:
    """Return the rules between two groups as (whose rule, the other, port); *direction* as in the types' names."""
    other = "SourceSecurityGroupId" if direction == "Ingress" else "DestinationSecurityGroupId"
    found = set()
    for rule in template.all(f"EC2::SecurityGroup{direction}").values():
        assert ("tcp", rule["FromPort"]) == (rule["IpProtocol"], rule["ToPort"])
        found.add((text_of(rule["GroupId"]), text_of(rule[other]), rule["FromPort"]))
    return found


@pytest.mark.parametrize(("variant", "stack"), TEMPLATES)
def test_no_group_is_open(variant: str, stack: str) -> None:
    """No address may come in, and none may be gone to, but Datadog's intake from the service where it is used."""
    template: Template = getattr(templates_of(*VARIANTS[variant]), stack)
    groups = template.all("EC2::SecurityGroup")

    assert groups
    for name, group in groups.items():
        assert "SecurityGroupIngress" not in group, name
        to = {(rule["CidrIp"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]}
        intake = {("0.0.0.0/0", 443)} if variant == "everything" and name.startswith("Service") else set()
        assert {(NOWHERE, 1)} | intake == to, name


def test_the_database_is_reached_by_those_who_need_it() -> None:
    """Rotation and migrations by its own stack, each with a way to Secrets Manager, and nobody else."""
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
    assert expected == ways(template, "Egress")
    assert expected == {(client, server, port) for server, client, port in ways(template, "Ingress")}


def test_the_service_reaches_the_database_and_secrets_manager_and_nothing_else() -> None:
    """Port 5432 of this cluster and the endpoint, by groups; both sides are opened by the stack of the service."""
    template = templates_of("dev").application
    ((service, _),) = template.all("EC2::SecurityGroup").items()

    expected = {
        (f"{{{service}.GroupId}}", parameter(template, "security_group_id"), 5432),
        (f"{{{service}.GroupId}}", parameter(template, "endpoint_security_group_id"), 443),
    }
    assert expected == ways(template, "Egress")
    assert expected == {(client, server, port) for server, client, port in ways(template, "Ingress")}
    function = template.one("Lambda::Function")
    assert [f"{{{service}.GroupId}}"] == [text_of(each) for each in function["VpcConfig"]["SecurityGroupIds"]]


def statements_of(template: Template, role: str) -> list[dict[str, Any]]:
    """Return what a role may do beside the network interfaces and the log group that every function has."""
    logs, interfaces, denied, *others = template.statements(role)
    assert (["logs:CreateLogStream", "logs:PutLogEvents"], "Allow") == (logs["Action"], logs["Effect"])
    assert text_of(logs["Resource"]).endswith(".Arn}")
    assert (INTERFACES, "Allow", "*") == (interfaces["Action"], interfaces["Effect"], interfaces["Resource"])
    assert (INTERFACES, "Deny", "*") == (denied["Action"], denied["Effect"], denied["Resource"])
    (condition,) = denied["Condition"].values()
    function = text_of(condition["lambda:SourceFunctionArn"]).rpartition(":")[2]
    assert function in {one["FunctionName"] for one in template.all("Lambda::Function").values()}
    return others


def reads(secrets: list[str], key: str) -> list[dict[str, Any]]:
    """Return the statements that let a role read *secrets*, and decrypt with *key* through Secrets Manager."""
    service = {"StringEquals": {"kms:ViaService": "secretsmanager.{AWS::Region}.amazonaws.com"}}
    allowed = [{"Action": "secretsmanager:GetSecretValue", "Effect": "Allow", "Resource": secret} for secret in secrets]
    return [*allowed, {"Action": "kms:Decrypt", "Effect": "Allow", "Resource": key, "Condition": service}]


def plain(statement: dict[str, Any]) -> dict[str, Any]:
    """Return a statement with its references as text."""
    made = {**statement, "Resource": text_of(statement["Resource"])}
    if "Condition" in made:
        ((operator, condition),) = made["Condition"].items()
        made["Condition"] = {operator: {name: text_of(value) for name, value in condition.items()}}
    return made


def test_the_service_may_read_its_secret_with_its_key_and_nothing_else() -> None:
    """One secret, one key, that through Secrets Manager alone; no managed policy."""
    template = templates_of("dev").application

    assert reads([parameter(template, "secret_arn")], parameter(template, "key_arn")) == [
        plain(statement) for statement in statements_of(template, "ServiceRole")
    ]
    (role,) = template.all("IAM::Role").values()
    assert "ManagedPolicyArns" not in role
    assert "Policies" not in role
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert {"Service": "lambda.amazonaws.com"} == trust["Principal"]
    assert {"EC2", "IAM", "Lambda", "Logs"} == {
        resource["Type"].split("::")[1] for resource in template.body["Resources"].values()
    }


def test_migrations_may_read_the_two_secrets_and_nothing_else() -> None:
    """That of the cluster, which they log in with, and that of the application, whose login they make."""
    template = templates_of("dev").database
    ((key, _),) = template.all("KMS::Key").items()
    names = ("ClusterSecretAttachment", "ApplicationSecretAttachment")
    secrets = [
        next(f"{{{name}}}" for name in template.all("SecretsManager::SecretTargetAttachment") if name.startswith(start))
        for start in names
    ]

    found = [plain(statement) for statement in statements_of(template, "MigrationsFunctionRole")]
    by_resource = [statement for statement in found if statement["Action"] == "secretsmanager:GetSecretValue"]
    assert set(secrets) == {
        secret
        for statement in by_resource
        for secret in ([statement["Resource"]] if statement["Resource"].startswith("{") else secrets)
    }
    assert {"secretsmanager:GetSecretValue", "kms:Decrypt"} == {statement["Action"] for statement in found}
    assert {f"{{{key}.Arn}}"} == {one["Resource"] for one in found if one["Action"] == "kms:Decrypt"}


@pytest.mark.parametrize(("variant", "stack"), TEMPLATES)
def test_no_role_may_do_everything(variant: str, stack: str) -> None:
    """No action is a wildcard, and `*` is the resource only of network interfaces."""
    template: Template = getattr(templates_of(*VARIANTS[variant]), stack)

    for policy in template.all("IAM::Policy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not [action for action in actions if "*" in action]
            assert statement["Resource"] != "*" or actions == INTERFACES


def test_the_environment_is_what_the_database_publishes() -> None:
    """Each variable from the parameter of its name; the stack of the service waits for no other stack."""
    template = templates_of("dev").application
    variables = template.one("Lambda::Function")["Environment"]["Variables"]

    assert {
        "APP_ENVIRONMENT": "dev",
        "APP_DATABASE_HOST": parameter(template, "host"),
        "APP_DATABASE_PORT": parameter(template, "port"),
        "APP_DATABASE_NAME": parameter(template, "name"),
        "APP_DATABASE_SECRET_ARN": parameter(template, "secret_arn"),
        "APP_DATABASE_SSLMODE": parameter(template, "sslmode"),
    } == {name: text_of(value) for name, value in variables.items()}
    assert "Fn::ImportValue" not in str(template.body)
    assert "Fn::GetStackOutput" not in str(template.body)
    assert {"AWS::SSM::Parameter::Value<String>"} == {one["Type"] for one in template.body["Parameters"].values()}


def test_the_database_publishes_where_it_is() -> None:
    """As outputs, described by the variable they are for, and as parameters."""
    template = templates_of("dev").database
    outputs = {
        one["Description"]: text_of(one["Value"]) for one in template.body["Outputs"].values() if "Description" in one
    }
    parameters = {one["Name"]: text_of(one["Value"]) for one in template.all("SSM::Parameter").values()}

    assert {f"/registration/dev/database/{name}" for name in PARAMETERS} == parameters.keys()
    assert {
        f"APP_DATABASE_{name.upper()}": parameters[f"/registration/dev/database/{name}"]
        for name in ("host", "port", "name", "secret_arn", "sslmode")
    } == outputs
    assert {"5432", "registrations", "verify-full"} < set(outputs.values())
    assert outputs["APP_DATABASE_HOST"].startswith("{AuroraCluster")
    assert outputs["APP_DATABASE_SECRET_ARN"].startswith("{ApplicationSecret")
    assert template.body["Outputs"]["MigrateFunctionName"]["Value"]["Ref"].startswith("Migrations")


def test_a_database_that_is_there_is_passed_through() -> None:
    """No stack of a database; the service has the file's values, and may read that secret and reach that group."""
    templates = templates_of("dev", EXISTING)
    template = templates.application

    assert {"registration-dev-application"} == templates.stacks.keys()
    assert {
        "APP_ENVIRONMENT": "dev",
        "APP_DATABASE_HOST": "db.example.org",
        "APP_DATABASE_PORT": "5433",
        "APP_DATABASE_NAME": "registrations",
        "APP_DATABASE_SECRET_ARN": SECRET,
        "APP_DATABASE_SSLMODE": "require",
    } == template.one("Lambda::Function")["Environment"]["Variables"]
    assert reads([SECRET], KEY) == [plain(statement) for statement in statements_of(template, "ServiceRole")]
    ((service, _),) = template.all("EC2::SecurityGroup").items()
    assert {
        (f"{{{service}.GroupId}}", "sg-12345678", 5433),
        (f"{{{service}.GroupId}}", "sg-87654321", 443),
    } == ways(template, "Egress")


def test_a_cluster_of_rds_that_is_there_is_verified() -> None:
    """For its host the package ships the certificate."""
    existing = {**EXISTING["existing"], "host": "db.cluster-abc.eu-central-1.rds.amazonaws.com"}  # type: ignore[dict-item] # it is a table
    template = templates_of("dev", {**EXISTING, "existing": existing}).application

    assert template.one("Lambda::Function")["Environment"]["Variables"]["APP_DATABASE_SSLMODE"] == "verify-full"


def test_migrations_log_in_as_the_administrator_and_work_as_the_owner() -> None:
    """One at a time, for as long as Lambda lets them, with the address of the cluster itself."""
    template = templates_of("dev").database
    function = template.named("Lambda::Function", "Migrations")
    variables = {name: text_of(value) for name, value in function["Environment"]["Variables"].items()}

    assert ("registration-dev-migrate", "handler.handle", 900, 1) == (
        function["FunctionName"],
        function["Handler"],
        function["Timeout"],
        function["ReservedConcurrentExecutions"],
    )
    assert (["arm64"], "python3.13") == (function["Architectures"], function["Runtime"])
    assert variables.pop("APP_DATABASE_HOST").startswith("{AuroraCluster")
    assert variables.pop("APP_DATABASE_SECRET_ARN").startswith("{ClusterSecretAttachment")
    assert variables.pop("APP_DATABASE_APPLICATION_SECRET_ARN").startswith("{ApplicationSecretAttachment")
    assert {
        "APP_ENVIRONMENT": "dev",
        "APP_DATABASE_PORT": "5432",
        "APP_DATABASE_NAME": "registrations",
        "APP_DATABASE_SSLMODE": "verify-full",
        "APP_DATABASE_OWNER_ROLE": "registration_owner",
    } == variables
    assert (
        next(iter(template.all("RDS::DBInstance"))) in template.resource("Lambda::Function", "Migrations")["DependsOn"]
    )


@pytest.mark.parametrize("stack", ["database", "application"])
def test_functions_log_fields(stack: str) -> None:
    """As JSON from INFO on, so that the package's events can be searched by cause; into the group that ends."""
    template: Template = getattr(templates_of("dev"), stack)
    logging = template.one("Lambda::Function")["LoggingConfig"]

    assert ("JSON", "INFO") == (logging["LogFormat"], logging["ApplicationLogLevel"])
    assert text_of(logging["LogGroup"]).strip("{}") in template.all("Logs::LogGroup")


class Services(Stack):
    """A stack with functions of a team's own."""

    def __init__(self, *, changes: dict[str, Any] | None = None, outdir: Path | None = None) -> None:
        config = config_of("dev", changes)
        # The flag puts warnings into the report.
        flags = {"@aws-cdk/core:annotationsInValidationReport": True}
        self.app = App(outdir=None if outdir is None else str(outdir), context=flags)
        super().__init__(self.app, "Services", env=Environment(account=config.account, region=config.region))
        self.access = DatabaseAccess(self, "Database", config=config)

    def function(self, name: str, concurrency: int | None) -> lambda_.Function:
        """Return a function in the database's network."""
        return lambda_.Function(
            self,
            name,
            runtime=lambda_.Runtime.PYTHON_3_13,
            code=lambda_.Code.from_inline("def handle(event, context): ..."),
            handler="index.handle",
            vpc=self.access.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[*self.access.subnets]),
            allow_all_outbound=False,
            reserved_concurrent_executions=concurrency,
        )


def test_a_stack_of_ones_own_has_no_warning(tmp_path: Path) -> None:
    """`cdk synth --strict` would fail for one, and only this app's own checks would not see it."""
    stack = Services(outdir=tmp_path)
    stack.access.environment_for(stack.function("First", 1))
    stack.app.synth()

    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    assert [] == [one["ruleName"] for plugin in report["pluginReports"] for one in plugin["violations"]]


def test_functions_together_must_fit_into_the_connections() -> None:
    """189 at 1 ACU, less 17 in reserve: 172 fit, and one more stops synth with the sum."""
    stack = Services()
    stack.access.environment_for(stack.function("First", 100))
    stack.access.environment_for(stack.function("Second", 36), connections=2)

    with pytest.raises(InfraConfigError) as refused:
        stack.access.environment_for(stack.function("Third", 1))

    (problem,) = refused.value.problems
    assert problem == (
        "its functions may take Services/First 100 x 1 + Services/Second 36 x 2 + Services/Third 1 x 1 + PostgreSQL's "
        "own, for superusers 3 + Aurora's own, for rds_superuser 2 + the rotation of two secrets 2 + the migration 2 + "
        "a monitoring agent 3 + operators 5 = 190 connections: expected 189 or less, as 1 ACU allow no more"
    )
    assert refused.value.source == "the environment dev"


def test_the_functions_of_all_stacks_count() -> None:
    """Two stacks of one app have one database."""
    first = Services()
    first.access.environment_for(first.function("First", 100))
    second = DatabaseAccess(Stack(first.app, "Other"), "Database", config=config_of("dev"))

    with pytest.raises(InfraConfigError, match=r"Services/First 100 x 1 \+ Services/Second 100 x 1 \+"):
        second.environment_for(first.function("Second", 100))


def test_another_environment_of_the_app_has_connections_of_its_own() -> None:
    """What staging takes is not taken from dev."""
    stack = Services()
    stack.access.environment_for(stack.function("First", 100))
    other = Stack(stack.app, "Other")

    DatabaseAccess(other, "Database", config=config_of("staging")).environment_for(stack.function("Second", 100))


def test_a_function_without_a_limit_is_refused() -> None:
    """For nobody could say how many connections it takes."""
    stack = Services()

    with pytest.raises(InfraConfigError, match="Services/First has no reserved concurrency: expected one"):
        stack.access.environment_for(stack.function("First", None))


def test_behind_the_proxy_functions_may_be_many() -> None:
    """The proxy keeps the limit."""
    stack = Services(changes=PROXY)

    assert stack.access.environment_for(stack.function("First", None))["APP_DATABASE_POOL"] == "proxy"


def test_a_larger_cluster_lets_more_in() -> None:
    """823 at 4 ACU."""
    stack = Services(changes={"aurora": {"max_capacity": 4}})

    stack.access.environment_for(stack.function("First", 806))
    with pytest.raises(InfraConfigError, match=r"= 824 connections: expected 823 or less, as 4 ACU allow no more"):
        stack.access.environment_for(stack.function("Second", 1))


def test_allow_opens_the_way_and_gives_nothing_else() -> None:
    """For a function that brings its own credentials: two rules for each of the two, and no permission."""
    stack = Services()
    function = stack.function("First", 1)
    before = len(function.role.node.find_all()) if function.role else 0

    stack.access.allow(function)

    assert function.role is not None
    assert before == len(function.role.node.find_all())
    kinds = [one.cfn_resource_type for one in stack.node.find_all() if hasattr(one, "cfn_resource_type")]
    assert (2, 2) == (kinds.count("AWS::EC2::SecurityGroupIngress"), kinds.count("AWS::EC2::SecurityGroupEgress"))


def test_without_the_group_of_an_endpoint_there_is_a_way_to_it_all_the_same() -> None:
    """A VPC that is there has one somewhere, or a way out; the file need not say where."""
    network = {key: value for key, value in THERE.items() if key != "secrets_endpoint_security_group_id"}
    changes = {**EXISTING, "network": network}
    template = templates_of("dev", changes).application

    (group,) = template.all("EC2::SecurityGroup").values()
    assert ("0.0.0.0/0", 443) in {(rule["CidrIp"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]}


def test_datadog_traces_the_service_where_the_file_has_it() -> None:
    """Its layers wrap the handler, its key may be read, statements are marked with the service alone."""
    template = templates_of("prod", DATADOG).application
    function = template.one("Lambda::Function")
    variables = function["Environment"]["Variables"]

    assert function["Handler"] == "datadog_lambda.handler.handler"
    assert ("handler.handle", "datadoghq.eu", "prod", "registration-prod", "service", SECRET) == tuple(
        variables[name]
        for name in (
            "DD_LAMBDA_HANDLER",
            "DD_SITE",
            "DD_ENV",
            "DD_SERVICE",
            "DD_DBM_PROPAGATION_MODE",
            "DD_API_KEY_SECRET_ARN",
        )
    )
    assert 3 == len(function["Layers"])
    assert SECRET in str(statements_of(template, "ServiceRole"))
    assert "DD_SITE" not in str(templates_of("prod").application.body)
