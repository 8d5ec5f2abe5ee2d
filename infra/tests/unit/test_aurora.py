"""`registration_infra.constructs.aurora`: capacity, TLS, parameters, backups and removal of the cluster."""

import pytest
from templates import Template, templates_of

ENVIRONMENTS = ("dev", "staging", "prod")


def database(name: str, **aurora: object) -> Template:
    """Return the database template of the environment *name*, with changes to its table `[aurora]`."""
    return templates_of(name, {"aurora": aurora} if aurora else {}).database


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_cluster_is_serverless_with_half_to_one_acu(name: str) -> None:
    """Each environment has Aurora PostgreSQL 18 with one private writer of 0.5 to 1 ACU."""
    template = database(name)
    cluster, writer = template.one("RDS::DBCluster"), template.one("RDS::DBInstance")

    assert {"MinCapacity": 0.5, "MaxCapacity": 1} == cluster["ServerlessV2ScalingConfiguration"]
    assert ("aurora-postgresql", "18.4") == (cluster["Engine"], cluster["EngineVersion"])
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


def test_capacity_comes_from_the_file() -> None:
    """The file sets the capacities, and the pause if the minimum is 0."""
    larger = database("dev", min_capacity=2, max_capacity=8).one("RDS::DBCluster")
    pausing = database("dev", min_capacity=0, auto_pause_seconds=600).one("RDS::DBCluster")

    assert {"MinCapacity": 2, "MaxCapacity": 8} == larger["ServerlessV2ScalingConfiguration"]
    assert {"MinCapacity": 0, "MaxCapacity": 1, "SecondsUntilAutoPause": 600} == pausing[
        "ServerlessV2ScalingConfiguration"
    ]


def test_readers_come_from_the_file() -> None:
    """Each reader has a name and a promotion tier; the first takes over and scales with the writer."""
    instances = database("staging", readers=2).all("RDS::DBInstance").values()

    tiers = {instance["DBInstanceIdentifier"]: instance["PromotionTier"] for instance in instances}
    assert {
        "registration-staging-writer": 0,
        "registration-staging-reader-1": 1,
        "registration-staging-reader-2": 2,
    } == tiers
    assert {"db.serverless"} == {instance["DBInstanceClass"] for instance in instances}
    assert {False} == {instance["PubliclyAccessible"] for instance in instances}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_tls_is_required(name: str) -> None:
    """The parameter requires TLS, and the certificate comes from the authority that the package trusts."""
    template = database(name)

    assert template.one("RDS::DBClusterParameterGroup")["Parameters"]["rds.force_ssl"] == "1"
    assert {"rds-ca-rsa2048-g1"} == {
        instance["CACertificateIdentifier"] for instance in template.all("RDS::DBInstance").values()
    }
    assert database("dev", force_ssl=False).one("RDS::DBClusterParameterGroup")["Parameters"]["rds.force_ssl"] == "0"


def test_parameters_log_statements_without_values() -> None:
    """Slow statements are logged without values, Datadog's parameters are set, and no timeout affects migrations."""
    group = database("dev").one("RDS::DBClusterParameterGroup")

    assert ("registration-dev-18", "aurora-postgresql18") == (group["DBClusterParameterGroupName"], group["Family"])
    assert {
        "rds.force_ssl": "1",
        "log_min_duration_statement": "1000",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_connections": "all",
        "log_disconnections": "1",
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.max": "10000",
        "pg_stat_statements.track": "ALL",
        "pg_stat_statements.track_utility": "0",
        "track_activity_query_size": "4096",
        "track_io_timing": "1",
    } == group["Parameters"]


@pytest.mark.parametrize(
    ("version", "logged"), [("15.7", "1"), ("16.13", "1"), ("17.9", "1"), ("18.3", "all"), ("18.4", "all")]
)
def test_logins_are_logged_with_the_value_of_the_version(version: str, logged: str) -> None:
    """The parameter is a boolean before PostgreSQL 18, and a list of stages since; each version has its own group."""
    group = database("dev", engine_version=version).one("RDS::DBClusterParameterGroup")
    major = version.partition(".")[0]

    assert logged == group["Parameters"]["log_connections"]
    assert (f"registration-dev-{major}", f"aurora-postgresql{major}") == (
        group["DBClusterParameterGroupName"],
        group["Family"],
    )


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_extended_support_is_off_by_default(name: str) -> None:
    """AWS charges for Extended Support, so it is off unless the file turns it on."""
    lifecycle = database(name).one("RDS::DBCluster")["EngineLifecycleSupport"]

    assert lifecycle == "open-source-rds-extended-support-disabled"
    if name == "dev":
        extended = database(name, extended_support=True).one("RDS::DBCluster")
        assert extended["EngineLifecycleSupport"] == "open-source-rds-extended-support"


@pytest.mark.parametrize(("name", "days"), [("dev", 1), ("staging", 1), ("prod", 7)])
def test_backup_retention_and_windows(name: str, days: int) -> None:
    """The file sets the retention; the backup comes before the maintenance; snapshots get the tags."""
    cluster = database(name).one("RDS::DBCluster")

    assert (days, True) == (cluster["BackupRetentionPeriod"], cluster["CopyTagsToSnapshot"])
    assert ("02:00-02:30", "sun:03:00-sun:04:00") == (
        cluster["PreferredBackupWindow"],
        cluster["PreferredMaintenanceWindow"],
    )
    assert database(name).one("RDS::DBInstance")["PreferredMaintenanceWindow"] == "sun:03:00-sun:04:00"
    assert database(name, backup_retention_days=35).one("RDS::DBCluster")["BackupRetentionPeriod"] == 35


@pytest.mark.parametrize(
    ("name", "removal", "policy"),
    [
        ("dev", None, "Delete"),
        ("staging", None, "Snapshot"),
        ("prod", None, "Snapshot"),
        ("staging", "snapshot", "Snapshot"),
    ],
)
def test_removal_policy_comes_from_the_file(name: str, removal: str | None, policy: str) -> None:
    """Outside dev, a final snapshot is kept, with the key, the secrets and the logs."""
    template = database(name, **({"removal": removal} if removal else {}))

    assert policy == template.resource("RDS::DBCluster")["DeletionPolicy"]
    # Not if the first deployment fails, because the next one would find the names taken.
    kept = "Delete" if policy == "Delete" else "RetainExceptOnCreate"
    for kind in ("KMS::Key", "SecretsManager::Secret", "Logs::LogGroup"):
        assert {kept} == {
            resource["DeletionPolicy"]
            for resource in template.body["Resources"].values()
            if resource["Type"] == f"AWS::{kind}"
        }, kind


def test_cluster_log_has_a_retention_period() -> None:
    """The log group is created before the cluster, because RDS would create one without a retention period."""
    template = templates_of("dev", {"log_retention_days": 30}).database
    ((name, group),) = (
        (name, group) for name, group in template.all("Logs::LogGroup").items() if name.startswith("Aurora")
    )

    assert ("/aws/rds/cluster/registration-dev/postgresql", 30) == (group["LogGroupName"], group["RetentionInDays"])
    assert template.one("RDS::DBCluster")["EnableCloudwatchLogsExports"] == ["postgresql"]
    assert name in template.resource("RDS::DBCluster")["DependsOn"]
    assert {30} == {group["RetentionInDays"] for group in template.all("Logs::LogGroup").values()}
