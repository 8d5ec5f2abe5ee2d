"""The Aurora Serverless v2 cluster (PostgreSQL)."""

from aws_cdk import Duration, RemovalPolicy, Tags
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.config import BACKUP_TAG, AuroraConfig
from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.logs import encrypted_log_group
from registration_infra.constructs.network import closed_security_group

_REMOVAL_POLICIES = {"snapshot": RemovalPolicy.SNAPSHOT, "destroy": RemovalPolicy.DESTROY}
_LIFECYCLES = {
    True: rds.EngineLifecycleSupport.OPEN_SOURCE_RDS_EXTENDED_SUPPORT,
    False: rds.EngineLifecycleSupport.OPEN_SOURCE_RDS_EXTENDED_SUPPORT_DISABLED,
}
# UTC. The backup comes first, so that it has finished before the maintenance window.
_BACKUP_WINDOW = "02:00-02:30"
_MAINTENANCE_WINDOW = "sun:03:00-sun:04:00"
_FIRST_MAJOR_VERSION_WITH_LOGIN_STAGES = 18


class Aurora(Construct):
    """A private, encrypted cluster with a writer and a configurable number of readers.

    All resources have explicit names, so that a restored cluster can replace the original under the same endpoint.

    Attributes:
        cluster: The cluster.
        security_group: The security group of the cluster. It allows no traffic until a rule is added.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, context: DatabaseContext, secret: secretsmanager.ISecret
    ) -> None:
        super().__init__(scope, construct_id)
        self._context = context
        self._aurora = context.aurora
        self._name = context.config.prefix
        self._engine = rds.DatabaseClusterEngine.aurora_postgres(
            version=rds.AuroraPostgresEngineVersion.of(self._aurora.engine_version, self._aurora.major_version)
        )
        self.security_group = closed_security_group(self, "SecurityGroup", context.network.vpc, "The database")
        subnet_group = self._subnet_group()
        logs = encrypted_log_group(
            self,
            "Logs",
            name=f"/aws/rds/cluster/{self._name}/postgresql",
            config=context.config,
            key=context.key,
        )
        self.cluster = self._cluster(secret, subnet_group)
        # Otherwise RDS creates the log group itself, without encryption and retention period.
        self.cluster.node.add_dependency(logs)
        tag_key, tag_value = BACKUP_TAG
        Tags.of(self.cluster).add(tag_key, tag_value, include_resource_types=["AWS::RDS::DBCluster"])

    def _cluster(self, secret: secretsmanager.ISecret, subnet_group: rds.ISubnetGroup) -> rds.DatabaseCluster:
        aurora, pause = self._aurora, self._aurora.auto_pause_seconds
        retention = Duration.days(aurora.backup_retention_days)
        return rds.DatabaseCluster(
            self,
            "Cluster",
            cluster_identifier=self._name,
            engine=self._engine,
            default_database_name=aurora.database_name,
            credentials=rds.Credentials.from_secret(secret),
            iam_authentication=aurora.uses_iam or None,
            serverless_v2_min_capacity=aurora.min_capacity,
            serverless_v2_max_capacity=aurora.max_capacity,
            serverless_v2_auto_pause_duration=None if pause is None else Duration.seconds(pause),
            writer=self._instance("Writer", f"{self._name}-writer", scale_with_writer=None),
            readers=self._readers(),
            vpc=self._context.network.vpc,
            subnet_group=subnet_group,
            security_groups=[self.security_group],
            storage_encrypted=True,
            storage_encryption_key=self._context.key,
            parameter_group=self._parameter_group(),
            backup=rds.BackupProps(retention=retention, preferred_window=_BACKUP_WINDOW),
            preferred_maintenance_window=_MAINTENANCE_WINDOW,
            copy_tags_to_snapshot=True,
            engine_lifecycle_support=_LIFECYCLES[aurora.extended_support],
            deletion_protection=aurora.deletion_protection,
            removal_policy=_REMOVAL_POLICIES[aurora.removal],
            delete_automated_backups=aurora.removal == "destroy",
            cloudwatch_logs_exports=["postgresql"],
        )

    def _readers(self) -> list[rds.IClusterInstance]:
        return [
            # The first reader takes over if the writer fails, so its capacity follows the writer's.
            self._instance(f"Reader{number}", f"{self._name}-reader-{number}", scale_with_writer=number == 1)
            for number in range(1, self._aurora.readers + 1)
        ]

    def _instance(self, construct_id: str, name: str, *, scale_with_writer: bool | None) -> rds.IClusterInstance:
        insights = self._aurora.performance_insights
        return rds.ClusterInstance.serverless_v2(
            construct_id,
            instance_identifier=name,
            scale_with_writer=scale_with_writer,
            publicly_accessible=False,
            preferred_maintenance_window=_MAINTENANCE_WINDOW,
            ca_certificate=rds.CaCertificate.RDS_CA_RSA2048_G1,
            # The environment file defines the version; AWS must not change it between two deployments.
            auto_minor_version_upgrade=False,
            enable_performance_insights=insights or None,
            performance_insight_encryption_key=self._context.key if insights else None,
            performance_insight_retention=rds.PerformanceInsightRetention.DEFAULT if insights else None,
        )

    def _subnet_group(self) -> rds.ISubnetGroup:
        group = rds.CfnDBSubnetGroup(
            self,
            "Subnets",
            db_subnet_group_name=self._name,
            db_subnet_group_description=f"Subnets of {self._name}",
            subnet_ids=[subnet.subnet_id for subnet in self._context.network.database_subnets],
        )
        return rds.SubnetGroup.from_subnet_group_name(self, "SubnetGroup", group.ref)

    def _parameter_group(self) -> rds.ParameterGroup:
        major_version = self._aurora.major_version
        return rds.ParameterGroup(
            self,
            "Parameters",
            # The name contains the major version, because the family of a group cannot change and names are unique.
            name=f"{self._name}-{major_version}",
            engine=self._engine,
            description=f"{self._name}, PostgreSQL {major_version}",
            parameters=_parameters(self._aurora),
        )


def _parameters(aurora: AuroraConfig) -> dict[str, str]:
    return {
        "rds.force_ssl": "1" if aurora.force_ssl else "0",
        "log_min_duration_statement": str(aurora.slow_query_ms),
        # The log must contain neither the values of statements nor the row that violates a constraint.
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        # Who logged in, when and from where; infra/README.md describes why statements are not recorded.
        # Since PostgreSQL 18 the value is a list of stages, and RDS does not accept the former boolean.
        "log_connections": "all" if int(aurora.major_version) >= _FIRST_MAJOR_VERSION_WITH_LOGIN_STAGES else "1",
        "log_disconnections": "1",
        # Required by Datadog's Database Monitoring:
        # https://docs.datadoghq.com/database_monitoring/setup_postgres/aurora/
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.max": "10000",
        "pg_stat_statements.track": "ALL",
        # The monitoring login can read the statements, and those with a password are utility statements.
        "pg_stat_statements.track_utility": "0",
        "track_activity_query_size": "4096",
        "track_io_timing": "1",
    }
