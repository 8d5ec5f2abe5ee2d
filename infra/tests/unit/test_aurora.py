"""The cluster: capacity, encryption, TLS, backups, and what becomes of the data."""

from typing import Any

import pytest
from app import build_app
from aws_cdk import Stack
from templates import EVERYTHING, PROXY, VARIANTS, Template, config_of, templates_of, text_of

ENVIRONMENTS = ("dev", "staging", "prod")


def database(name: str, **aurora: object) -> Template:
    """Return the template of the database of *name*, with *aurora* in place of what its file says."""
    return templates_of(name, {"aurora": aurora} if aurora else {}).database


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_cluster_is_serverless_between_half_and_one_acu(name: str) -> None:
    """So it is in every environment that is shipped: Aurora PostgreSQL 16, one writer, both private."""
    template = database(name)
    cluster, writer = template.one("RDS::DBCluster"), template.one("RDS::DBInstance")

    assert {"MinCapacity": 0.5, "MaxCapacity": 1} == cluster["ServerlessV2ScalingConfiguration"]
    assert ("aurora-postgresql", "16.13") == (cluster["Engine"], cluster["EngineVersion"])
    assert (f"registration-{name}", "registrations", 5432) == (
        cluster["DBClusterIdentifier"],
        cluster["DatabaseName"],
        cluster["Port"],
    )
    assert ("db.serverless", f"registration-{name}-writer", False) == (
        writer["DBInstanceClass"],
        writer["DBInstanceIdentifier"],
        writer["PubliclyAccessible"],
    )


def test_capacity_is_what_the_file_says() -> None:
    """Other capacities, and a pause where the least is none."""
    larger = database("dev", min_capacity=2, max_capacity=8).one("RDS::DBCluster")
    pausing = database("dev", min_capacity=0, auto_pause_seconds=600).one("RDS::DBCluster")

    assert {"MinCapacity": 2, "MaxCapacity": 8} == larger["ServerlessV2ScalingConfiguration"]
    assert {"MinCapacity": 0, "MaxCapacity": 1, "SecondsUntilAutoPause": 600} == pausing[
        "ServerlessV2ScalingConfiguration"
    ]


def test_readers_are_as_many_as_the_file_says() -> None:
    """Each has its name; the first is the one to take over, and as large as the writer."""
    instances = database("staging", readers=2).all("RDS::DBInstance").values()

    tiers = {instance["DBInstanceIdentifier"]: instance["PromotionTier"] for instance in instances}
    assert {
        "registration-staging-writer": 0,
        "registration-staging-reader-1": 1,
        "registration-staging-reader-2": 2,
    } == tiers
    assert {"db.serverless"} == {instance["DBInstanceClass"] for instance in instances}
    assert {False} == {instance["PubliclyAccessible"] for instance in instances}


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "existing"])
def test_everything_at_rest_has_the_key(variant: str) -> None:
    """Storage, secrets, logs, messages, insights and the vault are encrypted with the one key, which rotates."""
    template = templates_of(*VARIANTS[variant]).database
    ((key, properties),) = template.all("KMS::Key").items()
    arn = f"{{{key}.Arn}}"

    assert properties["EnableKeyRotation"] is True
    cluster = template.one("RDS::DBCluster")
    assert (True, arn) == (cluster["StorageEncrypted"], text_of(cluster["KmsKeyId"]))
    for kind, name in (
        ("SecretsManager::Secret", "KmsKeyId"),
        ("Logs::LogGroup", "KmsKeyId"),
        ("SNS::Topic", "KmsMasterKeyId"),
        ("Backup::BackupVault", "EncryptionKeyArn"),
    ):
        found = template.all(kind)
        assert {arn} >= {text_of(resource[name]) for resource in found.values()}, kind
        assert found or kind == "Backup::BackupVault"
    insights = [one for one in template.all("RDS::DBInstance").values() if one.get("EnablePerformanceInsights")]
    assert {arn} >= {text_of(instance["PerformanceInsightsKMSKeyId"]) for instance in insights}
    assert bool(insights) == (variant == "everything")


def test_the_central_account_can_read_with_the_key_where_there_is_one() -> None:
    """It may decrypt and have grants made for AWS's services, and change nothing; without it, nobody else may."""
    policy = templates_of("prod", EVERYTHING).database.one("KMS::Key")["KeyPolicy"]["Statement"]
    central = [one for one in policy if text_of(one["Principal"].get("AWS", "")).find("999999999999") >= 0]

    use, grants = sorted(central, key=lambda one: str(one["Sid"]))
    assert ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*", "kms:ReEncrypt*"] == use["Action"]
    assert {"Bool": {"kms:GrantIsForAWSResource": "true"}} == grants["Condition"]
    assert ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"] == grants["Action"]
    own = templates_of("prod").database.one("KMS::Key")["KeyPolicy"]["Statement"]
    assert {"arn:aws:iam::333333333333:root"} == {
        text_of(one["Principal"]["AWS"]) for one in own if "AWS" in one["Principal"]
    }


def test_services_use_the_key_for_logs_and_alarms() -> None:
    """CloudWatch Logs for the groups of this environment, and those that send alarms to the encrypted topic."""
    statements = database("dev").one("KMS::Key")["KeyPolicy"]["Statement"]

    logs, alarms = (one for one in statements if "Service" in one["Principal"])
    groups = text_of(logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"])
    assert groups.endswith(":log-group:/*/registration-dev*")
    assert ["cloudwatch.amazonaws.com", "events.amazonaws.com", "events.rds.amazonaws.com"] == alarms["Principal"][
        "Service"
    ]
    assert ["kms:Decrypt", "kms:GenerateDataKey*"] == alarms["Action"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_tls_is_forced(name: str) -> None:
    """By the parameter, and with a certificate of the authority that the package ships."""
    template = database(name)

    assert template.one("RDS::DBClusterParameterGroup")["Parameters"]["rds.force_ssl"] == "1"
    assert {"rds-ca-rsa2048-g1"} == {
        instance["CACertificateIdentifier"] for instance in template.all("RDS::DBInstance").values()
    }
    assert database("dev", force_ssl=False).one("RDS::DBClusterParameterGroup")["Parameters"]["rds.force_ssl"] == "0"


def test_parameters_show_statements_and_not_what_people_typed() -> None:
    """Slow statements are logged without their values; Datadog gets what it asks for; no time limit hits migrations."""
    group = database("dev").one("RDS::DBClusterParameterGroup")

    assert ("registration-dev-16", "aurora-postgresql16") == (group["DBClusterParameterGroupName"], group["Family"])
    assert {
        "rds.force_ssl": "1",
        "log_min_duration_statement": "1000",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.max": "10000",
        "pg_stat_statements.track": "ALL",
        "track_activity_query_size": "4096",
        "track_io_timing": "1",
    } == group["Parameters"]


@pytest.mark.parametrize(("name", "days"), [("dev", 1), ("staging", 1), ("prod", 7)])
def test_backups_are_daily(name: str, days: int) -> None:
    """With point-in-time recovery over as many days as the file says, before maintenance, tags copied."""
    cluster = database(name).one("RDS::DBCluster")

    assert (days, True) == (cluster["BackupRetentionPeriod"], cluster["CopyTagsToSnapshot"])
    assert ("02:00-02:30", "sun:03:00-sun:04:00") == (
        cluster["PreferredBackupWindow"],
        cluster["PreferredMaintenanceWindow"],
    )
    assert database(name).one("RDS::DBInstance")["PreferredMaintenanceWindow"] == "sun:03:00-sun:04:00"
    assert database(name, backup_retention_days=35).one("RDS::DBCluster")["BackupRetentionPeriod"] == 35


def tags_of(properties: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the tags of a resource, whichever of the two forms they have."""
    tags = properties.get("Tags", [])
    return list(tags.items()) if isinstance(tags, dict) else [(tag["Key"], tag["Value"]) for tag in tags]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_tag_for_the_central_backup_is_on_the_cluster_and_nothing_else(variant: str) -> None:
    """`backup: enabled`, once; a plan by tag would back up whatever else had it."""
    tagged = [
        resource["Type"]
        for template in templates_of(*VARIANTS[variant]).stacks.values()
        for resource in template.body["Resources"].values()
        if ("backup", "enabled") in tags_of(resource.get("Properties", {}))
    ]

    assert ([] if variant == "existing" else ["AWS::RDS::DBCluster"]) == tagged


@pytest.mark.parametrize(
    ("name", "removal", "policy"),
    [
        ("dev", None, "Delete"),
        ("staging", None, "Snapshot"),
        ("prod", None, "Snapshot"),
        ("staging", "snapshot", "Snapshot"),
    ],
)
def test_the_data_outlives_the_stack_where_the_file_says_so(name: str, removal: str | None, policy: str) -> None:
    """A final snapshot outside dev, with the key and the secrets that it takes to read it."""
    template = database(name, **({"removal": removal} if removal else {}))

    assert policy == template.resource("RDS::DBCluster")["DeletionPolicy"]
    # Not where the first deployment fails, or the next one would find their names taken.
    kept = "Delete" if policy == "Delete" else "RetainExceptOnCreate"
    for kind in ("KMS::Key", "SecretsManager::Secret", "Logs::LogGroup"):
        assert {kept} == {
            resource["DeletionPolicy"]
            for resource in template.body["Resources"].values()
            if resource["Type"] == f"AWS::{kind}"
        }, kind


@pytest.mark.parametrize(("name", "protected"), [("dev", False), ("staging", True), ("prod", True)])
def test_what_is_protected_cannot_be_deleted(name: str, protected: bool) -> None:  # noqa: FBT001 of the table
    """Neither the cluster, which AWS refuses to delete, nor its stack."""
    assert protected is database(name).one("RDS::DBCluster")["DeletionProtection"]
    (stack,) = (
        one
        for one in build_app(config_of(name), require_layer=False).node.children
        if one.node.id.endswith("-database")
    )
    assert isinstance(stack, Stack)
    assert protected is stack.termination_protection


def test_a_plan_of_our_own_backs_up_what_has_the_tag() -> None:
    """Every day at four, kept and copied as the file says; without it there is no plan."""
    template = templates_of("prod", EVERYTHING).database
    (rule,) = template.one("Backup::BackupPlan")["BackupPlan"]["BackupPlanRule"]
    selection = template.one("Backup::BackupSelection")["BackupSelection"]

    assert ("cron(0 4 * * ? *)", {"DeleteAfterDays": 35}) == (rule["ScheduleExpression"], rule["Lifecycle"])
    (copy,) = rule["CopyActions"]
    assert copy["DestinationBackupVaultArn"] == "arn:aws:backup:eu-west-1:999999999999:backup-vault:central"
    assert [{"ConditionKey": "backup", "ConditionType": "STRINGEQUALS", "ConditionValue": "enabled"}] == selection[
        "ListOfTags"
    ]
    assert {} == database("prod").all("Backup::BackupPlan")


def test_logs_of_the_cluster_end() -> None:
    """Their group is there before the cluster, which would otherwise make one that never ends."""
    template = templates_of("dev", {"log_retention_days": 30}).database
    ((name, group),) = (
        (name, group) for name, group in template.all("Logs::LogGroup").items() if name.startswith("Aurora")
    )

    assert ("/aws/rds/cluster/registration-dev/postgresql", 30) == (group["LogGroupName"], group["RetentionInDays"])
    assert template.one("RDS::DBCluster")["EnableCloudwatchLogsExports"] == ["postgresql"]
    assert name in template.resource("RDS::DBCluster")["DependsOn"]
    assert {30} == {group["RetentionInDays"] for group in template.all("Logs::LogGroup").values()}


def test_the_proxy_speaks_tls_alone_and_knows_the_applications_secret() -> None:
    """And its address is the application's, with a pool that keeps nothing."""
    templates = templates_of("staging", PROXY)
    proxy = templates.database.one("RDS::DBProxy")
    ((name, _),) = templates.database.all("RDS::DBProxy").items()

    assert (True, "POSTGRESQL") == (proxy["RequireTLS"], proxy["EngineFamily"])
    pool = templates.database.one("RDS::DBProxyTargetGroup")["ConnectionPoolConfigurationInfo"]
    assert pool["MaxConnectionsPercent"] == 91  # of 189, so that 17 stay in reserve
    (auth,) = proxy["Auth"]
    assert ("POSTGRES_SCRAM_SHA_256", "DISABLED") == (auth["ClientPasswordAuthType"], auth["IAMAuth"])
    assert text_of(auth["SecretArn"]).startswith("{ApplicationSecret")
    assert f"{{{name}.Endpoint}}" == text_of(templates.database.named("SSM::Parameter", "ParameterHost")["Value"])
    variables = templates.application.one("Lambda::Function")["Environment"]["Variables"]
    assert ("proxy", "/etc/pki/tls/certs/ca-bundle.crt") == (
        variables["APP_DATABASE_POOL"],
        variables["APP_DATABASE_SSL_ROOT_CERT"],
    )
    assert {} == database("staging").all("RDS::DBProxy")


def test_migrations_do_not_go_through_the_proxy() -> None:
    """A proxy would lose the lock that keeps two of them apart."""
    variables = templates_of("staging", PROXY).database.named("Lambda::Function", "Migrations")["Environment"][
        "Variables"
    ]

    assert text_of(variables["APP_DATABASE_HOST"]).startswith("{AuroraCluster")
    assert "APP_DATABASE_POOL" not in variables


def test_the_application_is_deleted_before_the_database() -> None:
    """While it is there, its network interfaces and rules hold the groups and subnets of the database."""
    app = build_app(config_of("dev"), require_layer=False, run_checks=False)
    stacks = {stack.node.id: stack for stack in app.node.children if isinstance(stack, Stack)}

    assert ["registration-dev-database"] == [
        each.node.id for each in stacks["registration-dev-application"].dependencies
    ]
