"""`registration_infra.constructs.secrets` and `.rotation`: the logins and their rotation."""

import json
from typing import Any

import pytest
from policies import granted, plain
from templates import DATADOG, PROXY, VARIANTS, Template, config_of, templates_of, text_of

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
    """Each secret has its own login, a generated password, and the setting that makes clients use TLS."""
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


def rotation_function(template: Template, name: str) -> dict[str, Any]:
    """Return the properties of the function that rotates the secret *name*."""
    return template.named("Lambda::Function", f"Rotation{name}Function")


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_passwords_rotate_every_thirty_days(name: str) -> None:
    """Each secret has its own function in the package's layer; the deployment itself starts no rotation."""
    template = templates_of(name).database
    assert "Transform" not in template.body  # no code that AWS adds

    for secret in ("Cluster", "Application"):
        rotation, function = schedule(template, f"{secret}Secret"), rotation_function(template, secret)
        assert {"ScheduleExpression": "rate(30 days)"} == rotation["RotationRules"]
        assert rotation["RotateImmediatelyOnUpdate"] is False
        assert text_of(rotation["RotationLambdaARN"]).startswith(f"{{Rotation{secret}Function")
        assert (f"registration-{name}-rotate-{secret.lower()}", "handler.handle", 60, 1) == (
            function["FunctionName"],
            function["Handler"],
            function["Timeout"],
            function["ReservedConcurrentExecutions"],
        )
        network = function["VpcConfig"]
        subnets = {f"{{{logical_id}}}" for logical_id in template.all("EC2::Subnet")}
        assert subnets == {text_of(each) for each in network["SubnetIds"]}
        assert [text_of(each)[:22] for each in network["SecurityGroupIds"]] == ["{RotationSecurityGroup"]
        group = template.named("Logs::LogGroup", f"Rotation{secret}Logs")
        assert group["LogGroupName"] == f"/aws/lambda/{function['FunctionName']}"
        assert [text_of(layer) for layer in function["Layers"]] == [
            f"{{{logical_id}}}" for logical_id in template.all("Lambda::LayerVersion")
        ]


def test_rotation_functions_have_the_address_and_their_secret() -> None:
    """Each verifies the cluster and rotates one secret; that of the application gets the administrator's secret too."""
    template = templates_of("dev").database
    variables = {
        name: {
            key: text_of(value) for key, value in rotation_function(template, name)["Environment"]["Variables"].items()
        }
        for name in ("Cluster", "Application")
    }

    admin = variables["Application"].pop("ROTATION_ADMIN_SECRET_ARN")
    assert admin.startswith("{ClusterSecretAttachment")
    for name, found in variables.items():
        assert found.pop("APP_DATABASE_HOST").startswith("{AuroraCluster")
        assert found.pop("APP_DATABASE_SECRET_ARN").startswith(f"{{{name}SecretAttachment")
        assert found == {
            "APP_ENVIRONMENT": "dev",
            "APP_DATABASE_PORT": "5432",
            "APP_DATABASE_NAME": "registrations",
            "APP_DATABASE_SSLMODE": "verify-full",
        }


def test_rotation_functions_may_only_rotate_their_secret() -> None:
    """Each role allows the rotation of one secret, and to read the administrator's if it sets two users."""
    template = templates_of("dev").database
    cluster, application = (
        next(f"{{{name}}}" for name in template.all("SecretsManager::SecretTargetAttachment") if name.startswith(start))
        for start in ("ClusterSecret", "ApplicationSecret")
    )
    rotate = [
        f"secretsmanager:{action}"
        for action in ("DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage")
    ]
    ((key, _),) = template.all("KMS::Key").items()
    through = {"StringEquals": {"kms:ViaService": "secretsmanager.{AWS::Region}.amazonaws.com"}}
    use = {
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Effect": "Allow",
        "Resource": f"{{{key}.Arn}}",
        "Condition": through,
    }

    for role, secret, read in (("Cluster", cluster, []), ("Application", application, [cluster])):
        assert [plain(statement) for statement in granted(template, f"Rotation{role}Role")] == [
            {"Action": rotate, "Effect": "Allow", "Resource": secret},
            use,
            *({"Action": "secretsmanager:GetSecretValue", "Effect": "Allow", "Resource": one} for one in read),
        ]


def test_only_secrets_of_this_account_use_the_functions() -> None:
    """Secrets Manager may invoke the functions, and only for this account; nobody else may."""
    permissions = templates_of("dev").database.all("Lambda::Permission").values()

    assert len(permissions) == 2
    for permission in permissions:
        assert ("lambda:InvokeFunction", "secretsmanager.amazonaws.com", config_of("dev").account) == (
            permission["Action"],
            permission["Principal"],
            permission["SourceAccount"],
        )


def test_a_secret_that_rotates_cannot_be_deleted() -> None:
    """A resource policy denies the deletion to everybody in the account, as long as the schedule exists."""
    policies = templates_of("dev").database.all("SecretsManager::ResourcePolicy").values()

    assert sorted(text_of(each["SecretId"])[:14] for each in policies) == ["{ApplicationSe", "{ClusterSecret"]
    for each in policies:
        (statement,) = each["ResourcePolicy"]["Statement"]
        assert ("Deny", "secretsmanager:DeleteSecret") == (statement["Effect"], statement["Action"])
        assert text_of(statement["Principal"]["AWS"]).endswith(":root")


@pytest.mark.parametrize("variant", ["everything", "proxy", "existing VPC"])
def test_rotation_waits_for_all_that_it_needs(variant: str) -> None:
    """The first test of a rotation logs in, so instances, endpoint, rules and permissions exist before it."""
    template = templates_of(*VARIANTS[variant]).database
    rules = [
        name
        for kind in ("Ingress", "Egress")
        for name, rule in template.all(f"EC2::SecurityGroup{kind}").items()
        if "{RotationSecurityGroup" in f"{text_of(rule['GroupId'])} {text_of(rule.get('SourceSecurityGroupId'))}"
    ]
    assert len(rules) == 4
    needed = {*rules, *template.all("RDS::DBInstance"), *template.all("EC2::VPCEndpoint")}
    schedules = [
        resource
        for resource in template.body["Resources"].values()
        if resource["Type"] == "AWS::SecretsManager::RotationSchedule"
    ]

    assert len(schedules) == 2
    assert len(template.all("EC2::VPCEndpoint")) == (variant != "existing VPC")
    permissions = set()
    for resource in schedules:
        assert needed <= set(resource["DependsOn"])
        permissions |= set(resource["DependsOn"]) & template.all("Lambda::Permission").keys()
    assert permissions == template.all("Lambda::Permission").keys()
    for name in ("Cluster", "Application"):
        # The function exists only after its log group and the policy of its role.
        function = template.resource("Lambda::Function", f"Rotation{name}Function")
        assert text_of(function["Properties"]["LoggingConfig"]["LogGroup"]).startswith(f"{{Rotation{name}Logs")
        assert len([each for each in function["DependsOn"] if each.startswith(f"Rotation{name}Role")]) == 2


def test_single_user_rotation() -> None:
    """With rotation `single`, one user sets its own password, at the interval of the file."""
    template = templates_of("staging", {"aurora": {**PROXY["aurora"], "rotation_days": 7}}).database
    rotation = schedule(template, "ApplicationSecret")

    assert {"ScheduleExpression": "rate(7 days)"} == rotation["RotationRules"]
    assert "ROTATION_ADMIN_SECRET_ARN" not in rotation_function(template, "Application")["Environment"]["Variables"]
    actions = [statement["Action"] for statement in granted(template, "RotationApplicationRole")]
    assert "secretsmanager:GetSecretValue" not in actions


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
