"""The cluster: Aurora Serverless v2 for PostgreSQL."""

from aws_cdk import Duration, RemovalPolicy, Tags
from aws_cdk import aws_kms as kms
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.config import BACKUP_TAG, AuroraConfig, EnvironmentConfig
from registration_infra.constructs.logs import encrypted_log_group
from registration_infra.constructs.network import Network, closed_security_group

_REMOVAL = {"snapshot": RemovalPolicy.SNAPSHOT, "destroy": RemovalPolicy.DESTROY}
# UTC; the backup first, so that it is over when maintenance begins.
_BACKUP_WINDOW = "02:00-02:30"
_MAINTENANCE_WINDOW = "sun:03:00-sun:04:00"


class Aurora(Construct):
    """A private, encrypted cluster with a writer, and readers where they are asked for.

    It has names of its own choosing, so that a restored cluster can take its place under the same endpoint.

    Attributes:
        cluster: The cluster.
        security_group: Its group, closed until somebody is let in.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: EnvironmentConfig,
        network: Network,
        key: kms.IKey,
        secret: secretsmanager.ISecret,
    ) -> None:
        super().__init__(scope, construct_id)
        assert config.aurora is not None
        aurora = config.aurora
        engine = rds.DatabaseClusterEngine.aurora_postgres(
            version=rds.AuroraPostgresEngineVersion.of(aurora.engine_version, aurora.major_version)
        )
        self.security_group = closed_security_group(self, "SecurityGroup", network.vpc, "The database")
        subnets = rds.CfnDBSubnetGroup(
            self,
            "Subnets",
            db_subnet_group_name=config.prefix,
            db_subnet_group_description=f"Where {config.prefix} is",
            subnet_ids=[subnet.subnet_id for subnet in network.database_subnets],
        )
        logs = encrypted_log_group(
            self, "Logs", name=f"/aws/rds/cluster/{config.prefix}/postgresql", config=config, key=key
        )
        self.cluster = rds.DatabaseCluster(
            self,
            "Cluster",
            cluster_identifier=config.prefix,
            engine=engine,
            default_database_name=aurora.database_name,
            credentials=rds.Credentials.from_secret(secret),
            serverless_v2_min_capacity=aurora.min_capacity,
            serverless_v2_max_capacity=aurora.max_capacity,
            serverless_v2_auto_pause_duration=(
                None if aurora.auto_pause_seconds is None else Duration.seconds(aurora.auto_pause_seconds)
            ),
            writer=self._instance("Writer", f"{config.prefix}-writer", aurora, key, scale_with_writer=None),
            readers=[
                # The first follows the writer's capacity, for it is the one that takes over.
                self._instance(
                    f"Reader{number}", f"{config.prefix}-reader-{number}", aurora, key, scale_with_writer=number == 1
                )
                for number in range(1, aurora.readers + 1)
            ],
            vpc=network.vpc,
            subnet_group=rds.SubnetGroup.from_subnet_group_name(self, "SubnetGroup", subnets.ref),
            security_groups=[self.security_group],
            storage_encrypted=True,
            storage_encryption_key=key,
            parameter_group=rds.ParameterGroup(
                self,
                "Parameters",
                # With the major version, because a group's family cannot change and two cannot have one name.
                name=f"{config.prefix}-{aurora.major_version}",
                engine=engine,
                description=f"{config.prefix}, PostgreSQL {aurora.major_version}",
                parameters=_parameters(aurora),
            ),
            backup=rds.BackupProps(
                retention=Duration.days(aurora.backup_retention_days), preferred_window=_BACKUP_WINDOW
            ),
            preferred_maintenance_window=_MAINTENANCE_WINDOW,
            copy_tags_to_snapshot=True,
            deletion_protection=aurora.deletion_protection,
            removal_policy=_REMOVAL[aurora.removal],
            delete_automated_backups=aurora.removal == "destroy",
            cloudwatch_logs_exports=["postgresql"],
        )
        self.cluster.node.add_dependency(logs)  # or RDS makes the group itself, without key and end
        key_of_tag, value = BACKUP_TAG
        Tags.of(self.cluster).add(key_of_tag, value, include_resource_types=["AWS::RDS::DBCluster"])

    def _instance(
        self, construct_id: str, name: str, aurora: AuroraConfig, key: kms.IKey, *, scale_with_writer: bool | None
    ) -> rds.IClusterInstance:
        insights = aurora.performance_insights
        return rds.ClusterInstance.serverless_v2(
            construct_id,
            instance_identifier=name,
            scale_with_writer=scale_with_writer,
            publicly_accessible=False,
            preferred_maintenance_window=_MAINTENANCE_WINDOW,
            ca_certificate=rds.CaCertificate.RDS_CA_RSA2048_G1,
            # The version is the file's, so that no deployment meets another one than it names.
            auto_minor_version_upgrade=False,
            enable_performance_insights=insights or None,
            performance_insight_encryption_key=key if insights else None,
            performance_insight_retention=rds.PerformanceInsightRetention.DEFAULT if insights else None,
        )


def _parameters(aurora: AuroraConfig) -> dict[str, str]:
    return {
        "rds.force_ssl": "1" if aurora.force_ssl else "0",
        "log_min_duration_statement": str(aurora.slow_query_ms),
        # What is logged must not hold what people typed, nor the row that broke a constraint.
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        # What Datadog's Database Monitoring asks for:
        # https://docs.datadoghq.com/database_monitoring/setup_postgres/aurora/
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.max": "10000",
        "pg_stat_statements.track": "ALL",
        "track_activity_query_size": "4096",
        "track_io_timing": "1",
    }
