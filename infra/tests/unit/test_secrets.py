"""Who logs in, and how their passwords change."""

import json

import pytest
from templates import DATADOG, PROXY, Template, templates_of, text_of

FORBIDDEN = set("'\"@/\\ ")


def schedule(template: Template, secret: str) -> dict[str, object]:
    """Return the rotation of the secret whose logical id begins with *secret*."""
    (found,) = (
        one
        for one in template.all("SecretsManager::RotationSchedule").values()
        if text_of(one["SecretId"]).startswith("{" + secret)
    )
    return found


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_there_is_a_secret_for_the_cluster_and_one_for_the_application(name: str) -> None:
    """Each with a login of its own, a password that AWS makes up, and TLS for those who rotate it."""
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


def test_no_password_is_in_the_template() -> None:
    """The cluster takes it from the secret when it is made."""
    cluster = templates_of("dev").database.one("RDS::DBCluster")

    assert text_of(cluster["MasterUserPassword"]).startswith("{{resolve:secretsmanager:{ClusterSecret")
    assert text_of(cluster["MasterUsername"]).startswith("{{resolve:secretsmanager:{ClusterSecret")


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_passwords_change_every_thirty_days(name: str) -> None:
    """The application alternates between two users, made by the administrator; no rotation starts with the stack."""
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


def test_the_application_may_have_one_user() -> None:
    """As with the proxy, and as often as the file says."""
    template = templates_of("staging", {"aurora": {**PROXY["aurora"], "rotation_days": 7}}).database
    rotation = schedule(template, "ApplicationSecret")

    assert {"ScheduleExpression": "rate(7 days)"} == rotation["RotationRules"]
    hosted = rotation["HostedRotationLambda"]
    assert isinstance(hosted, dict)
    assert hosted["RotationType"] == "PostgreSQLSingleUser"
    assert "MasterSecretArn" not in hosted


def test_the_agent_of_datadog_has_a_login_where_the_file_has_datadog() -> None:
    """`bootstrap` makes it from its secret; nobody rotates it, for the agent reads it once."""
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
