"""`registration_infra.constructs.database_access`: the access of functions to the database."""

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Environment, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from policies import connections, granted, parameter, plain, secret_statements
from registration_infra import InfraConfigError
from registration_infra.constructs.database_access import DatabaseAccess
from templates import EVERYTHING, EXISTING, EXISTING_NETWORK, KEY, PROXY, SECRET, config_of, templates_of, text_of

from registration_persistence import DatabaseSettings


def test_environment_comes_from_the_parameters() -> None:
    """Each variable has the value of its parameter, so the application stack does not depend on another stack."""
    template = templates_of("dev").application
    variables = template.one("Lambda::Function")["Environment"]["Variables"]

    assert {
        "APP_ENVIRONMENT": "dev",
        "APP_DATABASE_HOST": parameter(template, "host"),
        "APP_DATABASE_PORT": parameter(template, "port"),
        "APP_DATABASE_NAME": parameter(template, "name"),
        "APP_DATABASE_SECRET_ARN": parameter(template, "secret_arn"),
        "APP_DATABASE_SSLMODE": parameter(template, "sslmode"),
    } == {name: text_of(value) for name, value in variables.items() if not name.startswith("SIGNUP_")}
    assert "Fn::ImportValue" not in str(template.body)
    assert "Fn::GetStackOutput" not in str(template.body)
    assert {"AWS::SSM::Parameter::Value<String>"} == {one["Type"] for one in template.body["Parameters"].values()}


def test_existing_database_comes_from_the_file() -> None:
    """Without a database stack, the service has the values of the file, and access to that secret and group."""
    templates = templates_of("dev", EXISTING)
    template = templates.application
    variables = template.one("Lambda::Function")["Environment"]["Variables"]

    assert {"registration-dev-application"} == templates.stacks.keys()
    assert {
        "APP_ENVIRONMENT": "dev",
        "APP_DATABASE_HOST": "db.example.org",
        "APP_DATABASE_PORT": "5433",
        "APP_DATABASE_NAME": "registrations",
        "APP_DATABASE_SECRET_ARN": SECRET,
        "APP_DATABASE_SSLMODE": "require",
    } == {name: value for name, value in variables.items() if not name.startswith("SIGNUP_")}
    assert secret_statements([SECRET], KEY) == [plain(statement) for statement in granted(template, "ServiceRole")]
    ((service, _),) = template.all("EC2::SecurityGroup").items()
    assert {
        (f"{{{service}.GroupId}}", "sg-12345678", 5433),
        (f"{{{service}.GroupId}}", "sg-87654321", 443),
    } == connections(template, "Egress")


def test_certificate_of_an_existing_rds_cluster_is_verified() -> None:
    """The package contains the certificates for hosts of RDS, so the SSL mode is `verify-full`."""
    host = "db.cluster-abc.eu-central-1.rds.amazonaws.com"
    existing = {**EXISTING["existing"], "host": host, "sslmode": None}
    template = templates_of("dev", {**EXISTING, "existing": existing}).application

    variables = template.one("Lambda::Function")["Environment"]["Variables"]
    assert variables["APP_DATABASE_SSLMODE"] == "verify-full"
    assert "APP_DATABASE_POOL" not in variables


def test_another_existing_server_is_verified_with_the_file_in_the_function() -> None:
    """A server outside RDS is verified with `existing.ssl_root_cert`."""
    existing = {**EXISTING["existing"], "sslmode": None, "ssl_root_cert": "/var/task/root.pem"}
    template = templates_of("dev", {**EXISTING, "existing": existing}).application

    variables = template.one("Lambda::Function")["Environment"]["Variables"]
    assert ("verify-full", "/var/task/root.pem") == (
        variables["APP_DATABASE_SSLMODE"],
        variables["APP_DATABASE_SSL_ROOT_CERT"],
    )


def test_existing_proxy_with_a_managed_secret() -> None:
    """A function behind an existing RDS Proxy keeps no connections, and may read a secret given without its suffix."""
    secret = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!cluster-0b9e4c1a-2c34-4bd8-9c1e-7a7a5b1e2f00"
    existing = {
        **EXISTING["existing"],
        "host": "db.proxy-abc.eu-central-1.rds.amazonaws.com",
        "sslmode": None,
        "secret_arn": secret,
    }
    template = templates_of("dev", {**EXISTING, "existing": existing}).application

    variables = template.one("Lambda::Function")["Environment"]["Variables"]
    assert ("proxy", "verify-full") == (variables["APP_DATABASE_POOL"], variables["APP_DATABASE_SSLMODE"])
    assert variables["APP_DATABASE_SECRET_ARN"] == secret
    read, _ = granted(template, "ServiceRole")
    assert [secret, f"{secret}-??????"] == read["Resource"]
    assert DatabaseSettings.from_env({**variables, "APP_DATABASE_SECRET_ARN": SECRET}).pool == "proxy"


def test_settings_of_tls_are_variables() -> None:
    """The service has the settings of the file; the functions of the administrator keep the defaults of libpq."""
    templates = templates_of("prod", EVERYTHING)
    variables = templates.application.one("Lambda::Function")["Environment"]["Variables"]
    names = {"APP_DATABASE_TLS_GROUPS", "APP_DATABASE_SSL_NEGOTIATION"}

    assert ["P-256:X25519", "direct"] == [variables[name] for name in sorted(names, reverse=True)]
    functions = templates.database.all("Lambda::Function").values()
    assert len(functions) == 3
    assert not [one for one in functions if names & one["Environment"]["Variables"].keys()]


class Services(Stack):
    """A stack of another team."""

    def __init__(self, *, changes: dict[str, Any] | None = None, outdir: Path | None = None) -> None:
        config = config_of("dev", changes)
        # The flag adds warnings to the report.
        flags = {"@aws-cdk/core:annotationsInValidationReport": True}
        self.app = App(outdir=None if outdir is None else str(outdir), context=flags)
        super().__init__(self.app, "Services", env=Environment(account=config.account, region=config.region))
        self.access = DatabaseAccess(self, "Database", config=config)

    def function(self, name: str, concurrency: int | None) -> lambda_.Function:
        """Return a function in the network of the database."""
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


def test_another_stack_has_no_warning(tmp_path: Path) -> None:
    """A warning would fail `cdk synth --strict` of another app."""
    stack = Services(outdir=tmp_path)
    stack.access.environment_for(stack.function("First", 1))
    stack.app.synth()

    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    assert [] == [one["ruleName"] for plugin in report["pluginReports"] for one in plugin["violations"]]


def test_all_functions_must_fit_into_the_connections() -> None:
    """Of the 189 connections at 1 ACU, 17 are reserved: 172 fit, and one more is an error that shows the sum."""
    stack = Services()
    stack.access.environment_for(stack.function("First", 100))
    stack.access.environment_for(stack.function("Second", 36), connections=2)

    with pytest.raises(InfraConfigError) as refused:
        stack.access.environment_for(stack.function("Third", 1))

    (problem,) = refused.value.problems
    assert problem == (
        "its functions may open Services/First 100 x 1 + Services/Second 36 x 2 + Services/Third 1 x 1 + PostgreSQL's "
        "reserve for superusers 3 + Aurora's reserve for rds_superuser 2 + the rotation of two secrets 2 + the "
        "migration 2 + a monitoring agent 3 + operators 5 = 190 connections: expected at most 189, the limit at 1 ACU"
    )
    assert refused.value.source == "the environment dev"


def test_functions_of_all_stacks_count() -> None:
    """The functions of two stacks in one app share the connections of the database."""
    first = Services()
    first.access.environment_for(first.function("First", 100))
    second = DatabaseAccess(Stack(first.app, "Other"), "Database", config=config_of("dev"))

    with pytest.raises(InfraConfigError, match=r"Services/First 100 x 1 \+ Services/Second 100 x 1 \+"):
        second.environment_for(first.function("Second", 100))


def test_environments_do_not_share_connections() -> None:
    """The functions of staging do not count in dev."""
    stack = Services()
    stack.access.environment_for(stack.function("First", 100))
    other = Stack(stack.app, "Other")

    DatabaseAccess(other, "Database", config=config_of("staging")).environment_for(stack.function("Second", 100))


def test_function_without_reserved_concurrency_is_an_error() -> None:
    """Its number of connections would be unknown."""
    stack = Services()

    with pytest.raises(InfraConfigError, match="Services/First has no reserved concurrency: expected one"):
        stack.access.environment_for(stack.function("First", None))


def test_proxy_needs_no_reserved_concurrency() -> None:
    """The proxy enforces the limit of connections itself."""
    stack = Services(changes=PROXY)

    assert stack.access.environment_for(stack.function("First", None))["APP_DATABASE_POOL"] == "proxy"


def test_larger_cluster_allows_more_connections() -> None:
    """The limit is 823 at 4 ACU."""
    stack = Services(changes={"aurora": {"max_capacity": 4}})

    stack.access.environment_for(stack.function("First", 806))
    with pytest.raises(InfraConfigError, match=r"= 824 connections: expected at most 823, the limit at 4 ACU"):
        stack.access.environment_for(stack.function("Second", 1))


def test_allow_adds_only_security_group_rules() -> None:
    """`allow` adds an egress and an ingress rule each for database and endpoint, and no permission."""
    stack = Services()
    function = stack.function("First", 1)
    before = len(function.role.node.find_all()) if function.role else 0

    stack.access.allow(function)

    assert function.role is not None
    assert before == len(function.role.node.find_all())
    kinds = [one.cfn_resource_type for one in stack.node.find_all() if hasattr(one, "cfn_resource_type")]
    assert (2, 2) == (kinds.count("AWS::EC2::SecurityGroupIngress"), kinds.count("AWS::EC2::SecurityGroupEgress"))


def test_unknown_endpoint_allows_https() -> None:
    """If the file names no endpoint for Secrets Manager, the function may connect to port 443 of any address."""
    network = {key: value for key, value in EXISTING_NETWORK.items() if key != "secrets_endpoint_security_group_id"}
    changes = {**EXISTING, "network": network}
    template = templates_of("dev", changes).application

    (group,) = template.all("EC2::SecurityGroup").values()
    assert ("0.0.0.0/0", 443) in {(rule["CidrIp"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]}
