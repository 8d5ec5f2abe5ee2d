"""The login with IAM: of services on a provisioned cluster, through RDS Proxy, and on an existing database."""

from typing import Any

import pytest
from policies import connections, granted, parameter, plain
from templates import (
    DATADOG,
    EXISTING,
    EXPRESS,
    IAM,
    IAM_PROXY,
    PAUSE,
    PROXY,
    Template,
    templates_of,
    text_of,
)

from registration_persistence import DatabaseSettings

ARN = "arn:{AWS::Partition}:rds-db:{AWS::Region}:{AWS::AccountId}:dbuser"
CA_BUNDLE = "/etc/pki/tls/certs/ca-bundle.crt"


def login(resource_id: str, user: str = "registration_iam", start: str = ARN) -> dict[str, Any]:
    """Return the statement that allows to log in as *user* on one cluster or proxy."""
    return {"Action": "rds-db:connect", "Effect": "Allow", "Resource": f"{start}:{resource_id}/{user}"}


def variables(template: Template) -> dict[str, str]:
    """Return the environment variables of the service, without those of its pages."""
    found = template.one("Lambda::Function")["Environment"]["Variables"]
    return {name: text_of(value) for name, value in found.items() if not name.startswith("SIGNUP_")}


def parameters(template: Template) -> dict[str, str]:
    """Return the SSM parameters of a database stack, by the last part of their names."""
    found = template.all("SSM::Parameter").values()
    return {one["Name"].rpartition("/")[2]: text_of(one["Value"]) for one in found}


def logical_id(template: Template, kind: str) -> str:
    """Return the logical id of the only resource of a type."""
    ((name, _),) = template.all(kind).items()
    return name


def test_a_service_logs_in_as_one_user_of_one_cluster() -> None:
    """The role allows nothing but this login: no secret and no key; the variables have a user instead of a secret."""
    template = templates_of("dev", IAM).application

    assert [login(parameter(template, "resource_id"))] == [plain(each) for each in granted(template, "ServiceRole")]
    assert {
        "APP_ENVIRONMENT": "dev",
        **{
            f"APP_DATABASE_{name.upper()}": parameter(template, name)
            for name in ("host", "reader_host", "port", "name", "auth", "user", "sslmode")
        },
    } == variables(template)
    # Secrets Manager is out of reach too.
    ((service, _),) = template.all("EC2::SecurityGroup").items()
    assert {(f"{{{service}.GroupId}}", parameter(template, "security_group_id"), 5432)} == connections(
        template, "Egress"
    )


def test_the_cluster_accepts_logins_with_iam() -> None:
    """Only with the key, the cluster accepts them; the stack publishes its resource id and the login."""
    template = templates_of("dev", IAM).database
    cluster = logical_id(template, "RDS::DBCluster")
    published = parameters(template)

    assert template.one("RDS::DBCluster")["EnableIAMDatabaseAuthentication"] is True
    assert "EnableIAMDatabaseAuthentication" not in templates_of("dev").database.one("RDS::DBCluster")
    assert {name: published[name] for name in ("auth", "user", "resource_id", "reader_host")} == {
        "auth": "iam",
        "user": "registration_iam",
        "resource_id": f"{{{cluster}.DBClusterResourceId}}",
        "reader_host": f"{{{cluster}.ReadEndpoint.Address}}",
    }
    assert "secret_arn" not in published
    outputs = {one.get("Description") for one in template.body["Outputs"].values()}
    assert {"APP_DATABASE_AUTH", "APP_DATABASE_USER", "APP_DATABASE_READER_HOST"} < outputs
    assert "APP_DATABASE_SECRET_ARN" not in outputs


def test_only_logins_with_a_password_have_a_secret_and_a_rotation() -> None:
    """The administrator and the monitoring keep theirs; the services have no secret, no rotation and no alarm on it."""
    template = templates_of("staging", {**IAM, **DATADOG}).database

    assert {"registration/staging/cluster", "registration/staging/monitoring"} == {
        one["Name"] for one in template.all("SecretsManager::Secret").values()
    }
    schedule = template.one("SecretsManager::RotationSchedule")
    assert text_of(schedule["SecretId"]).startswith("{ClusterSecret")
    functions = {one["FunctionName"] for one in template.all("Lambda::Function").values()}
    assert {"registration-staging-rotate-cluster", "registration-staging-migrate"} == functions
    (secret,) = template.named("Events::Rule", "AlarmsFailedRotation")["EventPattern"]["detail"]["additionalEventData"][
        "SecretId"
    ]
    assert text_of(secret).startswith("{ClusterSecret")


def test_bootstrap_creates_the_login() -> None:
    """The migration function logs in with the administrator's secret and gets the name of the login."""
    template = templates_of("dev", IAM).database
    found = template.named("Lambda::Function", "Migrations")["Environment"]["Variables"]

    assert found["APP_DATABASE_APPLICATION_USER"] == "registration_iam"
    assert text_of(found["APP_DATABASE_SECRET_ARN"]).startswith("{ClusterSecret")
    assert not {"APP_DATABASE_APPLICATION_SECRET_ARN", "APP_DATABASE_AUTH"} & found.keys()
    secret = templates_of("dev").database.named("Lambda::Function", "Migrations")["Environment"]["Variables"]
    assert "APP_DATABASE_APPLICATION_USER" not in secret


def test_datadog_still_reads_its_api_key() -> None:
    """With Datadog, the service may connect to Secrets Manager, where the extension reads its own secret."""
    template = templates_of("staging", {**IAM, **DATADOG}).application

    assert 443 in {port for _, _, port in connections(template, "Egress")}


def test_the_proxy_uses_iam_from_end_to_end() -> None:
    """Service to proxy and proxy to cluster both log in with IAM: the one names the proxy, the other the cluster."""
    templates = templates_of("dev", IAM_PROXY)
    database, application = templates.database, templates.application
    proxy, cluster = logical_id(database, "RDS::DBProxy"), logical_id(database, "RDS::DBCluster")
    properties = database.one("RDS::DBProxy")

    assert ("IAM_AUTH", True) == (properties["DefaultAuthScheme"], properties["RequireTLS"])
    assert "Auth" not in properties
    assert [login(f"{{{cluster}.DBClusterResourceId}}")] == [plain(one) for one in database.statements("ProxyRole")]
    assert {"Fn::Select": [6, {"Fn::Split": [":", {"Fn::GetAtt": [proxy, "DBProxyArn"]}]}]} == database.named(
        "SSM::Parameter", "ParameterResourceId"
    )["Value"]
    assert [login(parameter(application, "resource_id"))] == [
        plain(each) for each in granted(application, "ServiceRole")
    ]
    assert ("proxy", CA_BUNDLE) == tuple(
        variables(application)[f"APP_DATABASE_{name}"] for name in ("POOL", "SSL_ROOT_CERT")
    )
    group, server = (
        next(f"{{{name}.GroupId}}" for name in database.all("EC2::SecurityGroup") if name.startswith(start))
        for start in ("Proxy", "Aurora")
    )
    rules = database.all("EC2::SecurityGroupEgress").values()
    assert [server] == [text_of(one["DestinationSecurityGroupId"]) for one in rules if text_of(one["GroupId"]) == group]


@pytest.mark.parametrize("changes", [IAM_PROXY, {"aurora": {**PROXY["aurora"], "readers": 1}}], ids=["iam", "secret"])
def test_readers_behind_a_proxy_have_an_endpoint_of_the_proxy(changes: dict[str, Any]) -> None:
    """It is read-only, and in the security group and the subnets of the proxy."""
    template = templates_of("dev", changes).database
    proxy, reader = template.one("RDS::DBProxy"), template.one("RDS::DBProxyEndpoint")

    assert reader["TargetRole"] == "READ_ONLY"
    assert {"Ref": logical_id(template, "RDS::DBProxy")} == reader["DBProxyName"]
    assert proxy["VpcSecurityGroupIds"] == reader["VpcSecurityGroupIds"]
    assert proxy["VpcSubnetIds"] == reader["VpcSubnetIds"]
    endpoint = logical_id(template, "RDS::DBProxyEndpoint")
    assert parameters(template)["reader_host"] == f"{{{endpoint}.Endpoint}}"
    assert {} == templates_of("staging", PROXY).database.all("RDS::DBProxyEndpoint")


def test_a_cluster_with_readers_passes_their_endpoint() -> None:
    """The service gets the reader endpoint only if the cluster has readers."""
    template = templates_of("dev", {"aurora": {"readers": 1}}).application

    assert variables(template)["APP_DATABASE_READER_HOST"] == parameter(template, "reader_host")
    assert "APP_DATABASE_READER_HOST" not in variables(templates_of("dev").application)


def test_sessions_on_a_cluster_that_pauses_end_after_a_minute() -> None:
    """A frozen function would keep the cluster awake; other clusters have no limit.

    The migration function has the limit too, because `bootstrap` sets it on the logins of the services.
    """
    templates = templates_of("dev", PAUSE)

    assert parameters(templates.database)["idle_session_timeout"] == "60"
    assert variables(templates.application)["APP_DATABASE_IDLE_SESSION_TIMEOUT"] == parameter(
        templates.application, "idle_session_timeout"
    )
    assert "APP_DATABASE_IDLE_SESSION_TIMEOUT" not in variables(templates_of("dev").application)
    migrate = templates.database.named("Lambda::Function", "Migrations")
    assert migrate["Environment"]["Variables"]["APP_DATABASE_IDLE_SESSION_TIMEOUT"] == "60"


def test_an_express_cluster_needs_no_vpc_and_no_secret() -> None:
    """The function runs outside of a VPC, and its role allows to write its log and to log in as one user."""
    template = templates_of("dev", EXPRESS).application

    assert {
        "APP_ENVIRONMENT": "dev",
        "APP_DATABASE_HOST": EXPRESS["existing"]["host"],
        "APP_DATABASE_PORT": "5432",
        "APP_DATABASE_NAME": "registrations",
        "APP_DATABASE_AUTH": "iam",
        "APP_DATABASE_USER": "registration_iam",
        "APP_DATABASE_SSLMODE": "verify-full",
        "APP_DATABASE_IDLE_SESSION_TIMEOUT": "60",
    } == variables(template)
    logs, connect = template.statements("ServiceRole")
    assert ["logs:CreateLogStream", "logs:PutLogEvents"] == logs["Action"]
    start = "arn:{AWS::Partition}:rds-db:eu-central-1:{AWS::AccountId}:dbuser"
    assert login("cluster-ABCDEFGHIJKL01234", start=start) == plain(connect)
    assert "VpcConfig" not in template.one("Lambda::Function")
    # The secret signs the cookies of the pages; the function does not read it.
    assert {"ApiGatewayV2", "IAM", "Lambda", "Logs", "SecretsManager"} == {
        each["Type"].split("::")[1] for each in template.body["Resources"].values()
    }


def test_the_region_of_the_permission_is_that_of_the_database() -> None:
    """A token is signed for the region in the name of the host, which can differ from that of the function."""
    existing = {
        **EXPRESS["existing"],
        "host": "d.proxy-abc.eu-west-1.rds.amazonaws.com",
        "reader_host": "read.endpoint.proxy-abc.eu-west-1.rds.amazonaws.com",
        "resource_id": "prx-0123456789abcdef0",
        "security_group_id": "sg-12345678",
    }
    template = templates_of("dev", {**EXISTING, "existing": existing}).application

    (statement,) = granted(template, "ServiceRole")
    start = "arn:{AWS::Partition}:rds-db:eu-west-1:{AWS::AccountId}:dbuser"
    assert login("prx-0123456789abcdef0", start=start) == plain(statement)
    found = variables(template)
    assert ("proxy", existing["reader_host"]) == (found["APP_DATABASE_POOL"], found["APP_DATABASE_READER_HOST"])
    assert "APP_DATABASE_IDLE_SESSION_TIMEOUT" not in found


@pytest.mark.parametrize("changes", [IAM, IAM_PROXY, EXPRESS], ids=["cluster", "proxy", "express"])
def test_the_package_accepts_the_variables(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a service are settings of the package, without a secret and with a verified server."""
    monkeypatch.setattr("registration_persistence.database.tls_rules._is_file", lambda name: name == CA_BUNDLE)
    deployed = {
        "HOST": "d.cluster-abc.eu-central-1.rds.amazonaws.com",
        "READER_HOST": "d.cluster-ro-abc.eu-central-1.rds.amazonaws.com",
        "PORT": "5432",
        "NAME": "registrations",
        "AUTH": "iam",
        "USER": "registration_iam",
        "SSLMODE": "verify-full",
    }
    found = variables(templates_of("dev", changes).application)
    values = {
        name: deployed[name.removeprefix("APP_DATABASE_")] if value.startswith("{") else value
        for name, value in found.items()
    }

    settings = DatabaseSettings.from_env(values)

    assert (settings.user, settings.secret_arn, settings.sslmode) == ("registration_iam", None, "verify-full")
