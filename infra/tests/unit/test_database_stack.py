"""`registration_infra.stacks.database`: outputs, parameters and protection of the stack."""

import pytest
from app import build_app
from aws_cdk import Stack
from registration_infra.parameters import published_parameters
from templates import config_of, templates_of, text_of


def test_database_publishes_its_settings() -> None:
    """The stack publishes them as outputs, described by the name of the variable, and as SSM parameters."""
    template = templates_of("dev").database
    outputs = {
        one["Description"]: text_of(one["Value"]) for one in template.body["Outputs"].values() if "Description" in one
    }
    parameters = {one["Name"]: text_of(one["Value"]) for one in template.all("SSM::Parameter").values()}

    aurora = config_of("dev").aurora
    assert aurora is not None
    assert {f"/registration/dev/database/{name}" for name in published_parameters(aurora)} == parameters.keys()
    assert {
        f"APP_DATABASE_{name.upper()}": parameters[f"/registration/dev/database/{name}"]
        for name in ("host", "port", "name", "secret_arn", "sslmode")
    } == outputs
    assert {"5432", "registrations", "verify-full"} < set(outputs.values())
    assert outputs["APP_DATABASE_HOST"].startswith("{AuroraCluster")
    assert outputs["APP_DATABASE_SECRET_ARN"].startswith("{ApplicationSecret")
    assert template.body["Outputs"]["MigrateFunctionName"]["Value"]["Ref"].startswith("Migrations")


@pytest.mark.parametrize(("name", "protected"), [("dev", False), ("staging", True), ("prod", True)])
def test_deletion_protection(name: str, protected: bool) -> None:  # noqa: FBT001 a parameter of the table
    """`deletion_protection` protects both the cluster and the stack."""
    assert protected is templates_of(name).database.one("RDS::DBCluster")["DeletionProtection"]
    (stack,) = (
        one
        for one in build_app(config_of(name), require_layer=False).node.children
        if one.node.id.endswith("-database")
    )
    assert isinstance(stack, Stack)
    assert protected is stack.termination_protection


def test_application_depends_on_the_database() -> None:
    """The application is deleted first, because its interfaces and rules use the groups and subnets of the database."""
    app = build_app(config_of("dev"), require_layer=False, run_checks=False)
    stacks = {stack.node.id: stack for stack in app.node.children if isinstance(stack, Stack)}

    assert ["registration-dev-database"] == [
        each.node.id for each in stacks["registration-dev-application"].dependencies
    ]
