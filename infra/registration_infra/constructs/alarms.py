"""Who is told what: alarms, events of RDS and failed rotations, all to one encrypted topic."""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from registration_infra.config import EnvironmentConfig

# PostgreSQL refuses writes some three million transactions before 2^31, and warns 40 million before; vacuum starts to
# work against it at 200 million. Half way there is time to look: https://www.postgresql.org/docs/current/routine-vacuuming.html
_OLD_TRANSACTIONS = 1_000_000_000
_FREE_MEMORY_MIB = 128
_SHARE_OF_CONNECTIONS = 0.8
_BUSY_PERCENT = 90
_LAG_MILLISECONDS = 1000


class Alarms(Construct):
    """A topic, and what is sent to it.

    Attributes:
        topic: Encrypted with the database's key; takes messages over TLS alone.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: EnvironmentConfig,
        key: kms.IKey,
        cluster: rds.DatabaseCluster,
        secrets: list[secretsmanager.ISecret],
        migrate: lambda_.IFunction,
    ) -> None:
        super().__init__(scope, construct_id)
        assert config.aurora is not None
        self._prefix = config.prefix
        self.topic = sns.Topic(self, "Topic", topic_name=f"{config.prefix}-database", master_key=key, enforce_ssl=True)
        for service in ("cloudwatch.amazonaws.com", "events.rds.amazonaws.com"):
            self.topic.grant_publish(iam.ServicePrincipal(service))
        if config.alarms.email:
            self.topic.add_subscription(subscriptions.EmailSubscription(config.alarms.email))
        connections = int(config.aurora.max_connections * _SHARE_OF_CONNECTIONS)
        five, fifteen = Duration.minutes(5), Duration.minutes(15)
        # The maximum, for with readers that idle the average says nothing of the writer.
        # A capacity that stays near its maximum would always be at it.
        if config.aurora.min_capacity * 100 <= config.aurora.max_capacity * _BUSY_PERCENT:
            self._alarm(
                "Capacity",
                cluster.metric_acu_utilization(period=five, statistic="Maximum"),
                _BUSY_PERCENT,
                "is at its maximum",
                times=3,
            )
        self._alarm(
            "Cpu",
            cluster.metric_cpu_utilization(period=five, statistic="Maximum"),
            _BUSY_PERCENT,
            "computes all the time",
            times=3,
        )
        self._alarm(
            "Connections",
            cluster.metric_database_connections(period=five, statistic="Maximum"),
            connections,
            f"has {connections} of {config.aurora.max_connections} connections",
        )
        self._alarm(
            "Memory",
            cluster.metric_freeable_memory(period=five, statistic="Minimum"),
            _FREE_MEMORY_MIB * 1024 * 1024,
            f"has less than {_FREE_MEMORY_MIB} MiB of memory left",
            times=3,
            below=True,
        )
        self._alarm("Deadlocks", cluster.metric_deadlocks(period=five, statistic="Sum"), 0, "had a deadlock")
        self._alarm(
            "TransactionIds",
            cluster.metric("MaximumUsedTransactionIDs", period=five, statistic="Maximum"),
            _OLD_TRANSACTIONS,
            "does not vacuum fast enough",
        )
        if config.aurora.readers:
            self._alarm(
                "ReplicaLag",
                cluster.metric("AuroraReplicaLagMaximum", period=five, statistic="Maximum"),
                _LAG_MILLISECONDS,
                "has a reader that is late",
                times=3,
            )
        self._alarm("Migration", migrate.metric_errors(period=fifteen, statistic="Sum"), 0, "was not migrated")
        self._events_of_rds(cluster)
        self._failed_rotations(secrets)

    def _alarm(
        self, name: str, metric: cloudwatch.Metric, threshold: float, what: str, *, times: int = 1, below: bool = False
    ) -> None:
        comparison = cloudwatch.ComparisonOperator
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._prefix}-database-{name}",
            alarm_description=f"The database {self._prefix} {what}",
            metric=metric,
            threshold=threshold,
            evaluation_periods=times,
            comparison_operator=(comparison.LESS_THAN_THRESHOLD if below else comparison.GREATER_THAN_THRESHOLD),
            # A paused or restarting instance reports nothing, and a migration that does not run does not fail.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        action = actions.SnsAction(self.topic)
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)

    def _events_of_rds(self, cluster: rds.DatabaseCluster) -> None:
        for kind, identifiers, categories in (
            ("db-cluster", [cluster.cluster_identifier], ["failover", "failure", "maintenance", "notification"]),
            (
                "db-instance",
                cluster.instance_identifiers,
                ["availability", "failure", "low storage", "maintenance", "notification", "recovery"],
            ),
        ):
            rds.CfnEventSubscription(
                self,
                f"Events-{kind}",
                sns_topic_arn=self.topic.topic_arn,
                source_type=kind,
                source_ids=identifiers,
                event_categories=categories,
            )

    def _failed_rotations(self, secrets: list[secretsmanager.ISecret]) -> None:
        rule = events.Rule(
            self,
            "FailedRotation",
            description="The rotation of a secret of the database failed; needs a trail of CloudTrail",
            event_pattern=events.EventPattern(
                source=["aws.secretsmanager"],
                detail_type=["AWS Service Event via CloudTrail"],
                detail={
                    "eventName": ["RotationFailed", "TestRotationFailed"],
                    "additionalEventData": {"SecretId": [secret.secret_arn for secret in secrets]},
                },
            ),
        )
        rule.add_target(targets.SnsTopic(self.topic))
