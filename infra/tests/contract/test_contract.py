"""The stacks publish the settings that the package reads: whole templates, deployed in a simulated AWS."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError
from contract.moto_shims import ACCOUNT, ResourceRejected, client, deploy, simulated_aws
from registration_infra import EnvironmentConfig
from registration_infra.parameters import published_parameters
from templates import DATADOG, EXISTING, PROXY, Templates, config_of, templates_of

from registration_persistence import Database, DatabaseSettings

_OUTPUTS = ("Host", "Port", "Name", "SecretArn", "Sslmode")
_OWNER_ROLE = "APP_DATABASE_OWNER_ROLE"
_APPLICATION_SECRET = "APP_DATABASE_APPLICATION_SECRET_ARN"
_MONITORING_SECRET = "APP_DATABASE_MONITORING_SECRET_ARN"
_ROTATION_ADMIN = "ROTATION_ADMIN_SECRET_ARN"
_CONFIGURATION = Path(__file__).parents[3] / "docs/configuration.md"
_READ = set(re.findall(r"^\| `(APP_\w+)`", _CONFIGURATION.read_text(encoding="utf-8"), re.MULTILINE))
_EXCLUDED = set(" %+~`#$&*()|[]{}:;<>?!'/@\"\\")
# Exists in the image of Lambda, but possibly not on this machine.
_LAMBDA_CA_BUNDLE = "/etc/pki/tls/certs/ca-bundle.crt"


@dataclass(frozen=True, slots=True)
class Deployed:
    """An environment whose stacks have been deployed."""

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
        """The value of a secret."""
        found = client("secretsmanager").get_secret_value(SecretId=self.secret(name))
        value = json.loads(found["SecretString"])
        assert isinstance(value, dict)
        return value

    def parameters(self) -> dict[str, str]:
        """The SSM parameters of the database stack, by the last part of their names."""
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
    """A simulated account for all environments of this module."""
    with simulated_aws():
        yield


@pytest.fixture(scope="module")
def templates() -> Templates:
    """The templates of dev."""
    return templates_of("dev", {"account": ACCOUNT})


@pytest.fixture(scope="module")
def dev(aws: None) -> Deployed:  # noqa: ARG001 starts the simulated AWS
    """The development environment."""
    return _deployed("dev", {})


@pytest.fixture(scope="module")
def monitored(aws: None) -> Deployed:  # noqa: ARG001 starts the simulated AWS
    """An environment with Datadog, Database Monitoring and NAT gateways."""
    return _deployed("staging", DATADOG)


@pytest.fixture(scope="module")
def proxied(aws: None) -> Deployed:  # noqa: ARG001 starts the simulated AWS
    """The production environment with RDS Proxy."""
    return _deployed("prod", PROXY)


def _deployed(name: str, changes: Mapping[str, Any]) -> Deployed:
    changes = {**changes, "account": ACCOUNT}
    config, synthesised = config_of(name, changes), templates_of(name, changes)
    outputs = deploy(f"{config.prefix}-database", synthesised.database.body)
    deploy(f"{config.prefix}-application", synthesised.application.body)
    return Deployed(config, outputs)


def test_outputs_are_the_variables_that_they_describe(dev: Deployed) -> None:
    """The description of each `AppDatabase…` output is a variable; together they are valid settings of the package."""
    outputs = {each["OutputKey"]: each for each in dev.outputs}
    described = {
        outputs[f"AppDatabase{name}"]["Description"]: outputs[f"AppDatabase{name}"]["OutputValue"] for name in _OUTPUTS
    }
    settings = DatabaseSettings.from_env({"APP_ENVIRONMENT": "dev", **described})
    assert described.keys() == {f"APP_DATABASE_{name}" for name in ("HOST", "PORT", "NAME", "SECRET_ARN", "SSLMODE")}
    _assert_reaches(settings, dev, secret="application")


def test_stack_has_no_other_outputs(dev: Deployed) -> None:
    """The only other output is the name of the migration function."""
    outputs = {each["OutputKey"]: each["OutputValue"] for each in dev.outputs}
    assert outputs.keys() == {*(f"AppDatabase{name}" for name in _OUTPUTS), "MigrateFunctionName"}
    assert outputs["MigrateFunctionName"] == dev.function("migrate")["FunctionName"]


def test_parameters_are_the_same_settings(dev: Deployed) -> None:
    """The SSM parameters, under the names of the variables, are valid settings of the package."""
    parameters = dev.parameters()
    assert dev.config.aurora is not None
    assert parameters.keys() == {*published_parameters(dev.config.aurora)}
    environ = {
        f"APP_DATABASE_{name.upper()}": parameters[name] for name in ("host", "port", "name", "secret_arn", "sslmode")
    }
    _assert_reaches(DatabaseSettings.from_env({"APP_ENVIRONMENT": "dev", **environ}), dev, secret="application")
    assert parameters["key_arn"] == dev.key
    assert parameters["security_group_id"] == _one(dev.cluster["VpcSecurityGroups"])["VpcSecurityGroupId"]


_FUNCTIONS = ("service", "migrate", "rotate-cluster", "rotate-application")
_SECRETS = [
    *(("service", "application"), ("migrate", "cluster")),
    *(("rotate-cluster", "cluster"), ("rotate-application", "application")),
]


@pytest.mark.parametrize(("function", "secret"), _SECRETS)
def test_functions_have_the_environment_that_the_package_reads(dev: Deployed, function: str, secret: str) -> None:
    """The variables of each function are settings for the cluster, with the secret of the function."""
    environ = dev.environment(function)
    _assert_reaches(DatabaseSettings.from_env(environ), dev, secret=secret)
    assert environ["APP_ENVIRONMENT"] == "dev"


@pytest.mark.parametrize("environment", ["dev", "monitored", "proxied"])
@pytest.mark.parametrize("function", _FUNCTIONS)
def test_functions_have_no_unknown_variable(request: pytest.FixtureRequest, environment: str, function: str) -> None:
    """Each variable is known to the package, or belongs to Datadog, to the rotation function or to the pages."""
    environ = request.getfixturevalue(environment).environment(function)
    others = {_ROTATION_ADMIN} | ({"SIGNUP_SECRET", "SIGNUP_URL"} if function == "service" else set())
    assert {name for name in environ if not name.startswith("DD_")} - others <= _READ


def test_migrations_have_the_variables_of_bootstrap(dev: Deployed) -> None:
    """The migration function has the owner role and the application's secret; without Datadog, no monitoring secret."""
    environ = dev.environment("migrate")
    assert environ[_OWNER_ROLE] == "registration_owner"
    assert environ[_APPLICATION_SECRET] == dev.secret("application")
    assert _MONITORING_SECRET not in environ


@pytest.mark.parametrize("function", _FUNCTIONS)
def test_functions_can_connect(dev: Deployed, function: str) -> None:
    """The security groups allow each function to connect to the cluster and to Secrets Manager."""
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
@pytest.mark.parametrize("function", _FUNCTIONS)
def test_functions_may_read_only_their_secrets(request: pytest.FixtureRequest, environment: str, function: str) -> None:
    """The role of a function allows it to read and decrypt the secrets in its environment, and no others."""
    deployed = request.getfixturevalue(environment)
    given = {value for name, value in deployed.environment(function).items() if name.endswith("SECRET_ARN")}
    allowed = _allowed(deployed.function(function)["Role"])
    assert allowed["secretsmanager:GetSecretValue"] == given
    assert allowed["kms:Decrypt"] == {deployed.key}


@pytest.mark.parametrize(("name", "username"), [("cluster", "registration_admin"), ("application", "registration_app")])
def test_secrets_have_the_form_that_rotation_needs(dev: Deployed, name: str, username: str) -> None:
    """A secret contains login, address and TLS; its password is safe in URLs; it is encrypted with the key."""
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
    """With the environment of a function, the package reads the login from Secrets Manager."""
    settings = DatabaseSettings.from_env(dev.environment(function))
    assert settings.secret_arn is not None
    read = Database(settings).credentials.current()
    value = dev.value("application" if function == "service" else "cluster")
    assert (read.username, read.password) == (value["username"], value["password"])


def test_administrator_comes_from_the_secret(dev: Deployed) -> None:
    """The cluster is created with the login of its secret; the two secrets have different passwords."""
    assert dev.cluster["MasterUsername"] == dev.value("cluster")["username"]
    assert dev.value("cluster")["password"] != dev.value("application")["password"]


def test_cluster_matches_the_file(dev: Deployed) -> None:
    """The cluster has the engine, capacity, encryption, backups and tags of the environment."""
    cluster = dev.cluster
    assert (cluster["Engine"], cluster["EngineVersion"]) == ("aurora-postgresql", "18.4")
    assert cluster["ServerlessV2ScalingConfiguration"] == {"MinCapacity": 0.5, "MaxCapacity": 1.0}
    assert (cluster["StorageEncrypted"], cluster["KmsKeyId"]) == (True, dev.key)
    assert (cluster["BackupRetentionPeriod"], cluster["CopyTagsToSnapshot"]) == (1, True)
    assert {"Key": "backup", "Value": "enabled"} in cluster["TagList"]
    assert cluster["DeletionProtection"] is False
    assert cluster["DatabaseName"] == "registrations"


def test_cluster_requires_tls(dev: Deployed) -> None:
    """The parameter group of the cluster requires TLS."""
    group = dev.cluster["DBClusterParameterGroup"]
    found = client("rds").describe_db_cluster_parameters(DBClusterParameterGroupName=group)["Parameters"]
    assert {each["ParameterName"]: each["ParameterValue"] for each in found}["rds.force_ssl"] == "1"


def test_writer_is_serverless_and_private(dev: Deployed) -> None:
    """The cluster has one instance, the writer, which is not public."""
    (member,) = dev.cluster["DBClusterMembers"]
    assert member["IsClusterWriter"]
    found = client("rds").describe_db_instances(DBInstanceIdentifier=member["DBInstanceIdentifier"])
    writer = _one(found["DBInstances"])
    assert (writer["DBInstanceClass"], writer["Engine"]) == ("db.serverless", "aurora-postgresql")
    assert writer["PubliclyAccessible"] is False


def test_protection_and_retention_follow_the_file(proxied: Deployed) -> None:
    """Production is protected from deletion, and keeps backups for a week."""
    cluster = proxied.cluster
    assert (cluster["DeletionProtection"], cluster["BackupRetentionPeriod"]) == (True, 7)


def test_alarms_watch_the_cluster_and_point_to_the_topic(dev: Deployed) -> None:
    """Every alarm notifies the topic at start and end, and is on a metric of the cluster or the migrations."""
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


def test_topic_is_encrypted_and_accepts_its_sources(dev: Deployed) -> None:
    """The topic is encrypted with the key of the database, and only the alarm sources of the account may publish."""
    attributes = client("sns").get_topic_attributes(TopicArn=dev.topic)["Attributes"]
    assert attributes["KmsMasterKeyId"] == dev.key
    (allowed,) = (each for each in json.loads(attributes["Policy"])["Statement"] if each["Effect"] == "Allow")
    assert {*allowed["Principal"]["Service"]} == {"cloudwatch.amazonaws.com", "events.rds.amazonaws.com"}
    assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def test_events_are_sent_to_the_topic(dev: Deployed) -> None:
    """The topic gets the events of the cluster and the writer, and failed rotations of both secrets."""
    subscriptions = client("rds").describe_event_subscriptions()["EventSubscriptionsList"]
    sources = {each["SourceType"]: each["SourceIdsList"] for each in subscriptions if each["SnsTopicArn"] == dev.topic}
    assert sources == {"db-cluster": ["registration-dev"], "db-instance": ["registration-dev-writer"]}
    events = client("events")
    rules = events.list_rule_names_by_target(TargetArn=dev.topic)["RuleNames"]
    (name,) = (each for each in rules if "FailedRotation" in each)
    assert len(rules) == 2  # and the announcements of AWS Health
    (target,) = events.list_targets_by_rule(Rule=name)["Targets"]
    assert target["RoleArn"].startswith(f"arn:aws:iam::{ACCOUNT}:role/")
    pattern = json.loads(events.describe_rule(Name=name)["EventPattern"])
    assert {*pattern["detail"]["additionalEventData"]["SecretId"]} == {
        dev.secret("cluster"),
        dev.secret("application"),
    }


def test_monitoring_has_its_own_login(monitored: Deployed) -> None:
    """With Database Monitoring, the migrations have a third secret, with the address and Datadog's user."""
    arn = monitored.environment("migrate")[_MONITORING_SECRET]
    value = monitored.value("monitoring")
    assert arn == monitored.secret("monitoring")
    assert (value["username"], value["ssl"], value["host"]) == ("datadog", True, monitored.cluster["Endpoint"])
    read = Database(DatabaseSettings(host="unused", name="unused", secret_arn=arn)).credentials.current()
    assert (read.username, read.password) == ("datadog", value["password"])
    assert _MONITORING_SECRET not in monitored.environment("service")


@pytest.mark.parametrize(("function", "secret"), [("service", "application"), ("migrate", "cluster")])
def test_datadog_does_not_change_the_settings(monitored: Deployed, function: str, secret: str) -> None:
    """The variables of a traced function are settings for the cluster of its own environment."""
    _assert_reaches(DatabaseSettings.from_env(monitored.environment(function)), monitored, secret=secret)


def test_application_uses_the_proxy(proxied: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With RDS Proxy, the application has the address, certificates and pool of the proxy; the migrations do not."""
    monkeypatch.setattr("registration_persistence.database.tls_rules._is_file", lambda name: name == _LAMBDA_CA_BUNDLE)
    found = client("rds").describe_db_proxies(DBProxyName="registration-prod")["DBProxies"]
    settings = DatabaseSettings.from_env(proxied.environment("service"))
    assert (settings.host, settings.port, settings.pool) == (_one(found)["Endpoint"], 5432, "proxy")
    assert (settings.sslmode, settings.ssl_root_cert) == ("verify-full", _LAMBDA_CA_BUNDLE)
    assert settings.secret_arn == proxied.secret("application")
    _assert_reaches(DatabaseSettings.from_env(proxied.environment("migrate")), proxied, secret="cluster")


def test_proxy_logs_in_as_the_application(proxied: Deployed) -> None:
    """The proxy requires TLS, may read and decrypt the application's secret, and can connect to the cluster."""
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
def test_existing_database_comes_from_the_file(host: str, sslmode: str) -> None:
    """With an existing database there is one stack, whose function has the values of the file."""
    changes = _in_existing_network(host)
    config, synthesised = config_of("dev", changes), templates_of("dev", changes)
    (stack,) = synthesised.stacks
    function = synthesised.application.one("Lambda::Function")
    body = deepcopy(synthesised.application.body)
    for logical_id, resource in body["Resources"].items():  # the names of `dev` are taken
        if resource["Type"] == "AWS::Lambda::Function":
            resource["Properties"]["FunctionName"] = f"existing-{sslmode}"
        if resource["Type"] == "AWS::Logs::LogGroup":
            resource["Properties"]["LogGroupName"] = f"/aws/{logical_id}/existing-{sslmode}"
        if resource["Type"] == "AWS::SecretsManager::Secret":
            resource["Properties"]["Name"] = f"existing/{sslmode}"
    deploy(f"existing-{sslmode}", body)
    environ = client("lambda").get_function_configuration(FunctionName=f"existing-{sslmode}")["Environment"][
        "Variables"
    ]
    settings = DatabaseSettings.from_env(environ)
    assert (stack, function["FunctionName"]) == ("registration-dev-application", "registration-dev-service")
    assert config.existing is not None
    assert (settings.host, settings.port, settings.name) == (host, 5433, "registrations")
    assert (settings.secret_arn, settings.sslmode) == (config.existing.secret_arn, sslmode)
    assert (settings.root_certificate is not None) == (sslmode == "verify-full")
    assert environ.keys() - {"SIGNUP_SECRET", "SIGNUP_URL"} <= _READ


@pytest.mark.usefixtures("aws")
def test_unknown_type_is_an_error() -> None:
    """A resource type that cannot be simulated is an error, although moto only warns."""
    with pytest.raises(ResourceRejected, match="AWS::Backup::BackupPlan: neither moto nor a shim"):
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
def test_wrong_property_is_an_error(kind: str, change: Mapping[str, Any], problem: str) -> None:
    """A property with an unknown name or a wrong type is an error, also for resources that moto itself creates."""
    with pytest.raises(ResourceRejected, match=problem):
        deploy(f"wrong-{'-'.join(change)}", {"Resources": {"It": {"Type": f"AWS::{kind}", "Properties": {**change}}}})


@pytest.mark.usefixtures("aws")
def test_value_that_only_the_api_rejects() -> None:
    """A value that the schema of CloudFormation allows is still rejected if the API does not take it."""
    alarm = {"MetricName": "CPUUtilization", "EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanThreshold"}
    problem = {**alarm, "AlarmName": "x", "Statistic": "Average", "Period": 60, "Threshold": "much"}
    with pytest.raises((ParamValidationError, ResourceRejected), match="much"):
        deploy("rejected", {"Resources": {"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": problem}}})


@pytest.mark.usefixtures("aws")
def test_missing_parameter_is_an_error(templates: Templates) -> None:
    """An application cannot be deployed before its database, because the parameters do not exist."""
    text = json.dumps(templates.application.body).replace("/registration/dev/", "/registration/nowhere/")
    with pytest.raises(AttributeError, match="value"):  # moto found no parameter
        deploy("missing", json.loads(text))


def _in_existing_network(host: str) -> dict[str, Any]:
    """Create a VPC, and return the changes of an environment file with an existing database in it."""
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
    sslmode = None if host.endswith(".rds.amazonaws.com") else "require"
    return {
        **EXISTING,
        "account": ACCOUNT,
        "existing": {**EXISTING["existing"], "host": host, "sslmode": sslmode, "security_group_id": database},
        "network": {"vpc_id": vpc, "subnet_ids": subnets, "secrets_endpoint_security_group_id": endpoint},
    }


def _assert_reaches(settings: DatabaseSettings, deployed: Deployed, *, secret: str) -> None:
    """Check that *settings* have the address of the deployed cluster, the secret *secret*, and a certificate."""
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
    """Return the peers and ports of the rules of a security group."""
    found = _one(client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"])
    return {(pair["GroupId"], rule["FromPort"]) for rule in found[direction] for pair in rule["UserIdGroupPairs"]}


def _allowed(role: str) -> dict[str, set[str]]:
    """Return the resources that a role is allowed to use, by action."""
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
