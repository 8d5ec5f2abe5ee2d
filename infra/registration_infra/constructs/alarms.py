"""The alarm topic, and its sources: CloudWatch alarms, RDS events and failed rotations."""

from collections.abc import Iterator
from dataclasses import dataclass

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from registration_infra.config import AuroraConfig
from registration_infra.constructs.context import DatabaseContext
from registration_infra.constructs.key import key_use
from registration_infra.constructs.principals import service_in_this_account

# PostgreSQL rejects writes about 3 million transactions before 2^31 and warns 40 million before. Vacuum works against
# it from 200 million on. Half of 2^31 leaves time to act: https://www.postgresql.org/docs/current/routine-vacuuming.html
_MAX_TRANSACTION_ID_AGE = 1_000_000_000
_MIN_FREE_MEMORY_MIB = 128
_MAX_SHARE_OF_CONNECTIONS = 0.8
_BUSY_PERCENT = 90
_MAX_REPLICA_LAG_MS = 1000
_PERIOD = Duration.minutes(5)
# As long as a migration can run.
_MIGRATION_PERIOD = Duration.minutes(15)
_CLUSTER_EVENTS = ["deletion", "failover", "failure", "maintenance", "notification"]
_INSTANCE_EVENTS = [
    *("availability", "configuration change", "failure", "low storage"),
    *("maintenance", "notification", "recovery"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alarm:
    """An alarm on a metric.

    Attributes:
        name: The construct id, and the end of the alarm's name.
        metric: The metric.
        threshold: The alarm is raised if the metric is above it, or below it if *below* is set.
        description: The end of a sentence that begins with "The database NAME".
        runbook: The page to read, in `docs/runbooks` and without `.md`.
        periods: The number of consecutive periods that must breach the threshold.
        below: Whether the threshold is a minimum.
    """

    name: str
    metric: cloudwatch.Metric
    threshold: float
    description: str
    runbook: str
    periods: int = 1
    below: bool = False


class Alarms(Construct):
    """An SNS topic, and everything that publishes to it.

    Attributes:
        topic: The topic; encrypted with the key of the database, requires TLS.
        publisher: The role with which EventBridge publishes to the topic.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        context: DatabaseContext,
        cluster: rds.DatabaseCluster,
        secrets: list[secretsmanager.ISecret],
        migrate: lambda_.IFunction,
    ) -> None:
        super().__init__(scope, construct_id)
        self._name = f"{context.config.prefix}-database"
        self.topic = self._topic(context)
        self.publisher = self._role_of_rule(context)
        for alarm in _alarms(context.aurora, cluster, migrate):
            what = f"The database {context.config.prefix} {alarm.description}"
            self._add(alarm, f"{what}: read docs/runbooks/{alarm.runbook}.md")
        self._add_rds_events("db-cluster", [cluster.cluster_identifier], _CLUSTER_EVENTS)
        self._add_rds_events("db-instance", cluster.instance_identifiers, _INSTANCE_EVENTS)
        self._add_failed_rotations(secrets)

    def _topic(self, context: DatabaseContext) -> sns.Topic:
        topic = sns.Topic(self, "Topic", topic_name=self._name, master_key=context.key, enforce_ssl=True)
        for service in ("cloudwatch.amazonaws.com", "events.rds.amazonaws.com"):
            topic.grant_publish(service_in_this_account(service))
        if context.config.alarms.email:
            topic.add_subscription(subscriptions.EmailSubscription(context.config.alarms.email))
        return topic

    def _add(self, alarm: _Alarm, description: str) -> None:
        comparison = cloudwatch.ComparisonOperator
        created = cloudwatch.Alarm(
            self,
            alarm.name,
            alarm_name=f"{self._name}-{alarm.name}",
            alarm_description=description,
            metric=alarm.metric,
            threshold=alarm.threshold,
            evaluation_periods=alarm.periods,
            comparison_operator=comparison.LESS_THAN_THRESHOLD if alarm.below else comparison.GREATER_THAN_THRESHOLD,
            # A paused or restarting instance reports no data, nor does a migration that is not running.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        action = actions.SnsAction(self.topic)
        created.add_alarm_action(action)
        created.add_ok_action(action)

    def _add_rds_events(self, source_type: str, source_ids: list[str], categories: list[str]) -> None:
        rds.CfnEventSubscription(
            self,
            f"Events-{source_type}",
            sns_topic_arn=self.topic.topic_arn,
            source_type=source_type,
            enabled=True,
            source_ids=source_ids,
            event_categories=categories,
        )

    def _add_failed_rotations(self, secrets: list[secretsmanager.ISecret]) -> None:
        rule = events.Rule(
            self,
            "FailedRotation",
            description="A rotation failed, as CloudTrail reports: read docs/runbooks/rotate-at-once.md",
            event_pattern=events.EventPattern(
                source=["aws.secretsmanager"],
                detail_type=["AWS Service Event via CloudTrail"],
                detail={
                    "eventName": ["RotationFailed", "TestRotationFailed"],
                    "additionalEventData": {"SecretId": [secret.secret_arn for secret in secrets]},
                },
            ),
        )
        # With a role of this account, because the topic and the key cannot limit EventBridge itself to an account.
        rule.add_target(targets.SnsTopic(self.topic, role=self.publisher))

    def _role_of_rule(self, context: DatabaseContext) -> iam.IRole:
        principal = service_in_this_account("events.amazonaws.com")
        role = iam.Role(self, "FailedRotationRole", assumed_by=principal, description="EventBridge to the topic")
        role.add_to_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=[self.topic.topic_arn]))
        role.add_to_policy(key_use(context.key.key_arn, ["kms:Decrypt", "kms:GenerateDataKey"], service="sns"))
        return role.without_policy_updates()


def _alarms(aurora: AuroraConfig, cluster: rds.DatabaseCluster, migrate: lambda_.IFunction) -> Iterator[_Alarm]:
    # The statistic of the load alarms is the maximum, because idle readers lower the average.
    # A capacity that can hardly change is always near its maximum.
    if aurora.min_capacity * 100 <= aurora.max_capacity * _BUSY_PERCENT:
        yield _Alarm(
            name="Capacity",
            metric=cluster.metric_acu_utilization(period=_PERIOD, statistic="Maximum"),
            threshold=_BUSY_PERCENT,
            description="is near its maximum capacity",
            runbook="raise-capacity",
            periods=3,
        )
    yield from _load_alarms(aurora, cluster)
    yield from _health_alarms(aurora, cluster)
    yield _Alarm(
        name="Migration",
        metric=migrate.metric_errors(period=_MIGRATION_PERIOD, statistic="Sum"),
        threshold=0,
        description="was not migrated: the migration function failed",
        runbook="repair-a-failed-migration",
    )


def _load_alarms(aurora: AuroraConfig, cluster: rds.DatabaseCluster) -> Iterator[_Alarm]:
    yield _Alarm(
        name="Cpu",
        metric=cluster.metric_cpu_utilization(period=_PERIOD, statistic="Maximum"),
        threshold=_BUSY_PERCENT,
        description=f"uses more than {_BUSY_PERCENT} % of its CPU",
        runbook="find-an-expensive-statement",
        periods=3,
    )
    connections = int(aurora.max_connections * _MAX_SHARE_OF_CONNECTIONS)
    yield _Alarm(
        name="Connections",
        metric=cluster.metric_database_connections(period=_PERIOD, statistic="Maximum"),
        threshold=connections,
        description=f"has more than {connections} of {aurora.max_connections} connections",
        runbook="raise-capacity",
    )
    yield _Alarm(
        name="Memory",
        metric=cluster.metric_freeable_memory(period=_PERIOD, statistic="Minimum"),
        threshold=_MIN_FREE_MEMORY_MIB * 1024 * 1024,
        description=f"has less than {_MIN_FREE_MEMORY_MIB} MiB of memory left",
        runbook="raise-capacity",
        periods=3,
        below=True,
    )


def _health_alarms(aurora: AuroraConfig, cluster: rds.DatabaseCluster) -> Iterator[_Alarm]:
    yield _Alarm(
        name="Deadlocks",
        metric=cluster.metric_deadlocks(period=_PERIOD, statistic="Sum"),
        threshold=0,
        description="had a deadlock",
        runbook="resolve-deadlocks",
    )
    yield _Alarm(
        name="TransactionIds",
        metric=cluster.metric("MaximumUsedTransactionIDs", period=_PERIOD, statistic="Maximum"),
        threshold=_MAX_TRANSACTION_ID_AGE,
        description="does not vacuum fast enough",
        runbook="freeze-transaction-ids",
    )
    if aurora.readers:
        yield _Alarm(
            name="ReplicaLag",
            metric=cluster.metric("AuroraReplicaLagMaximum", period=_PERIOD, statistic="Maximum"),
            threshold=_MAX_REPLICA_LAG_MS,
            description="has a reader that lags behind",
            runbook="raise-capacity",
            periods=3,
        )
