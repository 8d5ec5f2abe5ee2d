"""`registration_infra.constructs.secrets` and `.rotation`: the logins and their rotation."""

import json

import pytest
from templates import DATADOG, PROXY, VARIANTS, Template, templates_of, text_of

FORBIDDEN = set("'\"@/\\ ")


def schedule(template: Template, secret: str) -> dict[str, object]:
    """Return the rotation schedule of the secret whose logical id starts with *secret*."""
    (found,) = (
        one
        for one in template.all("SecretsManager::RotationSchedule").values()
        if text_of(one["SecretId"]).startswith("{" + secret)
    )
    return found


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_secrets_of_cluster_and_application(name: str) -> None:
    """Each secret has its own login, a generated password, and the setting that makes the rotation use TLS."""
    template = templates_of(name).database
    secrets = {one["Name"]: one["GenerateSecretString"] for one in template.all("SecretsManager::Secret").values()}

    assert {f"registration/{name}/cluster", f"registration/{name}/application"} == secrets.keys()
    logins = {}
    for secret, generated in secrets.items():
        assert (32, "password") == (generated["PasswordLength"], generated["GenerateStringKey"])
        assert set(generated["ExcludeCharacters"]) >= FORBIDDEN
        logins[secret.rpartition("/")[2]] = json.loads(text_of(generated["SecretStringTemplate"]))
    master = logins["application"].pop("masterarn")
    assert {
        "cluster": {"username": "registration_admin", "ssl": True},
        "application": {"username": "registration_app", "ssl": True},
    } == logins
    assert master.startswith("{ClusterSecretAttachment")
    assert len(template.all("SecretsManager::SecretTargetAttachment")) == 2


def test_template_contains_no_password() -> None:
    """CloudFormation reads the login of the cluster from its secret."""
    cluster = templates_of("dev").database.one("RDS::DBCluster")

    assert text_of(cluster["MasterUserPassword"]).startswith("{{resolve:secretsmanager:{ClusterSecret")
    assert text_of(cluster["MasterUsername"]).startswith("{{resolve:secretsmanager:{ClusterSecret")


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_passwords_rotate_every_thirty_days(name: str) -> None:
    """The application alternates between two users; the deployment itself starts no rotation."""
    template = templates_of(name).database
    assert template.body["Transform"] == ["AWS::SecretsManager-2024-09-16"]

    for secret, kind in (("ClusterSecret", "PostgreSQLSingleUser"), ("ApplicationSecret", "PostgreSQLMultiUser")):
        rotation = schedule(template, secret)
        hosted = rotation["HostedRotationLambda"]
        assert isinstance(hosted, dict)
        assert {"ScheduleExpression": "rate(30 days)"} == rotation["RotationRules"]
        assert rotation["RotateImmediatelyOnUpdate"] is False
        assert kind == hosted["RotationType"]
        assert set(hosted["ExcludeCharacters"]) >= FORBIDDEN
        assert text_of(hosted["KmsKeyArn"]).startswith("{Key")
        subnets = {f"{{{logical_id}}}" for logical_id in template.all("EC2::Subnet")}
        assert subnets == set(text_of(hosted["VpcSubnetIds"]).split(","))
        assert text_of(hosted["VpcSecurityGroupIds"]).startswith("{RotationSecurityGroup")
        group = template.named("Logs::LogGroup", f"Rotation{secret.removesuffix('Secret')}Logs")
        assert group["LogGroupName"] == f"/aws/lambda/{hosted['RotationLambdaName']}"
    hosted = schedule(template, "ApplicationSecret")["HostedRotationLambda"]
    assert isinstance(hosted, dict)
    assert text_of(hosted["MasterSecretArn"]).startswith("{ClusterSecretAttachment")


@pytest.mark.parametrize("variant", ["everything", "proxy", "existing VPC"])
def test_rotation_waits_for_all_that_it_needs(variant: str) -> None:
    """The first test of a rotation logs in, so instances, endpoint and security group rules exist before it."""
    template = templates_of(*VARIANTS[variant]).database
    rules = [
        name
        for kind in ("Ingress", "Egress")
        for name, rule in template.all(f"EC2::SecurityGroup{kind}").items()
        if "{RotationSecurityGroup" in f"{text_of(rule['GroupId'])} {text_of(rule.get('SourceSecurityGroupId'))}"
    ]
    assert len(rules) == 4
    needed = {
        *rules,
        *template.all("RDS::DBInstance"),
        *template.all("EC2::VPCEndpoint"),
        *(name for name in template.all("Logs::LogGroup") if name.startswith("Rotation")),
    }
    waiting = [
        resource
        for kind in ("RotationSchedule", "SecretTargetAttachment")
        for resource in template.body["Resources"].values()
        if resource["Type"] == f"AWS::SecretsManager::{kind}"
    ]

    assert len(waiting) == (5 if variant == "everything" else 4)
    assert len(template.all("EC2::VPCEndpoint")) == (variant != "existing VPC")
    for resource in waiting:
        assert needed <= set(resource["DependsOn"])


def test_single_user_rotation() -> None:
    """With rotation `single`, one user rotates, at the interval of the file."""
    template = templates_of("staging", {"aurora": {**PROXY["aurora"], "rotation_days": 7}}).database
    rotation = schedule(template, "ApplicationSecret")

    assert {"ScheduleExpression": "rate(7 days)"} == rotation["RotationRules"]
    hosted = rotation["HostedRotationLambda"]
    assert isinstance(hosted, dict)
    assert hosted["RotationType"] == "PostgreSQLSingleUser"
    assert "MasterSecretArn" not in hosted


def test_datadog_agent_has_a_secret() -> None:
    """With Database Monitoring, the migrations get a third secret, which does not rotate."""
    template = templates_of("prod", DATADOG).database
    without = templates_of(
        "prod", {**DATADOG, "datadog": {**DATADOG["datadog"], "database_monitoring": False}}
    ).database

    secret = template.named("SecretsManager::Secret", "MonitoringSecret")
    assert secret["Name"] == "registration/prod/monitoring"
    assert json.loads(text_of(secret["GenerateSecretString"]["SecretStringTemplate"])) == {
        "username": "datadog",
        "ssl": True,
    }
    variables = template.named("Lambda::Function", "Migrations")["Environment"]["Variables"]
    assert text_of(variables["APP_DATABASE_MONITORING_SECRET_ARN"]).startswith("{MonitoringSecretAttachment")
    assert len(template.all("SecretsManager::RotationSchedule")) == 2
    assert len(without.all("SecretsManager::Secret")) == 2
    assert "APP_DATABASE_MONITORING_SECRET_ARN" not in str(without.body)
