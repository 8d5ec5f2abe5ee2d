"""The policies of `deploy_role/`: enough for every template of this app, and no way to become an administrator."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from deploy_role import build_app
from policy_evaluation import Request, allows, as_list, resolved
from registration_infra.deploy_policies import EXECUTION_POLICIES, FOLDER, execution_policy_arns
from templates import VARIANTS, Template, config_of, templates_of, text_of

ACCOUNT, REGION = "333333333333", "eu-central-1"
REPOSITORY = "example/registrations"
IAM_POLICY_CHARACTERS = 6144
UNUSED = Path(__file__).with_name("unused_permissions.toml")
IN_REGION = {"aws:RequestedRegion": REGION}
IAM = f"arn:aws:iam::{ACCOUNT}"
BOUNDARY = f"{IAM}:policy/registration-prod-boundary"
OWN_ROLE = f"{IAM}:role/registration-prod-database-MigrationsFunctionRole-1ABC"
BACKUPS = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
# Their `sub` is compared with `repo:example/registrations:environment:prod`.
FOREIGN_SUBJECTS = (
    "repo:example/registrations:environment:dev",
    "repo:example/registrations:ref:refs/heads/main",
    "repo:example/registrations:pull_request",
    "repo:attacker/registrations:environment:prod",
    "repo:example/registrations-2:environment:prod",
    "repo:example/registrations:environment:prod2",
    "repo:EXAMPLE/registrations:environment:prod",
    "",
)


@cache
def deploy_role(**changes: Any) -> Template:
    """Return the template of the deploy role of production, with *changes* to its file."""
    with TemporaryDirectory() as folder:
        build_app(config_of("prod", {"github_repository": REPOSITORY, **changes}), outdir=Path(folder)).synth()
        return Template(json.loads(Path(folder, "registration-prod-deploy-role.template.json").read_text("utf-8")))


def policy(name: str) -> list[dict[str, Any]]:
    """Return the statements of one managed policy of production."""
    (document,) = (
        each["PolicyDocument"]
        for each in deploy_role().all("IAM::ManagedPolicy").values()
        if each["ManagedPolicyName"] == name
    )
    statements = document["Statement"]
    assert isinstance(statements, list)
    return statements


def execution() -> list[dict[str, Any]]:
    """Return the statements of all policies that limit CloudFormation."""
    return [each for name in EXECUTION_POLICIES for each in policy(f"registration-prod-execution-{name}")]


def may(action: str, resource: str = "*", **context: str) -> bool:
    """Return whether CloudFormation may perform *action*; `boundary` stands for its condition key."""
    named = {"boundary": "iam:PermissionsBoundary", "policy": "iam:PolicyARN", "service": "iam:PassedToService"}
    keys = {named[name]: value for name, value in context.items()}
    return allows(execution(), Request(action=action, resource=resource, context=IN_REGION | keys))


def deployed_types() -> set[str]:
    """Return the types of all resources in all templates."""
    return {
        resource["Type"]
        for name, changes in VARIANTS.values()
        for template in templates_of(name, changes).stacks.values()
        for resource in template.body["Resources"].values()
    }


def needed(kind: str) -> Iterator[str]:
    """Yield the permissions that CloudFormation's schema of the resource type *kind* lists."""
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema.get("handlers", {})
    for operation in ("create", "read", "update", "delete"):
        yield from handlers.get(operation, {}).get("permissions", [])


def test_cloudformation_may_do_all_that_the_templates_need() -> None:
    """Each permission that a resource type of a template needs is allowed, or listed as unused with a reason."""
    allowed = {action for statement in execution() for action in as_list(statement["Action"])}
    listed = tomllib.loads(UNUSED.read_text(encoding="utf-8"))["unused"]
    unused = {action for entry in listed for action in entry["actions"]}
    needs = {action for kind in deployed_types() for action in needed(kind)}

    assert all(entry["reason"].endswith(".") for entry in listed)
    assert needs - allowed == unused - allowed == unused
    # The permissions of functions and of `AWS::Lambda::Permission`, which has no schema with permissions, and those
    # that API Gateway documents for access logs.
    assert allowed - needs <= {
        *("lambda:AddPermission", "lambda:GetPolicy", "lambda:RemovePermission"),
        *("logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:UpdateLogDelivery"),
    }


def test_no_action_has_a_wildcard() -> None:
    """No policy allows all actions of a service, and each fits into a managed policy."""
    for name in ("boundary", *(f"execution-{each}" for each in EXECUTION_POLICIES)):
        statements = policy(f"registration-prod-{name}")
        assert not [action for each in statements for action in as_list(each["Action"]) if "*" in action]
        assert {each["Effect"] for each in statements} == {"Allow"}
        assert len(json.dumps(statements, separators=(",", ":"))) < IAM_POLICY_CHARACTERS - 100
    for statement in execution():
        assert statement["Resource"] != "*" or "aws:RequestedRegion" in str(statement["Condition"])


@pytest.mark.parametrize(
    "action",
    [
        *("iam:CreateUser", "iam:CreateAccessKey", "iam:CreateLoginProfile", "iam:AddUserToGroup", "iam:PutUserPolicy"),
        *("iam:AttachUserPolicy", "iam:AttachGroupPolicy", "iam:CreatePolicy", "iam:CreatePolicyVersion"),
        *(
            "iam:SetDefaultPolicyVersion",
            "iam:DeleteRolePermissionsBoundary",
            "iam:UpdateOpenIDConnectProviderThumbprint",
        ),
        *(
            "iam:CreateOpenIDConnectProvider",
            "iam:CreateInstanceProfile",
            "sts:AssumeRole",
            "organizations:LeaveOrganization",
        ),
        *("cloudtrail:StopLogging", "ec2:RunInstances", "s3:PutBucketPolicy", "lambda:UpdateEventSourceMapping"),
    ],
)
def test_cloudformation_cannot_become_an_administrator(action: str) -> None:
    """It may create no user, key or policy, remove no boundary, and assume no role."""
    for resource in ("*", f"{IAM}:user/anybody", OWN_ROLE, BOUNDARY, f"{IAM}:role/Administrator"):
        assert not may(action, resource, boundary=BOUNDARY), resource


def test_roles_have_the_boundary() -> None:
    """A role is created and changed only with the boundary, and only the policy of AWS Backup is attached to it."""
    administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"):
        assert may(action, OWN_ROLE, boundary=BOUNDARY)
        assert not may(action, OWN_ROLE), action
        assert not may(action, OWN_ROLE, boundary=administrator), action
        assert not may(action, f"{IAM}:role/deploy-registration-prod", boundary=BOUNDARY), action
    assert may("iam:AttachRolePolicy", OWN_ROLE, boundary=BOUNDARY, policy=BACKUPS)
    assert not may("iam:AttachRolePolicy", OWN_ROLE, boundary=BOUNDARY, policy=administrator)
    assert not may("iam:AttachRolePolicy", OWN_ROLE, policy=BACKUPS)


@pytest.mark.parametrize(
    "role", ["deploy-registration-prod", "cdk-hnb659fds-cfn-exec-role-333333333333-eu-central-1", "Administrator"]
)
def test_other_roles_are_out_of_reach(role: str) -> None:
    """CloudFormation may neither change nor pass a role of the deployment or of anybody else."""
    arn = f"{IAM}:role/{role}"
    for action in ("iam:UpdateAssumeRolePolicy", "iam:DeleteRole", "iam:TagRole"):
        assert may(action, OWN_ROLE)
        assert not may(action, arn), action
    assert may("iam:PassRole", OWN_ROLE, service="lambda.amazonaws.com")
    assert not may("iam:PassRole", arn, service="lambda.amazonaws.com")
    assert not may("iam:PassRole", OWN_ROLE, service="ec2.amazonaws.com")


def test_functions_may_have_layers_of_aws_and_datadog() -> None:
    """The layers are in accounts of others, and are named; any other layer is out of reach."""
    start = f"arn:aws:lambda:{REGION}:187925254637:layer"

    for extension in ("AWS-Parameters-and-Secrets-Lambda-Extension:4", "Datadog-Extension-ARM:90"):
        assert may("lambda:GetLayerVersion", f"{start}:{extension}"), extension
    assert may("lambda:GetLayerVersion", f"{start}:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:4")
    assert not may("lambda:GetLayerVersion", f"{start}:Another:4")


def test_other_databases_and_secrets_are_out_of_reach() -> None:
    """CloudFormation reads, changes and deletes only resources with the names of the environment."""
    for action, start, own, foreign in (
        ("rds:DeleteDBCluster", "rds", "cluster:registration-prod", "cluster:billing"),
        (
            "secretsmanager:GetSecretValue",
            "secretsmanager",
            "secret:registration/prod/cluster-AbCdEf",
            "secret:billing",
        ),
        ("lambda:UpdateFunctionCode", "lambda", "function:registration-prod-migrate", "function:billing"),
        ("logs:DeleteLogGroup", "logs", "log-group:/vpc/registration-prod", "log-group:/vpc/billing"),
        ("ssm:PutParameter", "ssm", "parameter/registration/prod/database/host", "parameter/registration/dev/host"),
        ("sns:DeleteTopic", "sns", "registration-prod-database", "billing"),
    ):
        for name, expected in ((own, True), (foreign, False)):
            assert may(action, f"arn:aws:{start}:{REGION}:{ACCOUNT}:{name}") is expected, name


@pytest.mark.parametrize(
    ("variant", "stack"),
    [
        *(("everything", "database"), ("everything", "application"), ("proxy", "database")),
        *(("iam proxy", "database"), ("iam proxy", "application"), ("express", "application")),
        ("everything", "restore_testing"),
    ],
)
def test_boundary_allows_what_the_roles_need(variant: str, stack: str) -> None:
    """Each role of a template has the boundary, which allows each statement of its policies."""
    name, changes = VARIANTS[variant]
    template: Template = getattr(templates_of(name, changes), stack)
    names = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::Partition": "aws"}
    via = {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}

    for role in template.all("IAM::Role").values():
        assert text_of(resolved(role["PermissionsBoundary"], names)).endswith(f":policy/registration-{name}-boundary")
    for each in template.all("IAM::Policy").values():
        for statement in each["PolicyDocument"]["Statement"]:
            for action in as_list(statement["Action"]):
                allowed = {one for own in policy("registration-prod-boundary") for one in as_list(own["Action"])}
                assert action in allowed
    assert allows(policy("registration-prod-boundary"), Request(action="kms:Decrypt", resource="key", context=via))
    assert not allows(policy("registration-prod-boundary"), Request(action="kms:Decrypt", resource="key"))
    assert not allows(policy("registration-prod-boundary"), Request(action="iam:CreateUser", resource="*"))


def test_only_workflows_of_the_environment_assume_the_role() -> None:
    """The token must be for AWS, and of this repository and this environment exactly."""
    template = deploy_role()
    trust = template.one("IAM::Role")["AssumeRolePolicyDocument"]["Statement"]
    provider = f"{IAM}:oidc-provider/token.actions.githubusercontent.com"

    def trusts(subject: str, audience: str = "sts.amazonaws.com", principal: str = provider) -> bool:
        start = "token.actions.githubusercontent.com"
        context = {f"{start}:aud": audience, f"{start}:sub": subject}
        return allows(trust, Request(action="sts:AssumeRoleWithWebIdentity", principal=principal, context=context))

    own = f"repo:{REPOSITORY}:environment:prod"
    assert trusts(own)
    assert not [subject for subject in FOREIGN_SUBJECTS if trusts(subject)]
    assert not trusts(own, audience="sigstore")
    assert not trusts(own, principal=f"{IAM}:oidc-provider/gitlab.com")
    assert not allows(trust, Request(action="sts:AssumeRole", principal=f"{IAM}:root"))
    assert template.one("IAM::Role")["RoleName"] == "deploy-registration-prod"


def test_role_may_only_deploy_and_migrate() -> None:
    """It assumes the two roles of the CDK that a deployment needs, and invokes the migration function."""
    ((statements,),) = ([each["PolicyDocument"]["Statement"]] for each in deploy_role().one("IAM::Role")["Policies"])
    cdk = f"{IAM}:role/cdk-hnb659fds-{{}}-role-{ACCOUNT}-{REGION}"
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:registration-{{}}"

    assert {action for each in statements for action in as_list(each["Action"])} == {
        "sts:AssumeRole",
        "lambda:InvokeFunction",
    }
    for action, resource, expected in (
        ("sts:AssumeRole", cdk.format("deploy"), True),
        ("sts:AssumeRole", cdk.format("file-publishing"), True),
        ("sts:AssumeRole", cdk.format("cfn-exec"), False),
        ("sts:AssumeRole", cdk.format("lookup"), False),
        ("sts:AssumeRole", OWN_ROLE, False),
        ("lambda:InvokeFunction", function.format("prod-migrate"), True),
        ("lambda:InvokeFunction", function.format("prod-service"), False),
        ("lambda:InvokeFunction", function.format("dev-migrate"), False),
        ("lambda:UpdateFunctionCode", function.format("prod-migrate"), False),
    ):
        assert allows(statements, Request(action=action, resource=resource)) is expected, resource


def test_without_a_repository_there_is_no_role() -> None:
    """An environment that no workflow deploys has the policies only."""
    with TemporaryDirectory() as folder:
        build_app(config_of("prod"), outdir=Path(folder)).synth()
        template = Template(json.loads(Path(folder, "registration-prod-deploy-role.template.json").read_text("utf-8")))

    assert template.all("IAM::Role") == {}
    assert {f"{IAM}:policy/{each['ManagedPolicyName']}" for each in template.all("IAM::ManagedPolicy").values()} == {
        BOUNDARY,
        *execution_policy_arns(config_of("prod")),
    }


def test_every_file_is_used() -> None:
    """The folder contains the trust, the permissions, the boundary and the execution policies, all as valid JSON."""
    files: Mapping[str, Any] = {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}

    assert files.keys() == {
        *("trust_policy", "permissions_policy", "boundary_policy"),
        *(f"execution_policy_{name.replace('-', '_')}" for name in EXECUTION_POLICIES),
    }
