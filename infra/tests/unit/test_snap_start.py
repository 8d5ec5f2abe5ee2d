"""`registration_infra.constructs.snap_start`: functions that start from a snapshot, and the alias of their callers."""

from collections.abc import Mapping
from typing import Any

import pytest
from aws_cdk import App, Duration, Environment, Size, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_efs as efs
from aws_cdk import aws_lambda as lambda_
from registration_infra import InfraConfigError
from registration_infra.constructs.database_access import DatabaseAccess
from templates import EXISTING, SNAP_START, VARIANTS, Template, config_of, templates_of

DESCRIPTION_CHARACTERS = 256
# The longest values in an account with AWS's longest region, in the order of the description.
LONGEST = (
    "registration-staging.cluster-ro-abcdefghijkl.ap-southeast-1.rds.amazonaws.com",
    "verify-full",
    ",".join([f"subnet-{'0' * 17}"] * 4),
    "registration/staging/application-AbCdEf",
)


def parameters_of(value: Any) -> list[str]:
    """Return the logical ids of the parameters in a value of a template, in their order."""
    match value:
        case {"Ref": name}:
            return [str(name)]
        case {"Fn::GetAtt": _} | str() | int():
            return []
        case dict():
            return [name for each in value.values() for name in parameters_of(each)]
        case _:
            return [name for each in value for name in parameters_of(each)]


def version(template: Template) -> str:
    """Return the logical id of the only version."""
    ((name, _),) = template.all("Lambda::Version").items()
    return name


def application(changes: Mapping[str, Any]) -> Template:
    """Return the template of a service on an existing database, with SnapStart and *changes* to its keys."""
    return templates_of("dev", {**EXISTING, "application": {**SNAP_START["application"], **changes}}).application


def test_the_alias_leads_to_a_version_with_a_snapshot() -> None:
    """The output for callers names the alias, because a call without it does not start from a snapshot."""
    template = templates_of("dev", SNAP_START).application
    ((function, properties),) = template.all("Lambda::Function").items()
    ((alias, target),) = template.all("Lambda::Alias").items()

    assert properties["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert template.one("Lambda::Version")["FunctionName"] == {"Ref": function}
    assert target["Name"] == "live"
    assert target["FunctionName"] == {"Ref": function}
    assert target["FunctionVersion"] == {"Fn::GetAtt": [version(template), "Version"]}
    output = template.body["Outputs"]["FunctionName"]["Value"]
    assert [alias] == parameters_of(output)
    assert ":live" in str(output)


def test_without_the_key_nothing_is_published() -> None:
    """Callers invoke the function itself, and no function of the administrator starts from a snapshot."""
    template = templates_of("dev").application
    ((function, properties),) = template.all("Lambda::Function").items()

    assert "SnapStart" not in properties
    assert not {*template.all("Lambda::Version"), *template.all("Lambda::Alias")}
    assert template.body["Outputs"]["FunctionName"]["Value"] == {"Ref": function}
    database = templates_of("dev", SNAP_START).database
    assert not [one for one in database.all("Lambda::Function").values() if "SnapStart" in one]


def test_a_change_of_the_function_publishes_a_version() -> None:
    """The logical id of the version is new after a change of the code or of a variable, and only then."""
    before = version(application({}))

    assert version(application({"tls_groups": "P-256"})) != before
    assert version(application({"reserved_concurrency": 20})) == before


def test_a_change_of_a_parameter_publishes_a_version() -> None:
    """The template stays the same then, but CloudFormation replaces a version whose description changes."""
    template = templates_of("dev", SNAP_START).application
    names = {name: one["Default"].rpartition("/")[2] for name, one in template.body["Parameters"].items()}
    description = template.one("Lambda::Version")["Description"]
    variables = template.one("Lambda::Function")["Environment"]["Variables"]
    # These change only together with the others, or are the same in each environment.
    constant = {"port", "name"}

    described = [names[each] for each in parameters_of(description)]
    assert described == ["host", "sslmode", "subnet_ids", "secret_arn"]
    # The secret of the pages belongs to the stack itself.
    assert {names[each] for each in parameters_of(variables) if each in names} - constant <= {*described}
    assert len(" ".join(LONGEST)) <= DESCRIPTION_CHARACTERS
    assert "Description" not in application({}).one("Lambda::Version")


def test_a_login_with_iam_describes_no_secret() -> None:
    """Behind a proxy with IAM, the function depends on the host, the mode and the subnets."""
    template = templates_of(*VARIANTS["iam proxy"]).application
    names = {name: one["Default"].rpartition("/")[2] for name, one in template.body["Parameters"].items()}

    described = [names[each] for each in parameters_of(template.one("Lambda::Version")["Description"])]
    assert described == ["host", "sslmode", "subnet_ids"]


class Services(Stack):
    """A stack of another team, on an existing database with SnapStart."""

    def __init__(self, *, snap_start: bool = True) -> None:
        config = config_of("dev", {**EXISTING, "application": {"snap_start": snap_start}})
        super().__init__(App(), "Services", env=Environment(account=config.account, region=config.region))
        self.access = DatabaseAccess(self, "Database", config=config)
        assert self.access.vpc is not None
        self.common: dict[str, Any] = {
            "vpc": self.access.vpc,
            "vpc_subnets": ec2.SubnetSelection(subnets=[*self.access.subnets]),
            "allow_all_outbound": False,
            "reserved_concurrent_executions": 1,
        }

    def function(self, **changes: Any) -> lambda_.Function:
        """Return a function in the network of the database."""
        code = lambda_.Code.from_inline("def handle(event, context): ...")
        defaults = {"runtime": lambda_.Runtime.PYTHON_3_12, "code": code, "handler": "index.handle", **self.common}
        return lambda_.Function(self, "Function", **{**defaults, **changes})


@pytest.mark.parametrize("snap_start", [True, False])
def test_event_sources_invoke_the_target(*, snap_start: bool) -> None:
    """The mapping of an event source leads to the alias, or without the key to the function."""
    stack = Services(snap_start=snap_start)
    function = stack.function()
    stack.access.environment_for(function)

    target = stack.access.invocation_target(function)

    assert isinstance(target, lambda_.Alias) is snap_start
    assert (target is function) is not snap_start
    queue = "arn:aws:sqs:eu-central-1:123456789012:mails"
    mapping = target.add_event_source_mapping("Queue", event_source_arn=queue).node.default_child
    assert isinstance(mapping, lambda_.CfnEventSourceMapping)
    assert (":live" in str(stack.resolve(mapping.function_name))) is snap_start


def refused(stack: Services, function: lambda_.Function) -> list[str]:
    """Return the problems of *function* if it is given access to the database."""
    with pytest.raises(InfraConfigError) as error:
        stack.access.environment_for(function)
    assert error.value.source == f"the function {function.node.path}"
    return [*error.value.problems]


def test_an_older_runtime_is_refused() -> None:
    """SnapStart needs Python 3.12; all reasons against it are in one error."""
    stack = Services()
    function = stack.function(
        runtime=lambda_.Runtime.PYTHON_3_11,
        ephemeral_storage_size=Size.mebibytes(1024),
        current_version_options=lambda_.VersionOptions(provisioned_concurrent_executions=1),
    )

    assert refused(stack, function) == [
        "its runtime is python3.11: expected python3.12 or later if application.snap_start is true",
        "its ephemeral storage is 1024 MiB: expected 512 or less if application.snap_start is true",
        "its version has provisioned concurrency: expected none if application.snap_start is true",
    ]


def test_storage_at_the_limit_is_accepted() -> None:
    """512 MiB of ephemeral storage are Lambda's default."""
    stack = Services()
    function = stack.function(ephemeral_storage_size=Size.mebibytes(512), timeout=Duration.seconds(5))

    assert stack.access.environment_for(function)["APP_DATABASE_HOST"] == "db.example.org"


def test_a_container_image_is_refused() -> None:
    """Nothing says whether an image has a version of Python that calls the hooks of the package."""
    stack = Services()
    repository = ecr.Repository.from_repository_name(stack, "Repository", "sign-up")
    code = lambda_.DockerImageCode.from_ecr(repository)
    function = lambda_.DockerImageFunction(stack, "Image", code=code, **stack.common)

    (problem,) = refused(stack, function)
    assert problem == (
        "its code is a container image with an unknown Python version: "
        "expected a ZIP archive if application.snap_start is true"
    )


def test_a_file_system_is_refused() -> None:
    """A file system cannot be mounted in a snapshot."""
    stack = Services()
    assert stack.access.vpc is not None
    group = ec2.SecurityGroup.from_security_group_id(stack, "Group", "sg-12345678")
    disk = efs.FileSystem.from_file_system_attributes(stack, "Disk", file_system_id="fs-1", security_group=group)
    point = efs.AccessPoint(stack, "Point", file_system=disk)
    function = stack.function(filesystem=lambda_.FileSystem.from_efs_access_point(point, "/mnt/files"))

    assert refused(stack, function) == ["it has a file system (EFS): expected none if application.snap_start is true"]
