"""What the stacks make is what the package reads: whole templates, created in a simulated AWS."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError
from contract.moto_shims import ACCOUNT, Refused, client, deploy, simulated_aws
from registration_infra import EnvironmentConfig
from registration_infra.parameters import PARAMETERS
from templates import DATADOG, EXISTING, PROXY, Templates, config_of, templates_of

from registration_persistence.database import DatabaseSettings
from registration_persistence.database.credentials import SecretsManagerCredentials
from registration_persistence.database.policy import VARIABLES

_OUTPUTS = ("Host", "Port", "Name", "SecretArn", "Sslmode")
_OWNER_ROLE = "APP_DATABASE_OWNER_ROLE"
_APPLICATION_SECRET = "APP_DATABASE_APPLICATION_SECRET_ARN"
_MONITORING_SECRET = "APP_DATABASE_MONITORING_SECRET_ARN"
_READ = {*VARIABLES.values(), _OWNER_ROLE, _APPLICATION_SECRET, _MONITORING_SECRET}
_EXCLUDED = set(" %+~`#$&*()|[]{}:;<>?!'/@\"\\")
# What Lambda's own image has, and this machine may not have.
_BUNDLE_OF_LAMBDA = "/etc/pki/tls/certs/ca-bundle.crt"


@dataclass(frozen=True, slots=True)
class Deployed:
    """An environment whose stacks have been created."""

    config: EnvironmentConfig
    outputs: list[dict[str, str]]

    @property
    def cluster(self) -> dict[str, Any]:
        """The cluster, as RDS describes it."""
        return _one(client("rds").describe_db_clusters(DBClusterIdentifier=self.config.prefix)["DBClusters"])

    @property
    def key(self) -> str:
        """The ARN of the database's key."""
        alias = client("kms").describe_key(KeyId=f"alias/{self.config.prefix}-database")
        return str(alias["KeyMetadata"]["Arn"])

    @property
    def topic(self) -> str:
        """The ARN of the topic for alarms."""
        (topic,) = (
            each["TopicArn"]
            for each in client("sns").list_topics()["Topics"]
            if each["TopicArn"].endswith(f":{self.config.prefix}-database")
        )
        return str(topic)

    def secret(self, name: str) -> str:
        """The ARN of a secret."""
        return str(client("secretsmanager").describe_secret(SecretId=f"{self.config.path}/{name}")["ARN"])

    def value(self, name: str) -> dict[str, Any]:
        """What a secret holds."""
        found = client("secretsmanager").get_secret_value(SecretId=self.secret(name))
        value = json.loads(found["SecretString"])
        assert isinstance(value, dict)
        return value

    def parameters(self) -> dict[str, str]:
        """What the database's stack has written, by the end of the names."""
        path = f"/{self.config.path}/database"
        found: dict[str, str] = {}
        for page in client("ssm").get_paginator("get_parameters_by_path").paginate(Path=path):
            found |= {each["Name"].removeprefix(f"{path}/"): each["Value"] for each in page["Parameters"]}
        return found

    def function(self, name: str) -> dict[str, Any]:
        """A function, as Lambda describes it."""
        found = client("lambda").get_function_configuration(FunctionName=f"{self.config.prefix}-{name}")
        assert isinstance(found, dict)
        return found

    def environment(self, name: str) -> dict[str, str]:
        """The environment variables of a function."""
        variables = self.function(name)["Environment"]["Variables"]
        assert isinstance(variables, dict)
        return variables


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """A simulated account, which all environments of this file share."""
    with simulated_aws():
        yield


@pytest.fixture(scope="module")
def templates() -> Templates:
    """What dev deploys."""
    return templates_of("dev", {"account": ACCOUNT})


@pytest.fixture(scope="module")
def dev(aws: None) -> Deployed:  # noqa: ARG001 where it is created
    """The development environment."""
    return _deployed("dev", {})


@pytest.fixture(scope="module")
def monitored(aws: None) -> Deployed:  # noqa: ARG001 where it is created
    """An environment with Datadog, Database Monitoring and NAT gateways."""
    return _deployed("staging", DATADOG)


@pytest.fixture(scope="module")
def proxied(aws: None) -> Deployed:  # noqa: ARG001 where it is created
    """An environment with RDS Proxy, under the rules of production."""
    return _deployed("prod", PROXY)


def _deployed(name: str, changes: Mapping[str, Any]) -> Deployed:
    changes = {**changes, "account": ACCOUNT}
    config, made = config_of(name, changes), templates_of(name, changes)
    outputs = deploy(f"{config.prefix}-database", made.database.body)
    deploy(f"{config.prefix}-application", made.application.body)
    return Deployed(config, outputs)


def test_outputs_are_the_variables_that_they_describe(dev: Deployed) -> None:
    """Each `AppDatabase…` output describes a variable, and together they are settings that the package accepts."""
    outputs = {each["OutputKey"]: each for each in dev.outputs}
    described = {
        outputs[f"AppDatabase{name}"]["Description"]: outputs[f"AppDatabase{name}"]["OutputValue"] for name in _OUTPUTS
    }
    settings = DatabaseSettings.from_env({"APP_ENVIRONMENT": "dev", **described})
    assert described.keys() == {f"APP_DATABASE_{name}" for name in ("HOST", "PORT", "NAME", "SECRET_ARN", "SSLMODE")}
    _assert_reaches(settings, dev, secret="application")


def test_outputs_are_no_more_than_is_known(dev: Deployed) -> None:
    """Beside the variables, the stack puts out the name of the migration function alone."""
    outputs = {each["OutputKey"]: each["OutputValue"] for each in dev.outputs}
    assert outputs.keys() == {*(f"AppDatabase{name}" for name in _OUTPUTS), "MigrateFunctionName"}
    assert outputs["MigrateFunctionName"] == dev.function("migrate")["FunctionName"]


def test_parameters_are_the_same_settings(dev: Deployed) -> None:
    """What is written to the Parameter Store, under the names of the variables, is accepted as well."""
    parameters = dev.parameters()
    assert parameters.keys() == {*PARAMETERS}
    environ = {
        f"APP_DATABASE_{name.upper()}": parameters[name] for name in ("host", "port", "name", "secret_arn", "sslmode")
    }
    _assert_reaches(DatabaseSettings.from_env({"APP_ENVIRONMENT": "dev", **environ}), dev, secret="application")
    assert parameters["key_arn"] == dev.key
    assert parameters["security_group_id"] == _one(dev.cluster["VpcSecurityGroups"])["VpcSecurityGroupId"]


@pytest.mark.parametrize(("function", "secret"), [("service", "application"), ("migrate", "cluster")])
def test_functions_have_the_environment_that_the_package_reads(dev: Deployed, function: str, secret: str) -> None:
    """As they are, the variables of each function lead to the cluster, with the secret that is its own."""
    environ = dev.environment(function)
    _assert_reaches(DatabaseSettings.from_env(environ), dev, secret=secret)
    assert environ["APP_ENVIRONMENT"] == "dev"


@pytest.mark.parametrize("environment", ["dev", "monitored", "proxied"])
@pytest.mark.parametrize("function", ["service", "migrate"])
def test_functions_have_no_variable_that_nobody_reads(
    request: pytest.FixtureRequest, environment: str, function: str
) -> None:
    """No variable is misspelt: each is one that the package knows, or one of Datadog's."""
    environ = request.getfixturevalue(environment).environment(function)
    assert {name for name in environ if not name.startswith("DD_")} <= _READ


def test_migrations_know_role_and_secret_of_the_application(dev: Deployed) -> None:
    """What `bootstrap` reads besides is there: the owner role, and the application's secret; no monitoring."""
    environ = dev.environment("migrate")
    assert environ[_OWNER_ROLE] == "registration_owner"
    assert environ[_APPLICATION_SECRET] == dev.secret("application")
    assert _MONITORING_SECRET not in environ


@pytest.mark.parametrize("function", ["service", "migrate"])
def test_functions_are_let_in(dev: Deployed, function: str) -> None:
    """The group of a function may go to the cluster and to Secrets Manager, and both let it in."""
    parameters = dev.parameters()
    (group,) = dev.function(function)["VpcConfig"]["SecurityGroupIds"]
    for target, port in (("security_group_id", 5432), ("endpoint_security_group_id", 443)):
        assert (parameters[target], port) in _rules(group, "IpPermissionsEgress")
        assert (group, port) in _rules(parameters[target], "IpPermissions")
    subnets = parameters["subnet_ids"].split(",")
    assert dev.function(function)["VpcConfig"]["SubnetIds"] == subnets
    assert {each["VpcId"] for each in client("ec2").describe_subnets(SubnetIds=subnets)["Subnets"]} == {
        parameters["vpc_id"]
    }


@pytest.mark.parametrize("environment", ["dev", "monitored", "proxied"])
@pytest.mark.parametrize("function", ["service", "migrate"])
def test_functions_may_read_the_secrets_that_they_are_given(
    request: pytest.FixtureRequest, environment: str, function: str
) -> None:
    """A function's role allows to read each secret that its environment names, no other, and to decrypt them."""
    deployed = request.getfixturevalue(environment)
    given = {value for name, value in deployed.environment(function).items() if name.endswith("SECRET_ARN")}
    allowed = _allowed(deployed.function(function)["Role"])
    assert allowed["secretsmanager:GetSecretValue"] == given
    assert allowed["kms:Decrypt"] == {deployed.key}


@pytest.mark.parametrize(("name", "username"), [("cluster", "registration_admin"), ("application", "registration_app")])
def test_secrets_hold_what_rotation_and_package_need(dev: Deployed, name: str, username: str) -> None:
    """A secret names login, address and TLS, has a password that no URL misreads, and only the key opens it."""
    value = dev.value(name)
    password = value.pop("password")
    master = {"masterarn": dev.secret("cluster")} if name == "application" else {}
    assert value == master | {
        "username": username,
        "ssl": True,
        "engine": "postgres",
        "host": dev.cluster["Endpoint"],
        "port": 5432,
        "dbname": "registrations",
        "dbClusterIdentifier": "registration-dev",
    }
    assert len(password) == 32
    assert not _EXCLUDED & set(password)
    assert client("secretsmanager").describe_secret(SecretId=dev.secret(name))["KmsKeyId"] == dev.key


@pytest.mark.parametrize("function", ["service", "migrate"])
def test_package_reads_the_secret(dev: Deployed, function: str) -> None:
    """With a function's environment, the package's own reader gets the login from Secrets Manager."""
    settings = DatabaseSettings.from_env(dev.environment(function))
    assert settings.secret_arn is not None
    read = SecretsManagerCredentials(settings.secret_arn, region=settings.secret_region).current()
    value = dev.value("application" if function == "service" else "cluster")
    assert (read.username, read.password) == (value["username"], value["password"])


def test_administrator_is_the_one_of_the_secret(dev: Deployed) -> None:
    """The cluster is made with the login of its secret; those of two secrets are not the same."""
    assert dev.cluster["MasterUsername"] == dev.value("cluster")["username"]
    assert dev.value("cluster")["password"] != dev.value("application")["password"]


def test_cluster_is_as_the_file_says(dev: Deployed) -> None:
    """The cluster has the engine, capacity, encryption, backups and tags of the environment."""
    cluster = dev.cluster
    assert (cluster["Engine"], cluster["EngineVersion"]) == ("aurora-postgresql", "16.13")
    assert cluster["ServerlessV2ScalingConfiguration"] == {"MinCapacity": 0.5, "MaxCapacity": 1.0}
    assert (cluster["StorageEncrypted"], cluster["KmsKeyId"]) == (True, dev.key)
    assert (cluster["BackupRetentionPeriod"], cluster["CopyTagsToSnapshot"]) == (1, True)
    assert {"Key": "backup", "Value": "enabled"} in cluster["TagList"]
    assert cluster["DeletionProtection"] is False
    assert cluster["DatabaseName"] == "registrations"


def test_cluster_refuses_connections_without_tls(dev: Deployed) -> None:
    """The parameter group of the cluster is ours, and forces TLS."""
    group = dev.cluster["DBClusterParameterGroup"]
    found = client("rds").describe_db_cluster_parameters(DBClusterParameterGroupName=group)["Parameters"]
    assert {each["ParameterName"]: each["ParameterValue"] for each in found}["rds.force_ssl"] == "1"


def test_writer_is_serverless_and_private(dev: Deployed) -> None:
    """The cluster has one instance, which writes, and nobody outside the VPC reaches it."""
    (member,) = dev.cluster["DBClusterMembers"]
    assert member["IsClusterWriter"]
    found = client("rds").describe_db_instances(DBInstanceIdentifier=member["DBInstanceIdentifier"])
    writer = _one(found["DBInstances"])
    assert (writer["DBInstanceClass"], writer["Engine"]) == ("db.serverless", "aurora-postgresql")
    assert writer["PubliclyAccessible"] is False


def test_protection_and_retention_follow_the_file(proxied: Deployed) -> None:
    """Production is protected from deletion, and keeps a week."""
    cluster = proxied.cluster
    assert (cluster["DeletionProtection"], cluster["BackupRetentionPeriod"]) == (True, 7)


def test_alarms_watch_the_cluster_and_point_to_the_topic(dev: Deployed) -> None:
    """Every alarm tells the topic when it starts and ends, and watches the cluster or the migrations."""
    alarms = client("cloudwatch").describe_alarms(AlarmNamePrefix="registration-dev-")["MetricAlarms"]
    watched = {each["AlarmName"].rpartition("-")[2]: each for each in alarms}
    assert watched.keys() == {
        "Capacity", "Cpu", "Connections", "Memory", "Deadlocks", "TransactionIds", "Migration",
    }  # fmt: skip
    for name, alarm in watched.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [dev.topic]
        expected = (
            {"Name": "FunctionName", "Value": "registration-dev-migrate"}
            if name == "Migration"
            else {"Name": "DBClusterIdentifier", "Value": "registration-dev"}
        )
        assert alarm["Dimensions"] == [expected]


def test_topic_is_encrypted_and_takes_what_is_sent(dev: Deployed) -> None:
    """The topic has the database's key, and lets those publish that send to it."""
    attributes = client("sns").get_topic_attributes(TopicArn=dev.topic)["Attributes"]
    assert attributes["KmsMasterKeyId"] == dev.key
    (allowed,) = (each for each in json.loads(attributes["Policy"])["Statement"] if each["Effect"] == "Allow")
    assert {*allowed["Principal"]["Service"]} == {
        f"{service}.amazonaws.com" for service in ("cloudwatch", "events", "events.rds")
    }


def test_events_are_sent_to_the_topic(dev: Deployed) -> None:
    """RDS reports on cluster and writer, and a failed rotation of either secret is noticed."""
    subscriptions = client("rds").describe_event_subscriptions()["EventSubscriptionsList"]
    sources = {each["SourceType"]: each["SourceIdsList"] for each in subscriptions if each["SnsTopicArn"] == dev.topic}
    assert sources == {"db-cluster": ["registration-dev"], "db-instance": ["registration-dev-writer"]}
    events = client("events")
    (name,) = events.list_rule_names_by_target(TargetArn=dev.topic)["RuleNames"]
    pattern = json.loads(events.describe_rule(Name=name)["EventPattern"])
    assert {*pattern["detail"]["additionalEventData"]["SecretId"]} == {
        dev.secret("cluster"),
        dev.secret("application"),
    }


def test_monitoring_has_a_login_of_its_own(monitored: Deployed) -> None:
    """With Database Monitoring the migrations are given a third secret, which names the cluster and Datadog's user."""
    arn = monitored.environment("migrate")[_MONITORING_SECRET]
    value = monitored.value("monitoring")
    assert arn == monitored.secret("monitoring")
    assert (value["username"], value["ssl"], value["host"]) == ("datadog", True, monitored.cluster["Endpoint"])
    read = SecretsManagerCredentials(arn, region=monitored.config.region).current()
    assert (read.username, read.password) == ("datadog", value["password"])
    assert _MONITORING_SECRET not in monitored.environment("service")


@pytest.mark.parametrize(("function", "secret"), [("service", "application"), ("migrate", "cluster")])
def test_datadog_leaves_the_settings_as_they_are(monitored: Deployed, function: str, secret: str) -> None:
    """An instrumented function reaches its own environment's cluster, not that of the other in the account."""
    _assert_reaches(DatabaseSettings.from_env(monitored.environment(function)), monitored, secret=secret)


def test_application_goes_through_the_proxy(proxied: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With RDS Proxy the application has the proxy's address, its certificates and no pool; the migrations do not."""
    monkeypatch.setattr("registration_persistence.database.policy._is_file", lambda name: name == _BUNDLE_OF_LAMBDA)
    found = client("rds").describe_db_proxies(DBProxyName="registration-prod")["DBProxies"]
    settings = DatabaseSettings.from_env(proxied.environment("service"))
    assert (settings.host, settings.port, settings.pool) == (_one(found)["Endpoint"], 5432, "proxy")
    assert (settings.sslmode, settings.ssl_root_cert) == ("verify-full", _BUNDLE_OF_LAMBDA)
    assert settings.secret_arn == proxied.secret("application")
    _assert_reaches(DatabaseSettings.from_env(proxied.environment("migrate")), proxied, secret="cluster")


def test_proxy_logs_in_as_the_application(proxied: Deployed) -> None:
    """The proxy takes TLS alone, reads the application's secret, may decrypt it, and reaches the cluster."""
    rds = client("rds")
    proxy = _one(rds.describe_db_proxies(DBProxyName="registration-prod")["DBProxies"])
    targets = rds.describe_db_proxy_targets(DBProxyName="registration-prod")["Targets"]
    assert (proxy["RequireTLS"], _one(proxy["Auth"])["SecretArn"]) == (True, proxied.secret("application"))
    assert _one(targets)["RdsResourceId"] == "registration-prod"
    allowed = _allowed(proxy["RoleArn"])
    assert allowed["secretsmanager:GetSecretValue"] == {proxied.secret("application")}
    assert allowed["kms:Decrypt"] == {proxied.key}
    (group,) = proxy["VpcSecurityGroupIds"]
    cluster = _one(proxied.cluster["VpcSecurityGroups"])["VpcSecurityGroupId"]
    assert proxied.parameters()["security_group_id"] == group
    assert (cluster, 5432) in _rules(group, "IpPermissionsEgress")
    assert (group, 5432) in _rules(cluster, "IpPermissions")


@pytest.mark.parametrize(
    ("host", "sslmode"),
    [
        ("db.example.org", "require"),
        ("there.cluster-abcdefghijkl.eu-central-1.rds.amazonaws.com", "verify-full"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_existing_database_is_passed_through(host: str, sslmode: str) -> None:
    """Without a cluster of its own there is one stack, whose function has the values of the file."""
    changes = _in_a_network_that_is_there(host)
    config, made = config_of("dev", changes), templates_of("dev", changes)
    (stack,) = made.stacks
    function = made.application.one("Lambda::Function")
    body = deepcopy(made.application.body)
    for resource in body["Resources"].values():  # beside that of `dev`, whose name it has
        if resource["Type"] == "AWS::Lambda::Function":
            resource["Properties"]["FunctionName"] = f"there-{sslmode}"
        if resource["Type"] == "AWS::Logs::LogGroup":
            resource["Properties"]["LogGroupName"] = f"/aws/lambda/there-{sslmode}"
    deploy(f"there-{sslmode}", body)
    environ = client("lambda").get_function_configuration(FunctionName=f"there-{sslmode}")["Environment"]["Variables"]
    settings = DatabaseSettings.from_env(environ)
    assert (stack, function["FunctionName"]) == ("registration-dev-application", "registration-dev-service")
    assert config.existing is not None
    assert (settings.host, settings.port, settings.name) == (host, 5433, "registrations")
    assert (settings.secret_arn, settings.sslmode) == (config.existing.secret_arn, sslmode)
    assert (settings.root_certificate is not None) == (sslmode == "verify-full")
    assert environ.keys() <= _READ


@pytest.mark.usefixtures("aws")
def test_unknown_type_is_refused() -> None:
    """A type that nothing here can make fails, though moto would only warn."""
    with pytest.raises(Refused, match="AWS::Backup::BackupPlan: neither moto nor a shim"):
        deploy("unknown", {"Resources": {"Plan": {"Type": "AWS::Backup::BackupPlan", "Properties": {}}}})


@pytest.mark.parametrize(
    ("kind", "change", "problem"),
    [
        ("RDS::DBCluster", {"StorageEncryptd": True}, "'StorageEncryptd' was unexpected"),
        ("RDS::DBCluster", {"BackupRetentionPeriod": "a day"}, "'a day' is not"),
        ("EC2::VPC", {"EnableDnsSuport": True}, "'EnableDnsSuport' was unexpected"),
        ("Lambda::Function", {"VpcConfig": {"SubnetId": []}}, "'SubnetId' was unexpected"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_wrong_property_is_refused(kind: str, change: Mapping[str, Any], problem: str) -> None:
    """A property that its type does not have, or of another type, fails; also where moto itself makes the resource."""
    with pytest.raises(Refused, match=problem):
        deploy(f"wrong-{'-'.join(change)}", {"Resources": {"It": {"Type": f"AWS::{kind}", "Properties": {**change}}}})


@pytest.mark.usefixtures("aws")
def test_api_has_the_last_word() -> None:
    """What CloudFormation's schema allows, but the API does not, is botocore's to refuse."""
    alarm = {"MetricName": "CPUUtilization", "EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanThreshold"}
    problem = {**alarm, "AlarmName": "x", "Statistic": "Average", "Period": 60, "Threshold": "much"}
    with pytest.raises((ParamValidationError, Refused), match="much"):
        deploy("refused", {"Resources": {"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": problem}}})


@pytest.mark.usefixtures("aws")
def test_parameter_that_is_not_written_is_missed(templates: Templates) -> None:
    """An application whose database has not been deployed is not made with empty values."""
    text = json.dumps(templates.application.body).replace("/registration/dev/", "/registration/nowhere/")
    with pytest.raises(AttributeError, match="value"):  # moto found no parameter
        deploy("missing", json.loads(text))


def _in_a_network_that_is_there(host: str) -> dict[str, Any]:
    """Return what the environment file of an existing database in an existing VPC changes."""
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{number}.0/24")["Subnet"]["SubnetId"] for number in range(2)
    ]
    database, endpoint = (
        ec2.create_security_group(VpcId=vpc, GroupName=name, Description=name)["GroupId"]
        for name in ("database", "endpoint")
    )
    assert isinstance(EXISTING["existing"], dict)
    return {
        **EXISTING,
        "account": ACCOUNT,
        "existing": {**EXISTING["existing"], "host": host, "security_group_id": database},
        "network": {"vpc_id": vpc, "subnet_ids": subnets, "secrets_endpoint_security_group_id": endpoint},
    }


def _assert_reaches(settings: DatabaseSettings, deployed: Deployed, *, secret: str) -> None:
    """Check that *settings* are those of the cluster that was created, with one of its secrets, verified."""
    cluster = deployed.cluster
    assert (settings.host, settings.port, settings.name) == (
        cluster["Endpoint"],
        cluster["Port"],
        cluster["DatabaseName"],
    )
    assert settings.secret_arn == deployed.secret(secret)
    assert settings.secret_region == deployed.config.region
    assert settings.sslmode == "verify-full"
    certificate = settings.root_certificate
    assert certificate is not None
    assert certificate.is_file()
    assert deployed.config.region in certificate.name


def _rules(group: str, direction: str) -> set[tuple[str, int]]:
    """Return the groups, and the ports, that a group lets in or out."""
    found = _one(client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"])
    return {(pair["GroupId"], rule["FromPort"]) for rule in found[direction] for pair in rule["UserIdGroupPairs"]}


def _allowed(role: str) -> dict[str, set[str]]:
    """Return the resources of each action that the policies in a role allow."""
    iam, name = client("iam"), role.rpartition("/")[2]
    allowed: dict[str, set[str]] = {}
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        for statement in document["Statement"]:
            if statement["Effect"] == "Allow":
                for action in _listed(statement["Action"]):
                    allowed.setdefault(action, set()).update(_listed(statement["Resource"]))
    return allowed


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _one(found: list[dict[str, Any]]) -> dict[str, Any]:
    (only,) = found
    return only
